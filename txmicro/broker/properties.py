"""The properties of messages on their way through the broker, which should not change them."""

from __future__ import annotations

from typing import Any

from txmicro.amqp.errors import InvalidArgument
from txmicro.amqp.properties import Properties

from .errors import Refused


class ReceivedProperties(Properties):
    """Properties as they came, and their bytes, which leave as they are.

    Decoding and encoding again would cost time, and lose what Python does not tell apart, such as the size of
    an integer.
    """

    __slots__ = ("raw",)

    raw: bytes

    @classmethod
    def decode(cls, data: bytes, offset: int = 0, end: int | None = None) -> Properties:
        """Read and keep them; raises :class:`FrameError`."""
        self = super().decode(data, offset, end)
        self.raw = data[offset:end]  # type: ignore[attr-defined]
        return self

    def encode(self) -> bytes:
        """The bytes that came."""
        return self.raw


def with_headers(properties: Properties, added: dict[str, Any], expiration: str | None) -> Properties:
    """A copy of *properties* with the headers *added* and another expiration.

    A stranger's headers may hold what cannot be written again (a name that is no UTF-8); they are left out.
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


def addressed(properties: Properties) -> tuple[list[str], Properties]:
    """Return the further routing keys, of the headers CC and BCC, and the properties as receivers may see them.

    https://www.rabbitmq.com/docs/sender-selected. Raises :class:`Refused` (406): such a header is no list.
    """
    headers = properties.headers
    if not headers or _COPIES.isdisjoint(headers):
        return [], properties
    for name in _COPIES.intersection(headers):
        if not isinstance(headers[name], list):
            raise Refused(406, f"invalid message: header '{name}' is not a list of routing keys")
    keys = _keys(headers, "CC") + _keys(headers, "BCC")
    return keys, _without(properties, "BCC") if "BCC" in headers else properties


def copies(properties: Properties) -> list[str]:
    """Return the routing keys of the header CC, which receivers see too."""
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
        raise Refused(406, f"header '{header}' cannot be taken out: {error}") from None
    return seen
