"""The headers of a durable job's message. :doc:`/reference/wire` explains them."""

from __future__ import annotations

from typing import Any, Final

from .failures import describe, from_header, to_header
from .trace_headers import read_text, read_trace, trace_headers

ATTEMPT: Final = "txmicro-attempt"  # the number of the attempt; 1 is the first
ATTEMPTS: Final = "txmicro-attempts"  # how many attempts the sender asked for
EXPIRES: Final = "txmicro-expires"  # when it expires, in ms of Unix time
STORED: Final = "txmicro-stored"  # when it was sent first, in ms of Unix time
FAILURE: Final = "txmicro-failure"  # the last failure, as failures.to_header returns it
REASON: Final = "txmicro-reason"  # why it was moved to the dead letters
FAILED: Final = "txmicro-failed"  # when it failed last, in ms of Unix time
REQUEUED: Final = "txmicro-requeued"  # when an operator requeued it, in ms of Unix time
RUN: Final = "txmicro-run"  # the trace context of the attempt before, if that had a span

_NUMBERS: Final = (ATTEMPT, ATTEMPTS, EXPIRES, STORED, FAILED, REQUEUED)
_LARGEST: Final = 2**53

COUNT: Final = "x-delivery-count"  # how often it came back, says the broker

# The values of REASON. The broker says ``delivery_limit`` and ``expired`` in ``x-death``, too.
DEATHS: Final = "delivery_limit"
EXHAUSTED: Final = "attempts"
NOT_RETRYABLE: Final = "failed"
UNREADABLE: Final = "unreadable"
EXPIRED: Final = "expired"

ATTEMPTS_MAX: Final = _LARGEST - 1
"""The largest number that a header may have."""

LONGEST_TTL: Final = 2**32 - 1
"""The largest ``expiration``, in milliseconds (49 days): RabbitMQ closes the channel if it is larger."""


def number(headers: dict[str, Any], name: str, default: int) -> int:
    """Return the header *name* if it is a valid whole number, else *default*: any program may have written it."""
    value = headers.get(name)
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return value if usable and isinstance(value, int) else default


def lasting(headers: dict[str, Any]) -> dict[str, Any]:
    """Return the headers that a job keeps when it moves to another queue of its type: those of this module, if valid.

    No others. The broker writes its own ``x-`` headers anew. With ``CC`` a sender could have the broker copy the
    message from exchanges that only workers of the type may publish to.
    """
    kept: dict[str, Any] = {name: number(headers, name, 0) for name in _NUMBERS if number(headers, name, 0)}
    if isinstance(headers.get(FAILURE), dict):
        kept[FAILURE] = to_header(describe(from_header(headers[FAILURE]), None))
    run = read_text(headers, RUN)
    if run:
        kept[RUN] = run
    return kept | trace_headers(*read_trace(headers))
