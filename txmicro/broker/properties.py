"""The properties of messages in the broker, which forwards them unchanged."""

from __future__ import annotations

from typing import Any

from txmicro.amqp.errors import InvalidArgument
from txmicro.amqp.properties import Properties

from .errors import Refused


class ReceivedProperties(Properties):
    """Properties together with the bytes that they were decoded from; these bytes are sent on.

    Encoding them again would cost time. It would also lose what Python does not distinguish, such as the size of an
    integer.

    :ivar raw: the bytes.
    """

    __slots__ = ("raw",)

    raw: bytes

    @classmethod
    def decode(cls, data: bytes, offset: int = 0, end: int | None = None) -> Properties:
        """Return the properties between *offset* and *end*. Raises :class:`FrameError`."""
        self = super().decode(data, offset, end)
        self.raw = data[offset:end]  # type: ignore[attr-defined]
        return self

    def encode(self) -> bytes:
        """Return the received bytes."""
        return self.raw


def with_headers(properties: Properties, added: dict[str, Any], expiration: str | None) -> Properties:
    """Return a copy of *properties* with the headers *added* and another expiration.

    When the publisher's headers cannot be encoded again (a name that is not valid UTF-8), the copy has only *added*,
    *expiration* and the delivery mode.
    """
    values = {name: getattr(properties, name) for name in Properties.__slots__}
    headers = {**(properties.headers or {}), **added}
    copy = Properties(**{**values, "headers": headers, "expiration": expiration})
    try:
        copy.encode()
    except InvalidArgument:
        return Properties(headers=added, expiration=expiration, delivery_mode=properties.delivery_mode)
    return copy


_COPIES = frozenset(("CC", "BCC"))


def split_copies(properties: Properties) -> tuple[list[str], Properties]:
    """Return the routing keys in the headers CC and BCC, and the properties without BCC.

    https://www.rabbitmq.com/docs/sender-selected. Raises :class:`Refused` (406) when such a header is not a list.
    """
    headers = properties.headers
    if not headers or _COPIES.isdisjoint(headers):
        return [], properties
    for name in _COPIES.intersection(headers):
        if not isinstance(headers[name], list):
            raise Refused(406, f"invalid message: header '{name}' is not a list of routing keys")
    keys = _keys(headers, "CC") + _keys(headers, "BCC")
    return keys, _without(properties, "BCC") if "BCC" in headers else properties


def cc_keys(properties: Properties) -> list[str]:
    """Return the routing keys in the header CC."""
    return _keys(properties.headers or {}, "CC")


def _keys(headers: dict[str, Any], name: str) -> list[str]:
    keys = headers.get(name)
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _without(properties: Properties, header: str) -> Properties:
    values = {name: getattr(properties, name) for name in Properties.__slots__}
    headers = {name: value for name, value in (properties.headers or {}).items() if name != header}
    seen = Properties(**{**values, "headers": headers})
    try:
        seen.encode()
    except InvalidArgument as error:
        raise Refused(406, f"cannot remove header '{header}': {error}") from None
    return seen
