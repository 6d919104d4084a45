"""A message for the broker to keep, and why it cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from txmicro.errors import TxmicroError


class Unroutable(TxmicroError):
    """What ``publish`` fails with when the broker has no queue for a parcel."""


class Forbidden(Unroutable):
    """What ``publish`` fails with when a parcel may not be sent there."""


@dataclass(slots=True, eq=False)
class Parcel:
    """A message for the broker to keep.

    :ivar kind: the message's type. :ivar key: its id, the same at every attempt.
    :ivar expiration: milliseconds that it may stay in the queue; None: for ever.
    :ivar content_type: of a body that another process wrote; None: this process's format.
    :ivar patient: whether to go on when there is no queue for it, as it is one of ours and will be back, or when
        the broker does not take as much any more: it has it, and must not lose it.
    """

    exchange: str
    routing_key: str
    kind: str
    key: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    expiration: int | None = None
    content_type: str | None = None
    patient: bool = False
