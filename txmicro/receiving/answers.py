"""The answers that a worker remembers: to answer a job's duplicates, and to publish an answer again that was lost.

A state machine without I/O. The sender of a hop probes until the job's origin has *heard* the answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from txmicro.protocol.job import Job
from txmicro.protocol.outcomes import FORWARDED
from txmicro.util.clock import Clock, Timer

_REPEAT_EVERY: Final = 1.0
"""Seconds until an answer that came back is published again."""


class Reply(NamedTuple):
    """How a job ended at this worker.

    :ivar to: the worker that was answered; for a job that was forwarded, the address of its next hop.
    :ivar type: the message's type, ``messages.RESULT`` or ``messages.FAILURE``, or :data:`FORWARDED`.
    :ivar body: the encoded answer; empty when forwarded.
    """

    to: str
    type: str
    body: bytes = b""


class AnswerSender(Protocol):
    """Sends answers: the :class:`~txmicro.runtime.control_sender.ControlSender`."""

    def answer(self, key: str, reply: Reply) -> None:
        """Tell the job's origin (again) how the job of this key ended."""

    def release(self, sender: str, key: str) -> None:
        """Tell worker *sender*, which sent the hop of this key, that the origin knows how the job ended."""


@dataclass(slots=True)
class _Finished:
    """A job that has ended here.

    :ivar sender: id of the worker that sent the latest copy.
    :ivar watched: whether that worker probes until the origin has heard the answer.
    """

    sender: str
    deadline: float
    reply: Reply
    watched: bool
    heard: bool = False


class Answers:
    """The answers to the jobs of both lanes of one worker.

    :param clock: tells the time, and runs the one timer for answers that came back.
    :param memory_jobs: how many answers are remembered. :param memory_bytes: how many bytes of them.
    """

    def __init__(
        self,
        clock: Clock,
        sender: AnswerSender,
        *,
        memory_jobs: int = 10_000,
        memory_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._clock = clock
        self._sender = sender
        self._memory_jobs = memory_jobs
        self._memory_bytes = memory_bytes
        self._finished: OrderedDict[str, _Finished] = OrderedDict()
        self._bytes = 0
        self._unheard: dict[str, None] = {}  # in order, as a set is not
        self._timer: Timer | None = None

    def __contains__(self, key: str) -> bool:
        """Return whether the answer to the job of this key is remembered."""
        return key in self._finished

    def __len__(self) -> int:
        """Return how many answers are remembered."""
        return len(self._finished)

    def remember(self, job: Job, reply: Reply, sender: str = "") -> None:
        """Keep the *reply* to *job*, so that it can be published again.

        :param sender: id of the worker that sent the latest copy; empty: the job's sender.
        """
        watched = not job.durable and job.hop > 0
        before = self._finished.pop(job.key, None)
        if before is not None:  # a durable job that was delivered to other workers in between
            self._bytes -= len(before.reply.body)
        self._finished[job.key] = _Finished(sender or job.sender, job.deadline, reply, watched)
        self._bytes += len(reply.body)
        if len(self._finished) > self._memory_jobs or self._bytes > self._memory_bytes:
            self._forget_oldest()

    def amend(self, key: str, reply: Reply) -> None:
        """Replace the reply to a job that was forwarded and failed on its way; another job keeps its reply."""
        finished = self._finished.get(key)
        if finished is not None and finished.reply.type == FORWARDED:
            finished.reply = reply
            self._bytes += len(reply.body)
            self._forget_oldest()

    def repeat(self, job: Job) -> None:
        """Answer another copy of a job that is remembered, unless a later hop will do so."""
        finished = self._finished[job.key]
        finished.sender = job.sender
        if finished.heard or finished.reply.type != FORWARDED:
            self._answer(job.key, finished)

    def probe(self, key: str, worker: str) -> str | None:
        """Return the address to which a job that is remembered was forwarded, and where it may still be.

        If it is not, publish its answer again, and return None.

        :param worker: the worker that sent the job and probes.
        """
        finished = self._finished[key]
        if finished.reply.type == FORWARDED and not finished.heard:
            return finished.reply.to
        finished.sender = worker
        self._answer(key, finished)
        return None

    def is_forwarded(self, key: str) -> bool:
        """Return whether the job of this key is remembered as forwarded."""
        finished = self._finished.get(key)
        return finished is not None and finished.reply.type == FORWARDED

    def heard(self, key: str) -> bool:
        """Note that the job's origin knows how the job ended, and release the hop's sender.

        Return whether the job is remembered.
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

    def close(self) -> None:
        """Forget all answers: nothing is published again, and the senders that still probe are released."""
        for key, finished in self._finished.items():
            self._forget(key, finished)
        self._finished.clear()
        self._bytes = 0
        self._unheard.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # How

    def _answer(self, key: str, finished: _Finished) -> None:
        if finished.heard:
            self._release(key, finished)
        else:
            self._sender.answer(key, finished.reply)

    def _answer_again(self) -> None:
        self._timer = None
        keys, self._unheard = self._unheard, {}
        for key in keys:
            finished = self._finished.get(key)
            if finished is not None and not finished.heard and self._clock.seconds() < finished.deadline:
                self._sender.answer(key, finished.reply)

    def _forget_oldest(self) -> None:
        while len(self._finished) > self._memory_jobs or self._bytes > self._memory_bytes:
            key, oldest = self._finished.popitem(last=False)
            self._bytes -= len(oldest.reply.body)
            self._forget(key, oldest)

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
            self._sender.release(finished.sender, key)
