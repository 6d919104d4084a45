"""The headers of a durable job's message."""

from __future__ import annotations

from typing import Any, Final

from .failures import describe, from_header, to_header

# Headers of a durable job's message.
ATTEMPT: Final = "txmicro-attempt"  # 1 at first
ATTEMPTS: Final = "txmicro-attempts"  # how many its sender wants, if it said so
EXPIRES: Final = "txmicro-expires"  # Unix time in ms after which it is not started any more
STORED: Final = "txmicro-stored"  # Unix time in ms at which it was sent first
FAILURE: Final = "txmicro-failure"  # the last failure, as failures.to_header has it
REASON: Final = "txmicro-reason"  # why it was given up
FAILED: Final = "txmicro-failed"  # Unix time in ms of the last failure
REQUEUED: Final = "txmicro-requeued"  # Unix time in ms at which an operator began to have it tried again
TRACEPARENT: Final = "traceparent"

_NUMBERS: Final = (ATTEMPT, ATTEMPTS, EXPIRES, STORED, FAILED, REQUEUED)
_LARGEST: Final = 2**53

COUNT: Final = "x-delivery-count"  # the broker's word for how often it came back

# Why a job was given up; besides, the broker says ``delivery_limit`` and ``expired`` in ``x-death``.
DEATHS: Final = "delivery_limit"
EXHAUSTED: Final = "attempts"
NOT_RETRYABLE: Final = "failed"
UNREADABLE: Final = "unreadable"
EXPIRED: Final = "expired"

ATTEMPTS_MAX: Final = _LARGEST - 1
"""The largest number that is believed of a header."""

LONGEST_TTL: Final = 2**32 - 1
"""The largest ``expiration``, in milliseconds (49 days): RabbitMQ closes the channel at more."""


def number(headers: dict[str, Any], name: str, default: int) -> int:
    """A header that is a whole number, whatever a stranger wrote there."""
    value = headers.get(name)
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return value if usable and isinstance(value, int) else default


def lasting(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers that stay with a job on its way through our queues: our own, in their shape.

    Nothing else: the broker's ``x-`` ones start anew, and ``CC``, by which a sender has a broker copy a message
    elsewhere, is for nobody to say at exchanges that only workers of the type may write to.
    """
    kept: dict[str, Any] = {name: number(headers, name, 0) for name in _NUMBERS if number(headers, name, 0)}
    if isinstance(headers.get(FAILURE), dict):
        kept[FAILURE] = to_header(describe(from_header(headers[FAILURE]), None))
    trace = headers.get(TRACEPARENT)
    if isinstance(trace, str) and len(trace) <= 255:
        kept[TRACEPARENT] = trace
    return kept
