"""The properties of messages on their way through the broker, which should not change them."""

from __future__ import annotations

from typing import Any

from txmicro.amqp.frames import InvalidArgument, Properties


class Received(Properties):
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
