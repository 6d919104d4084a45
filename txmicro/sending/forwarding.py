"""The hops that a worker has sent on behalf of jobs that it took: it owns each until what followed has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from txmicro.errors import JobError
from txmicro.protocol.messages import Job


class Forwarding:
    """See the module.

    :param send: sends a hop for its owner; returns whether it did, False when that hop is under way already.
    :param ended: told of the job whose hop has ended, and of the error that it ended with here; None: it is done.
    """

    def __init__(
        self, send: Callable[[Job, _Hop], bool], ended: Callable[[Job, JobError | None], None]
    ) -> None:
        self._send = send
        self._ended = ended
        self._under_way: set[_Hop] = set()
        self._abandoned = False
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def follow(self, job: Job, following: Job) -> None:
        """Send *following*, the hop after *job*; raises what keeps it from being sent."""
        hop = _Hop(self, job)
        self._under_way.add(hop)
        sent = False
        try:
            sent = self._send(following, hop)
        finally:
            if not sent:
                self._under_way.discard(hop)

    def over(self, hop: _Hop, job: Job, error: JobError | None) -> None:
        """*hop*, which was sent on behalf of *job*, has ended."""
        self._under_way.discard(hop)
        self._ended(job, error)
        self._check_drained()

    def drain(self) -> Deferred[None]:
        """Wait for them. Fires with None when all have ended, or are abandoned; cancelling stops the wait."""
        if self._is_drained:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def abandon(self) -> None:
        """There is no more time to wait for them."""
        self._abandoned = True
        self._check_drained()

    @property
    def _is_drained(self) -> bool:
        return self._abandoned or not self._under_way

    def _check_drained(self) -> None:
        if self._is_drained:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)


class _Hop:
    """Owns a hop (sent.Owner)."""

    __slots__ = ("_hops", "_job")

    def __init__(self, hops: Forwarding, job: Job) -> None:
        self._hops = hops
        self._job = job

    def accepted(self, worker: str) -> None:
        """Do nothing: nobody waits for it."""

    def succeeded(self, worker: str, result: Any) -> None:
        """What followed is done."""
        self._hops.over(self, self._job, None)

    def failed(self, error: JobError) -> None:
        """What followed failed, here: nobody took it, or in time."""
        self._hops.over(self, self._job, error)
