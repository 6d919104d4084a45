"""A hop of a job, as its sender keeps it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from txmicro.errors import JobError

WAITING: Final = "waiting"
OUT: Final = "out"
TAKEN: Final = "taken"
KEPT: Final = "kept"
ENDED: Final = "ended"


class Owner(Protocol):
    """The owner of a pending job: it is told what becomes of the job, and of its end exactly once."""

    def accepted(self, worker: str) -> None:
        """Note that *worker* has the job; called again when another worker accepts it."""

    def succeeded(self, worker: str, result: Any) -> None:
        """Note that the job has ended at *worker* with *result*, which is None for a hop that was passed on."""

    def failed(self, error: JobError) -> None:
        """Note that the job has ended with *error*."""


class PendingJob:
    """One hop of a job, as its sender keeps it.

    :ivar key: the hop's key, unique in an outbox.
    :ivar job_id: the job's id, the same on every hop.
    :ivar address: where it goes.
    :ivar body: what ``publish`` sends; the outbox does not look at it.
    :ivar deadline: the instant, in the clock's seconds, at which it fails with :class:`JobTimeout`.
    :ivar owner: who is told.
    :ivar size: bytes of memory that it takes here.
    :ivar redeliver: whether it may run twice. If not, it is sent again only when the copy before was not run.
    :ivar unrun: whether the copy that is out came back unrun.
    :ivar copies: how many copies have left, the one that is being published included.
    :ivar loose: how many of them did not come back: somebody may have them.
    :ivar stale: whether ``body`` was encoded for an earlier moment: tries and remaining time differ now.
    :ivar taker: id of the latest worker that took it; None: nobody has it.
    :ivar forwarded: whether that worker says that it has passed the job on.
    :ivar lost: ids of the workers that took it and are missing since.
    :ivar blamed: those of them that took nothing else after it, so that it may be what ended them.
    :ivar heard: id of the latest worker that said that it took it; None: nobody ever did.
    :ivar stored: whether the broker has confirmed that it has it (kept).
    :ivar added: the instant, in the clock's seconds, at which it came into the outbox.
    :ivar began, left, since: instants in the copies' time: when it came, when its first copy left, when it was taken.
    :ivar state: ``waiting``, ``out``, ``taken``, ``kept`` or ``ended``.
    """

    __slots__ = (
        "added",
        "address",
        "began",
        "blamed",
        "body",
        "copies",
        "deadline",
        "due",
        "forwarded",
        "heard",
        "job_id",
        "key",
        "left",
        "loose",
        "lost",
        "owner",
        "redeliver",
        "since",
        "size",
        "stale",
        "state",
        "stored",
        "taker",
        "unrun",
    )

    def __init__(
        self,
        key: str,
        job_id: str,
        address: str,
        body: Any,
        deadline: float,
        owner: Owner,
        *,
        size: int = 0,
        redeliver: bool = True,
    ) -> None:
        self.key = key
        self.job_id = job_id
        self.address = address
        self.body = body
        self.deadline = deadline
        self.owner = owner
        self.size = size
        self.redeliver = redeliver
        self.unrun = False
        self.copies = self.loose = 0
        self.stale = False
        self.taker: str | None = None
        self.heard: str | None = None
        self.lost: tuple[str, ...] = ()
        self.blamed: tuple[str, ...] = ()
        self.forwarded = self.stored = False
        self.added = self.began = self.left = self.since = 0.0
        self.state = WAITING
        self.due = 0.0  # in the copies' time: when to send it again

    @property
    def tries(self) -> int:
        """How often it was sent before: 0 for the first copy."""
        return max(0, self.copies - 1)
