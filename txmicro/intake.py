"""Jobs I took: capacity, duplicates, acks, draining.

A state machine without I/O, the mirror of :mod:`txmicro.outbox`. A copy of a job arrives; it is *held*
until there is room, *runs*, and has *finished*. What was finished is remembered, so that another copy of it
gets the same answer instead of being run again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred, succeed

from .clock import Clock, Timer
from .messages import Job

FORWARDED: Final = "forwarded"

_SAY_AGAIN_EVERY: Final = 1.0


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
    """

    job: Job
    settle: Callable[[bool], None]
    arrived: float = 0.0


class _Finished(NamedTuple):
    sender: str
    deadline: float
    reply: Reply


def _settle_nothing(_: bool) -> None:
    """Stand in for the settling of a delivery whose channel is gone."""


class Intake:
    """The jobs that one worker takes.

    :param clock: gives the time, and the one timer for answers that must be said again.
    :param start: runs a job; :meth:`finished` must follow, also from within the call.
    :param ack: tells the job's sender that the job is here.
    :param answer: says (again) to the sender, a worker id, how the job of this key ended.
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
        answer: Callable[[str, str, Reply], None],
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
        self._starting = False
        self._draining = False
        self._drained: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many jobs run."""
        return len(self._running)

    # What the broker brings:

    def arrived(self, copy: Copy) -> None:
        """Take a copy: start it, hold it, or answer it as the duplicate that it is.

        It is settled when its handler ends; at once if it is a duplicate, too late, or not taken any more.
        """
        job = copy.job
        copy.arrived = self._clock.seconds()
        if job.key in self._running:
            copy.settle(True)
            self._ack(job)
        elif job.key in self._finished:
            copy.settle(True)
            self._repeat(job)
        elif job.key in self._held or job.deadline <= copy.arrived:
            copy.settle(True)
        elif self._draining:
            copy.settle(False)
        else:
            self._held[job.key] = copy
            self.start_held()

    def reset(self) -> None:
        """The channel is gone, and its deliveries with it: what runs goes on, what is held comes again."""
        self._held.clear()
        for copy in self._running.values():
            copy.settle = _settle_nothing

    # What the worker does:

    def finished(self, key: str, reply: Reply) -> None:
        """The handler ended and *reply* has left: settle the copy, remember the reply, start what is held.

        It may come again for a job that was forwarded, when that failed on its way: *reply* is now the answer.
        """
        copy = self._running.pop(key, None)
        if copy is None:
            self._amend(key, reply)
            return
        copy.settle(True)
        self.remember(copy.job, reply)
        self.start_held()
        if not self._running:
            waiting, self._drained = self._drained, []
            for waiter in waiting:
                waiter.callback(None)

    def remember(self, job: Job, reply: Reply) -> None:
        """Keep what *job* was answered, to say it again to who asks, or when it came back."""
        self._remember(job.key, _Finished(job.sender, job.deadline, reply))

    def _remember(self, key: str, finished: _Finished) -> None:
        self._finished[key] = finished
        self._finished_bytes += len(finished.reply.body)
        while len(self._finished) > self._memory_jobs or self._finished_bytes > self._memory_bytes:
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= len(oldest.reply.body)

    def unanswered(self, key: str) -> None:
        """A reply came back: the inbox that it went to is not there now. Say it again within a second.

        Each time that it comes back counts anew, until the job's deadline or until the reply is forgotten.
        """
        finished = self._finished.get(key)
        if finished is None or finished.reply.type == FORWARDED:
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
            copy.settle(False)
        if not self._running:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._drained.remove)
        self._drained.append(waiter)
        return waiter

    def close(self) -> None:
        """Forget what was finished, so that nothing is said again."""
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
            elif finished.reply.type == FORWARDED:
                forwarded[key] = finished.reply.to
            else:
                self._answer(worker, key, finished.reply)
        return running, forwarded, unknown

    def cancelled(self, keys: Iterable[str]) -> list[str]:
        """Nobody awaits these any more: drop what is held, and give the keys that run, to be cancelled."""
        running = []
        for key in keys:
            if key in self._running:
                running.append(key)
            elif key in self._held:
                self._held.pop(key).settle(True)
        return running

    # How:

    def start_held(self) -> None:
        """Start what is held, while there is room."""
        if self._starting:  # a job that finished while it was started: the loop below goes on
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
        if now - copy.arrived > self._hold or copy.job.deadline <= now:
            copy.settle(True)
            return
        self._running[copy.job.key] = copy
        self._ack(copy.job)
        self._start(copy.job)

    def _repeat(self, job: Job) -> None:
        reply = self._finished[job.key].reply
        if reply.type == FORWARDED:
            self._ack(job)
        else:
            self._answer(job.sender, job.key, reply)

    def _amend(self, key: str, reply: Reply) -> None:
        finished = self._finished.get(key)
        if finished is not None and finished.reply.type == FORWARDED:
            self._remember(key, finished._replace(reply=reply))

    def _say_again(self) -> None:
        self._timer = None
        keys, self._unheard = self._unheard, {}
        for key in keys:
            finished = self._finished.get(key)
            if finished is not None and self._clock.seconds() < finished.deadline:
                self._answer(finished.sender, key, finished.reply)
