"""The next hops of jobs that a worker has passed on. The worker owns each hop until it has ended."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from txmicro.errors import JobError
from txmicro.protocol.job import Job
from txmicro.util.waiters import Waiters

from .pending import Owner


class HopSender(Protocol):
    """Sends hops: the :class:`~txmicro.runtime.engine.Engine`."""

    def send_hop(self, hop: Job, owner: Owner) -> bool:
        """Send *hop* for *owner*. Return False, and do nothing, if that hop is pending already."""

    def hop_ended(self, job: Job, error: JobError | None) -> None:
        """Note that the hop after *job* has ended, with an *error* that was found here; None: it is done."""


class Forwarding:
    """The next hops that one worker has sent and that have not ended."""

    def __init__(self, sender: HopSender) -> None:
        self._sender = sender
        self._pending: set[_Hop] = set()
        self._abandoned = False
        self._drained = Waiters()

    def __len__(self) -> int:
        """Return how many hops have not ended."""
        return len(self._pending)

    def follow(self, job: Job, following: Job) -> None:
        """Send *following*, the hop after *job*. Raises what keeps it from being sent."""
        hop = _Hop(self, job)
        self._pending.add(hop)
        sent = False
        try:
            sent = self._sender.send_hop(following, hop)
        finally:
            if not sent:
                self._pending.discard(hop)

    def end(self, hop: _Hop, job: Job, error: JobError | None) -> None:
        """Note that *hop*, the one after *job*, has ended, with *error* unless it is done."""
        self._pending.discard(hop)
        self._sender.hop_ended(job, error)
        self._check_drained()

    def drain(self) -> Deferred[None]:
        """Wait for the hops. Each call returns a new Deferred.

        Fires with None when all hops have ended or are abandoned; does not fail. Canceling it stops this wait only.
        """
        if self._is_drained:
            return succeed(None)
        return self._drained.wait()

    def abandon(self) -> None:
        """End the waits: there is no time left."""
        self._abandoned = True
        self._check_drained()

    @property
    def _is_drained(self) -> bool:
        return self._abandoned or not self._pending

    def _check_drained(self) -> None:
        if self._is_drained:
            self._drained.fire()


class _Hop:
    """The owner (:class:`~txmicro.sending.pending.Owner`) of the hop after *job*."""

    __slots__ = ("_forwarding", "_job")

    def __init__(self, forwarding: Forwarding, job: Job) -> None:
        self._forwarding = forwarding
        self._job = job

    def accepted(self, worker: str) -> None:
        """Do nothing: the job's origin is told by the worker."""

    def resent(self, copies: int) -> None:
        """Do nothing: the hop goes on."""

    def succeeded(self, worker: str, result: Any) -> None:
        """End the hop: what follows is done."""
        self._forwarding.end(self, self._job, None)

    def failed(self, error: JobError) -> None:
        """End the hop with *error*, which was found here: no worker took it, or not in time."""
        self._forwarding.end(self, self._job, error)
