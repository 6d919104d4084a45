"""The interactive jobs that a worker takes: capacity, duplicates, acks, draining.

A state machine without I/O, the mirror of :mod:`txmicro.sending.outbox`. A copy of a job is *held* until a slot is
free, *runs*, and has *finished*. Finished jobs are remembered for two reasons. Another copy of such a job gets the same
answer, and is not run. An answer that was lost is published again: the sender of the hop probes until the job's origin
has *heard* it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed

from txmicro.protocol.delivery import Delivery
from txmicro.protocol.job import Job
from txmicro.util.clock import Clock, Timer
from txmicro.util.waiters import Waiters

from .batching import DeliveryBatch
from .slots import Slots

FORWARDED: Final = "forwarded"

_REPEAT_EVERY: Final = 1.0
"""Seconds until an answer that came back is published again."""

_SHARE: Final = 8
"""The part of the capacity (one eighth) that may wait to be acknowledged: the broker sends as many fewer jobs."""


class Reply(NamedTuple):
    """How a job ended at this worker.

    :ivar to: the worker that was answered; for a job that was forwarded, the address of its next hop.
    :ivar type: the message's type, ``messages.RESULT`` or ``messages.FAILURE``, or :data:`FORWARDED`.
    :ivar body: the encoded answer; empty when forwarded.
    """

    to: str
    type: str
    body: bytes = b""


class Starter(Protocol):
    """Runs jobs: the :class:`~txmicro.receiving.runner.Runner`."""

    def start(self, job: Job) -> None:
        """Run *job*. :meth:`Intake.finished` must follow, also from within this call."""


class AnswerSender(Protocol):
    """Sends what the intake tells others: the :class:`~txmicro.runtime.control_sender.ControlSender`."""

    def ack(self, job: Job) -> None:
        """Tell the job's sender that this worker has the job."""

    def answer(self, key: str, reply: Reply) -> None:
        """Tell the job's origin (again) how the job of this key ended."""

    def release(self, sender: str, key: str) -> None:
        """Tell worker *sender*, which sent the hop of this key, that the origin knows how the job ended."""

    def refuse(self, job: Job, unrun: bool) -> None:
        """Tell the job's sender that a copy was not run here.

        *unrun*: it did not run anywhere else either; otherwise it may have.
        """


@dataclass(slots=True)
class _Copy:
    """A copy of a job that is held or runs.

    :ivar arrived: when it arrived, in the clock's seconds.
    :ivar sender: id of the worker that sent the latest copy.
    """

    job: Job
    delivery: Delivery
    arrived: float
    sender: str


@dataclass(slots=True)
class _Finished:
    sender: str
    deadline: float
    reply: Reply
    watched: bool
    heard: bool = False


