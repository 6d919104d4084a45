"""The interactive jobs that a worker takes: capacity, duplicates, acks, draining.

A state machine without I/O, the mirror of :mod:`txmicro.sending.outbox`. A copy of a job is *held* until a slot is
free, *runs*, and has *finished*. Another copy of a finished job gets the same answer (:mod:`.answers`), and is not run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed

from txmicro.protocol.delivery import Delivery
from txmicro.protocol.job import Job
from txmicro.util.clock import Clock
from txmicro.util.waiters import Waiters

from .answers import Answers, Reply
from .batching import DeliveryBatch
from .slots import Slots

_SHARE: Final = 8
"""The part of the capacity (one eighth) that may wait to be acknowledged: the broker sends as many fewer jobs."""


class Starter(Protocol):
    """Runs jobs: the :class:`~txmicro.receiving.runner.Runner`."""

    def start(self, job: Job) -> None:
        """Run *job*. :meth:`Intake.finished` must follow, also from within this call."""


class Acker(Protocol):
    """Answers the senders of copies: the :class:`~txmicro.runtime.control_sender.ControlSender`."""

    def ack(self, job: Job) -> None:
        """Tell the job's sender that this worker has the job."""

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


class Intake:
    """The interactive jobs that one worker takes.

    :param slots: counts the jobs of both lanes; copies for which no slot is free are held, in order.
    :param answers: remembers how the jobs ended.
    :param hold: seconds after which a held copy is dropped unrun: its sender sends another.
    """

    def __init__(
        self,
        clock: Clock,
        slots: Slots,
        runner: Starter,
        acker: Acker,
        answers: Answers,
        *,
        hold: float = 1.8,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._runner = runner
        self._acker = acker
        self._answers = answers
        self._hold = hold
        self._held: OrderedDict[str, _Copy] = OrderedDict()
        self._running: dict[str, _Copy] = {}
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

    # Deliveries of the broker:

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
            self._acker.ack(job)
        elif job.key in self._answers:
            delivery.ack()
            self._acker.ack(job)
            self._answers.repeat(job)
        elif job.key in self._held or job.deadline <= now:
            delivery.ack()
        elif job.redelivered:
            # It may run elsewhere, or may have ended the worker that ran it: its sender decides.
            delivery.ack()
            self._acker.refuse(job, False)
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

    # Calls of the worker:

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

        It is called a second time for a job that was forwarded and failed on its way: *reply* is then the answer. That
        may come first, from within the forwarding.
        """
        copy = self._running.pop(key, None)
        if copy is None:
            self._answers.amend(key, reply)
            return
        self._slots.running -= 1
        self._ended.add(copy.delivery)
        self._answers.remember(copy.job, reply, copy.sender)
        if self._held:
            self.start_held()
        if self._draining and not self._running:
            self._ended.flush()
            self._drained.fire()

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
        """Acknowledge what waits, and cancel the timer."""
        self._ended.stop()

    # Requests of the senders:

    def probed(self, worker: str, keys: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
        """Return which of these jobs, which *worker* sent, are here; answer again those that are finished.

        Return three parts: the keys of jobs that run or are held; the keys of jobs that were forwarded, with the
        addresses of their next hops; and the keys that are unknown here.
        """
        running: list[str] = []
        forwarded: dict[str, str] = {}
        unknown: list[str] = []
        for key in keys:
            if key in self._running or key in self._held:
                running.append(key)
            elif key not in self._answers:
                unknown.append(key)
            elif (address := self._answers.probe(key, worker)) is not None:
                forwarded[key] = address
        return running, forwarded, unknown

    def cancelled(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Drop the held ones of these jobs: nobody awaits them any more.

        Return the keys of jobs that run, and of those that were forwarded; the caller cancels these.
        """
        running: list[str] = []
        forwarded: list[str] = []
        for key in keys:
            if key in self._running:
                running.append(key)
            elif key in self._held:
                self._held.pop(key).delivery.ack()
            elif self._answers.is_forwarded(key):
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
        self._acker.ack(job)
        self._runner.start(job)

    def _give_back(self, job: Job, delivery: Delivery) -> None:
        """Return a copy to the broker, or, if it must not run twice, to its sender.

        The next worker would have to assume that a copy that the broker delivers again has run.
        """
        if job.redeliver:
            delivery.requeue()
        else:
            delivery.ack()
            self._acker.refuse(job, True)
