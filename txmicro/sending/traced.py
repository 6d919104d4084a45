"""The span of a hop that was sent, from its sending on."""

from __future__ import annotations

from typing import Any

from txmicro.errors import JobError
from txmicro.protocol.span import Span

from .pending import Owner


class TracedOwner:
    """The owner (:class:`~txmicro.sending.pending.Owner`) of a hop that has a span, in front of its own owner.

    The span of a first hop ends with the job: until then its sender owns the job. The span of a later hop ends when a
    worker has the hop, because nobody waits for the rest at this worker.

    :param first: whether it is the first hop.
    """

    __slots__ = ("_first", "_owner", "_span")

    def __init__(self, owner: Owner, span: Span, first: bool) -> None:
        self._owner = owner
        self._span = span
        self._first = first

    def accepted(self, worker: str) -> None:
        """Note that *worker* has the job."""
        self._span.event("accepted", {"txmicro.worker": worker})
        if not self._first:
            self._span.end()
        self._owner.accepted(worker)

    def resent(self, copies: int) -> None:
        """Note that another copy is sent, the *copies*-th one."""
        self._span.event("sent again", {"txmicro.job.copies": copies})
        self._owner.resent(copies)

    def succeeded(self, worker: str, result: Any) -> None:
        """Note that the job has ended at *worker* with *result*."""
        self._span.end()
        self._owner.succeeded(worker, result)

    def failed(self, error: JobError) -> None:
        """Note that the job has ended with *error*."""
        self._span.end(error)
        self._owner.failed(error)
