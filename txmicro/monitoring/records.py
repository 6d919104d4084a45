"""Records: what happened to single jobs, as workers report it and the manager remembers it."""

from __future__ import annotations

from typing import Final, NamedTuple

SENT: Final = "sent"
"""A hop was sent for the first time. ``worker`` sent it, to ``address``."""
RESENT: Final = "resent"
"""A hop was sent again. ``attempt`` says for which time, ``text`` why."""
RAN: Final = "ran"
"""A handler has ended at ``worker``, after ``wait`` and ``seconds``, with ``outcome``."""
ENDED: Final = "ended"
"""The job has ended for its origin ``worker``, with ``outcome``, ``seconds`` after it was sent."""
DEAD: Final = "dead"
"""A durable hop has become a dead letter; ``text`` is the reason."""
REQUEUED: Final = "requeued"
"""An operator has sent the dead letter again; ``text`` is the operator's name."""
DISCARDED: Final = "discarded"
"""An operator has deleted the dead letter; ``text`` is the operator's name."""
LOG: Final = "log"
"""A worker has logged the line ``text`` about the job; ``outcome`` is its level."""

KINDS: Final = (SENT, RESENT, RAN, ENDED, DEAD, REQUEUED, DISCARDED, LOG)

INTERACTIVE: Final = "interactive"
DURABLE: Final = "durable"


class Record(NamedTuple):
    """One thing that happened to a job. Fields that do not apply have their defaults.

    :ivar kind: one of :data:`KINDS`.
    :ivar time: when it happened, in Unix seconds.
    :ivar job: the job's id.
    :ivar hop: the number of the hop; 0 is the first.
    :ivar address: the address that the hop was sent to.
    :ivar worker: the id of the worker where it happened.
    :ivar lane: ``interactive`` or ``durable``.
    :ivar attempt: the number of the attempt; 1 is the first. 0: it does not apply.
    :ivar wait: seconds from sending the hop to the start of its handler; None: unknown.
    :ivar seconds: seconds that the handler took, or for ``ended`` that the whole job took; None: unknown.
    :ivar outcome: one of :mod:`txmicro.protocol.outcomes`, or the level of a log line.
    :ivar error: the type of the error; empty: there is none.
    :ivar message: the error's message.
    :ivar trace: the W3C ``traceparent`` of the hop; empty: there is none.
    :ivar text: a line for people.
    """

    kind: str
    time: float
    job: str
    hop: int = 0
    address: str = ""
    worker: str = ""
    lane: str = ""
    attempt: int = 0
    wait: float | None = None
    seconds: float | None = None
    outcome: str = ""
    error: str = ""
    message: str = ""
    trace: str = ""
    text: str = ""
