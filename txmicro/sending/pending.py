"""A hop of a job, as its sender keeps it, and its owner."""

from __future__ import annotations

from typing import Any, Final, Protocol

from txmicro.errors import JobError

WAITING: Final = "waiting"
OUT: Final = "out"
TAKEN: Final = "taken"
DURABLE: Final = "durable"
ENDED: Final = "ended"


class Owner(Protocol):
    """The owner of a pending job: it is told what becomes of the job, and of its end exactly once."""

    def accepted(self, worker: str) -> None:
        """Note that *worker* has the job; called again when another worker accepts it."""

    def resent(self, copies: int) -> None:
        """Note that another copy is sent, the *copies*-th one."""

    def succeeded(self, worker: str, result: Any) -> None:
        """Note that the job has ended at *worker* with *result*, which is None for a hop that was passed on."""

    def failed(self, error: JobError) -> None:
        """Note that the job has ended with *error*."""


class PendingJob:
    """One hop of a job that has not ended, as its sender keeps it.

    Some times are in the clock's seconds, others in *sending time*: the clock without the pauses, in which nothing
    could be published (:class:`~txmicro.util.pausable_clock.PausableClock`).

    :ivar key: the hop's key, unique in an outbox.
    :ivar job_id: the job's id, the same for every hop.
    :ivar address: where the hop goes.
    :ivar body: the encoded body; empty for a durable job.
    :ivar traceparent: W3C trace context, which travels in a header; None: there is none.
    :ivar tracestate: what belongs to *traceparent*, in another header; None: nothing.
    :ivar deadline: the time at which it fails with :class:`~txmicro.errors.JobTimeout`, in the clock's seconds.
    :ivar owner: who is told what becomes of it.
    :ivar size: bytes of memory that it needs here.
    :ivar redeliver: whether it may run twice. If not, it is sent again only if the copy before did not run.
    :ivar state: ``waiting`` for its address's window; ``out``: sent, not acknowledged; ``taken`` by a worker;
        ``durable``: kept by the broker; or ``ended``.
    :ivar copies: how many copies were sent, including one that is being published.
    :ivar unreturned: how many of the copies did not come back, so that a worker may have them.
    :ivar unrun: whether the copy that is out came back without having run.
    :ivar stale: whether ``body`` was encoded earlier, so that the tries and the remaining time in it are outdated.
    :ivar taker: id of the worker that has it; None: none is known to have it.
    :ivar last_taker: id of the worker that acknowledged it last; None: none did.
    :ivar forwarded: whether the taker has passed the job on.
    :ivar missing_takers: ids of the workers that took it and have been missing since.
    :ivar blamed_takers: ids of those that took nothing after it, so that it may be what ended them.
    :ivar stored: whether the broker has confirmed that it has the durable job.
    :ivar added_at: when it came into the outbox, in the clock's seconds.
    :ivar queued_at: the same moment, in sending time.
    :ivar sent_at: when its first copy was sent, in sending time.
    :ivar taken_at: when its taker acknowledged it, in sending time.
    :ivar due: when it is sent again, in sending time.
    """

    __slots__ = (
        "added_at",
        "address",
        "blamed_takers",
        "body",
        "copies",
        "deadline",
        "due",
        "forwarded",
        "job_id",
        "key",
        "last_taker",
        "missing_takers",
        "owner",
        "queued_at",
        "redeliver",
        "sent_at",
        "size",
        "stale",
        "state",
        "stored",
        "taken_at",
        "taker",
        "traceparent",
        "tracestate",
        "unreturned",
        "unrun",
    )

    def __init__(
        self,
        key: str,
        job_id: str,
        address: str,
        body: bytes,
        deadline: float,
        owner: Owner,
        *,
        traceparent: str | None = None,
        tracestate: str | None = None,
        size: int = 0,
        redeliver: bool = True,
    ) -> None:
        self.key = key
        self.job_id = job_id
        self.address = address
        self.body = body
        self.traceparent = traceparent
        self.tracestate = tracestate
        self.deadline = deadline
        self.owner = owner
        self.size = size
        self.redeliver = redeliver
        self.state = WAITING
        self.copies = self.unreturned = 0
        self.unrun = self.stale = self.forwarded = self.stored = False
        self.taker: str | None = None
        self.last_taker: str | None = None
        self.missing_takers: tuple[str, ...] = ()
        self.blamed_takers: tuple[str, ...] = ()
        self.added_at = self.queued_at = self.sent_at = self.taken_at = self.due = 0.0

    @property
    def tries(self) -> int:
        """How often it was sent before: 0 for the first copy."""
        return max(0, self.copies - 1)
