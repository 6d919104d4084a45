"""Jobs I took: capacity, duplicates, acks, draining.

A state machine without I/O, the mirror of :mod:`txmicro.sending.outbox`. A copy of a job arrives; it is *held*
until there is room, *runs*, and has *finished*. What was finished is remembered, so that another copy of it
gets the same answer instead of being run again, and so that an answer that was lost can be given again: who sent
the hop watches over it until the job's origin has *heard*.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred, succeed

from txmicro.protocol.job import Job
from txmicro.util.clock import Clock, Timer

from .delivery_batch import DeliveryBatch

FORWARDED: Final = "forwarded"

_SAY_AGAIN_EVERY: Final = 1.0
_SHARE: Final = 8  # of the capacity: what is done and not settled keeps the broker from sending more


class Reply(NamedTuple):
    """How a job ended here.

    :ivar to: the worker that was answered; for a job that was forwarded, the address of its next hop.
    :ivar type: the message's type, ``messages.RESULT`` or ``messages.FAILURE``, or :data:`FORWARDED`.
    :ivar body: the encoded answer; empty when forwarded.
    """

    to: str
    type: str
    body: bytes = b""


@dataclass(slots=True)
class Copy:
    """A copy of a job, as the broker delivered it.

    :ivar settle: called once: True acknowledges the delivery to the broker, False gives it back.
    :ivar arrived: the instant at which it came, in the clock's seconds; the intake sets it.
    :ivar sender: who sent the latest copy; the intake sets it.
    """

    job: Job
    settle: Callable[[bool], None]
    arrived: float = 0.0
    sender: str = ""


@dataclass(slots=True)
class _Finished:
    sender: str
    deadline: float
    reply: Reply
    watched: bool
    heard: bool = False


def _settle_nothing(_: bool) -> None:
    """Stand in for the settling of a delivery whose channel is gone."""


class Intake:
    """The jobs that one worker takes.

    :param clock: gives the time, and the one timer for answers that must be said again.
    :param start: runs a job; :meth:`finished` must follow, also from within the call.
    :param ack: tells the job's sender that the job is here.
    :param answer: says (again) to the job's origin how the job of this key ended.
    :param free: tells the hop's sender, a worker id, that the origin has heard how the job of this key ended.
    :param refuse: tells the job's sender that a copy of it was not run here; and (True) that it did not run
        elsewhere either, or that it may have.
    :param capacity: how many jobs run at once; copies beyond are held, in order.
    :param hold: seconds after which a held copy is dropped unrun: its sender sends another.
    :param others: how many jobs run in this worker besides, and take of its capacity.
    :param memory_jobs: how many finished jobs are remembered.
    :param memory_bytes: how many bytes of answers are remembered.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        start: Callable[[Job], None],
        ack: Callable[[Job], None],
        answer: Callable[[str, Reply], None],
        free: Callable[[str, str], None],
        refuse: Callable[[Job, bool], None],
        capacity: int = 100,
        hold: float = 1.8,
        others: Callable[[], int] = lambda: 0,
        memory_jobs: int = 10_000,
        memory_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._clock = clock
        self._start = start
        self._ack = ack
        self._answer = answer
        self._free = free
        self._refuse = refuse
        self._capacity = capacity
        self._hold = hold
        self._others = others
        self._memory_jobs = memory_jobs
        self._memory_bytes = memory_bytes

        self._held: OrderedDict[str, Copy] = OrderedDict()
        self._running: dict[str, Copy] = {}
        self._finished: OrderedDict[str, _Finished] = OrderedDict()
        self._finished_bytes = 0
        self._unheard: dict[str, None] = {}  # in order, as a set is not
        self._timer: Timer | None = None
        self._settling = DeliveryBatch(clock, capacity // _SHARE)
        self._starting = False
        self._paused = False
        self._draining = False
        self._drained: list[Deferred[None]] = []

    @property
    def paused(self) -> bool:
        """Whether nothing is started."""
        return self._paused

    def __len__(self) -> int:
        """How many jobs run."""
        return len(self._running)

    @property
    def held(self) -> int:
        """How many jobs were delivered and wait for room."""
        return len(self._held)

    # What the broker brings:

    def arrived(self, copy: Copy) -> None:
        """Take a copy: start it, hold it, or answer it as the duplicate that it is.

        It is settled in the moment after its handler ended; at once if it is a duplicate, too late, or not taken
        any more.
        """
        job = copy.job
        copy.arrived, copy.sender = self._clock.seconds(), job.sender
        running = self._running.get(job.key)
        if running is not None:
            copy.settle(True)
            running.sender = job.sender
            self._ack(job)
        elif job.key in self._finished:
            copy.settle(True)
            self._repeat(job)
        elif job.key in self._held or job.deadline <= copy.arrived:
            copy.settle(True)
        elif job.redelivered:  # it may run elsewhere, or have ended who ran it: its sender decides
            copy.settle(True)
            self._refuse(job, False)
        elif self._draining:
            self._give_back(copy)
        else:
            self._held[job.key] = copy
            self.start_held()

    def reset(self) -> None:
        """The channel is gone, and its deliveries with it: what runs goes on, what is held comes again."""
        self._settling.clear()
        self._held.clear()
        for copy in self._running.values():
            copy.settle = _settle_nothing

    def pause(self) -> None:
        """Start nothing until :meth:`resume`: the answers could not leave. What runs goes on."""
        self._paused = True

    def resume(self) -> None:
        """Start what is held, and what comes."""
        self._paused = False
        self.start_held()

    # What the worker does:

    def finished(self, key: str, reply: Reply) -> None:
        """The handler ended and *reply* has left: have the copy settled, remember the reply, start what is held.

        It may come again for a job that was forwarded, when that failed on its way: *reply* is now the answer.
        """
        copy = self._running.pop(key, None)
        if copy is None:
            self._amend(key, reply)
            return
        self._settling.add(copy.settle)
        self.remember(copy.job, reply, copy.sender)
        self.start_held()
        if self._draining and not self._running:
            self._settling.flush()
            waiting, self._drained = self._drained, []
            for waiter in waiting:
                waiter.callback(None)

    def remember(self, job: Job, reply: Reply, sender: str = "") -> None:
        """Keep what *job*, last sent by *sender*, was answered: to say it again to who asks, or when it came back."""
        watched = not job.durable and job.hop > 0
        before = self._finished.pop(job.key, None)
        if before is not None:  # a durable job, delivered to others and back
            self._finished_bytes -= len(before.reply.body)
        self._finished[job.key] = _Finished(sender or job.sender, job.deadline, reply, watched)
        self._count(reply)

    def _count(self, reply: Reply) -> None:
        self._finished_bytes += len(reply.body)
        while len(self._finished) > self._memory_jobs or self._finished_bytes > self._memory_bytes:
            key, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= len(oldest.reply.body)
            self._let_go(key, oldest)

    def heard(self, key: str) -> bool:
        """The job's origin knows how it ended, so the hop's sender is free of it; False: nothing is known of it."""
        finished = self._finished.get(key)
        if finished is None:
            return False
        finished.heard = True
        self._release(key, finished)
        return True

    def unanswered(self, key: str) -> None:
        """A reply came back: the inbox that it went to is not there now. Say it again within a second.

        Each time that it comes back counts anew, until the job's deadline or until the reply is forgotten.
        """
        finished = self._finished.get(key)
        if finished is None or finished.heard or finished.reply.type == FORWARDED:
            return
        self._unheard[key] = None
        if self._timer is None:
            self._timer = self._clock.callLater(_SAY_AGAIN_EVERY, self._say_again)

    def drain(self) -> Deferred[None]:
        """Take nothing more: what is held, and what arrives from now on, goes back to the broker.

        Each call gives a fresh Deferred, which fires with None when nothing runs, and does not fail.
        Cancelling it stops this wait and nothing else.
        """
        self._draining = True
        held, self._held = self._held, OrderedDict()
        for copy in held.values():
            self._give_back(copy)
        if not self._running:
            self._settling.flush()
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._drained.remove)
        self._drained.append(waiter)
        return waiter

    def close(self) -> None:
        """Forget what was finished, so that nothing is said again; who still watches over a hop is told."""
        self._settling.stop()
        for key, finished in self._finished.items():
            self._let_go(key, finished)
        self._finished.clear()
        self._finished_bytes = 0
        self._unheard.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the senders ask:

    def probed(self, worker: str, keys: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
        """Which of its jobs are here, asks *worker*; those that are finished are answered again.

        Gives the keys that run or are held, those that were forwarded with the address they went to, and
        those that are unknown here.
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
                self._say(key, finished)
        return running, forwarded, unknown

    def cancelled(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Nobody awaits these any more: drop what is held.

        Gives the keys that run, and those that were forwarded, to be cancelled.
        """
        running: list[str] = []
        forwarded: list[str] = []
        for key in keys:
            finished = self._finished.get(key)
            if key in self._running:
                running.append(key)
            elif key in self._held:
                self._held.pop(key).settle(True)
            elif finished is not None and finished.reply.type == FORWARDED:
                forwarded.append(key)
        return running, forwarded

    # How:

    def start_held(self) -> None:
        """Start what is held, while there is room."""
        if (
            self._starting or self._paused
        ):  # starting: a job finished while it was started, the loop below goes on
            return
        self._starting = True
        try:
            while self._held and len(self._running) + self._others() < self._capacity:
                _, copy = self._held.popitem(last=False)
                self._begin(copy)
        finally:
            self._starting = False

    def _begin(self, copy: Copy) -> None:
        now = self._clock.seconds()
        late = now - copy.arrived > self._hold and copy.job.redeliver  # else there is no other copy
        if late or copy.job.deadline <= now:
            copy.settle(True)
            return
        self._running[copy.job.key] = copy
        self._ack(copy.job)
        self._start(copy.job)

    def _give_back(self, copy: Copy) -> None:
        """To the broker; but a copy that must not run twice would look to the next worker as if it had run."""
        copy.settle(not copy.job.redeliver)
        if not copy.job.redeliver:
            self._refuse(copy.job, True)

    def _repeat(self, job: Job) -> None:
        finished = self._finished[job.key]
        finished.sender = job.sender
        self._ack(job)
        if finished.heard or finished.reply.type != FORWARDED:
            self._say(job.key, finished)

    def _say(self, key: str, finished: _Finished) -> None:
        if finished.heard:
            self._release(key, finished)
        else:
            self._answer(key, finished.reply)

    def _amend(self, key: str, reply: Reply) -> None:
        finished = self._finished.get(key)
        if finished is not None and finished.reply.type == FORWARDED:
            finished.reply = reply
            self._count(reply)

    def _let_go(self, key: str, finished: _Finished) -> None:
        """Its answer cannot be said again, so that watching over the hop would only run it again."""
        if (
            not finished.heard
            and finished.reply.type != FORWARDED
            and self._clock.seconds() < finished.deadline
        ):
            self._release(key, finished)

    def _release(self, key: str, finished: _Finished) -> None:
        if finished.watched:
            self._free(finished.sender, key)

    def _say_again(self) -> None:
        self._timer = None
        keys, self._unheard = self._unheard, {}
        for key in keys:
            finished = self._finished.get(key)
            if finished is not None and not finished.heard and self._clock.seconds() < finished.deadline:
                self._answer(key, finished.reply)