class Intake:
    """The interactive jobs that one worker takes.

    :param clock: tells the time, and runs the one timer for answers that came back.
    :param slots: counts the jobs of both lanes; copies for which no slot is free are held, in order.
    :param hold: seconds after which a held copy is dropped unrun: its sender sends another.
    :param memory_jobs: how many finished jobs are remembered.
    :param memory_bytes: how many bytes of answers are remembered.
    """

    def __init__(
        self,
        clock: Clock,
        slots: Slots,
        runner: Starter,
        answers: AnswerSender,
        *,
        hold: float = 1.8,
        memory_jobs: int = 10_000,
        memory_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._runner = runner
        self._answers = answers
        self._hold = hold
        self._memory_jobs = memory_jobs
        self._memory_bytes = memory_bytes

        self._held: OrderedDict[str, _Copy] = OrderedDict()
        self._running: dict[str, _Copy] = {}
        self._finished: OrderedDict[str, _Finished] = OrderedDict()
        self._finished_bytes = 0
        self._unheard: dict[str, None] = {}  # in order, as a set is not
        self._timer: Timer | None = None
        self._ended = DeliveryBatch(clock, slots.capacity // _SHARE)
        self._starting = False
        self._draining = False
        self._drained = Waiters()

    def __len__(self) -> int:
        """Return how many jobs run."""
        return len(self._running)

    @property
    def held(self) -> int:
        """How many jobs were delivered and wait for a slot."""
        return len(self._held)

    # What the broker delivers:

    def arrived(self, job: Job, delivery: Delivery) -> None:
        """Take a copy of *job*: start it, hold it, or answer it as a duplicate.

        Its delivery is acknowledged shortly after its handler has ended; at once if it is a duplicate, too late, or
        not taken any more.
        """
        now = self._clock.seconds()
        running = self._running.get(job.key)
        if running is not None:
            delivery.ack()
            running.sender = job.sender
            self._answers.ack(job)
        elif job.key in self._finished:
            delivery.ack()
            self._repeat(job)
        elif job.key in self._held or job.deadline <= now:
            delivery.ack()
        elif (
            job.redelivered
        ):  # it may run elsewhere, or may have ended the worker that ran it: its sender decides
            delivery.ack()
            self._answers.refuse(job, False)
        elif self._draining:
            self._give_back(job, delivery)
        else:
            self._held[job.key] = _Copy(job, delivery, now, job.sender)
            self.start_held()

    def reset(self) -> None:
        """Forget what is held, and what waits to be acknowledged: the channel is closed.

        Running jobs go on. The broker delivers all of it again.
        """
        self._ended.clear()
        self._held.clear()

    # What the worker does:

    def start_held(self) -> None:
        """Start what is held, while a slot is free."""
        if self._starting:  # a job ended while it was started; the loop below goes on
            return
        self._starting = True
        try:
            while self._held and self._slots.free:
                _, copy = self._held.popitem(last=False)
                self._begin(copy)
        finally:
            self._starting = False

    def finished(self, key: str, reply: Reply) -> None:
        """Acknowledge the delivery of a job whose *reply* is published, remember the reply, and start what is held.

        It is called a second time for a job that was forwarded and failed on its way: *reply* is then the answer.
        """
        copy = self._running.pop(key, None)
        if copy is None:
            self._amend(key, reply)
            return
        self._slots.running -= 1
        self._ended.add(copy.delivery)
        self.remember(copy.job, reply, copy.sender)
        if self._held:
            self.start_held()
        if self._draining and not self._running:
            self._ended.flush()
            self._drained.fire()

    def remember(self, job: Job, reply: Reply, sender: str = "") -> None:
        """Keep the *reply* to *job*, so that it can be published again.

        :param sender: id of the worker that sent the latest copy; empty: the job's sender.
        """
        watched = not job.durable and job.hop > 0
        before = self._finished.pop(job.key, None)
        if before is not None:  # a durable job that was delivered to other workers in between
            self._finished_bytes -= len(before.reply.body)
        self._finished[job.key] = _Finished(sender or job.sender, job.deadline, reply, watched)
        self._finished_bytes += len(reply.body)
        if len(self._finished) > self._memory_jobs or self._finished_bytes > self._memory_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._finished) > self._memory_jobs or self._finished_bytes > self._memory_bytes:
            key, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= len(oldest.reply.body)
            self._forget(key, oldest)

    def heard(self, key: str) -> bool:
        """Note that the job's origin knows how the job ended, and release the hop's sender.

        Return whether the job was remembered.
        """
        finished = self._finished.get(key)
        if finished is None:
            return False
        finished.heard = True
        self._release(key, finished)
        return True

    def unanswered(self, key: str) -> None:
        """Publish an answer again within a second: it came back, because the origin's inbox does not exist now.

        This repeats until the job's deadline, or until the answer is forgotten.
        """
        finished = self._finished.get(key)
        if finished is None or finished.heard or finished.reply.type == FORWARDED:
            return
        self._unheard[key] = None
        if self._timer is None:
            self._timer = self._clock.callLater(_REPEAT_EVERY, self._answer_again)

    def drain(self) -> Deferred[None]:
        """Take nothing more: what is held, and what arrives from now on, is returned to the broker.

        Return a new Deferred, which fires with None when nothing runs, and does not fail. Canceling it stops this
        wait and nothing else.
        """
        self._draining = True
        held, self._held = self._held, OrderedDict()
        for copy in held.values():
            self._give_back(copy.job, copy.delivery)
        if not self._running:
            self._ended.flush()
            return succeed(None)
        return self._drained.wait()

    def close(self) -> None:
        """Forget all finished jobs: nothing is published again, and the senders that still probe are released."""
        self._ended.stop()
        for key, finished in self._finished.items():
            self._forget(key, finished)
        self._finished.clear()
        self._finished_bytes = 0
        self._unheard.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the senders ask:

    def probed(self, worker: str, keys: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
        """Return which of these jobs, which *worker* sent, are here; answer again those that are finished.

        Return three parts: the keys of jobs that run or are held; the keys of jobs that were forwarded, with the
        addresses of their next hops; and the keys that are unknown here.
        """
        running: list[str] = []
        forwarded: dict[str, str] = {}
        unknown: list[str] = []
        for key in keys:
            finished = self._finished.get(key)
            if key in self._running or key in self._held:
                running.append(key)
            elif finished is None:
                unknown.append(key)
            elif finished.reply.type == FORWARDED and not finished.heard:
                forwarded[key] = finished.reply.to
            else:
                finished.sender = worker
                self._answer(key, finished)
        return running, forwarded, unknown

    def cancelled(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Drop the held ones of these jobs: nobody awaits them any more.

        Return the keys of jobs that run, and of those that were forwarded; the caller cancels these.
        """
        running: list[str] = []
        forwarded: list[str] = []
        for key in keys:
            finished = self._finished.get(key)
            if key in self._running:
                running.append(key)
            elif key in self._held:
                self._held.pop(key).delivery.ack()
            elif finished is not None and finished.reply.type == FORWARDED:
                forwarded.append(key)
        return running, forwarded

    # How:

    def _begin(self, copy: _Copy) -> None:
        job = copy.job
        now = self._clock.seconds()
        late = now - copy.arrived > self._hold and job.redeliver  # else there is no other copy
        if late or job.deadline <= now:
            copy.delivery.ack()
            return
        self._running[job.key] = copy
        self._slots.running += 1
        self._answers.ack(job)
        self._runner.start(job)

    def _give_back(self, job: Job, delivery: Delivery) -> None:
        """Return a copy to the broker, or, if it must not run twice, to its sender.

        The next worker would have to assume that a copy that the broker delivers again has run.
        """
        if job.redeliver:
            delivery.requeue()
        else:
            delivery.ack()
            self._answers.refuse(job, True)

    def _repeat(self, job: Job) -> None:
        finished = self._finished[job.key]
        finished.sender = job.sender
        self._answers.ack(job)
        if finished.heard or finished.reply.type != FORWARDED:
            self._answer(job.key, finished)

    def _answer(self, key: str, finished: _Finished) -> None:
        if finished.heard:
            self._release(key, finished)
        else:
            self._answers.answer(key, finished.reply)

    def _amend(self, key: str, reply: Reply) -> None:
        finished = self._finished.get(key)
        if finished is not None and finished.reply.type == FORWARDED:
            finished.reply = reply
            self._finished_bytes += len(reply.body)
            self._forget_oldest()

    def _forget(self, key: str, finished: _Finished) -> None:
        """Release the hop's sender: the answer cannot be published again, so probes would have the job run again."""
        if (
            not finished.heard
            and finished.reply.type != FORWARDED
            and self._clock.seconds() < finished.deadline
        ):
            self._release(key, finished)

    def _release(self, key: str, finished: _Finished) -> None:
        if finished.watched:
            self._answers.release(finished.sender, key)

    def _answer_again(self) -> None:
        self._timer = None
        keys, self._unheard = self._unheard, {}
        for key in keys:
            finished = self._finished.get(key)
            if finished is not None and not finished.heard and self._clock.seconds() < finished.deadline:
                self._answers.answer(key, finished.reply)
