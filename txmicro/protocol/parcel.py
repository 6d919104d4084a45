"""A message that the broker is to keep, and the errors of publishing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from txmicro.errors import TxmicroError


class Unroutable(TxmicroError):
    """The broker has no queue for a parcel."""


class Forbidden(Unroutable):
    """The broker's permissions do not let this process publish a parcel to its exchange."""


@dataclass(slots=True, eq=False)
class Parcel:
    """A message that the broker is to keep.

    :ivar exchange: the exchange to publish it to.
    :ivar kind: the message's type.
    :ivar key: the message's id, the same at every attempt.
    :ivar expiration: milliseconds that it may stay in the queue; None: it does not expire.
    :ivar content_type: the format of a body that another process encoded; None: this process's format.
    :ivar patient: whether to try again when there is no queue for it or it is too large. The broker has the message in
        another queue, from which it must not be lost; and the queue is one that workers declare.
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
