"""The properties of messages on their way through the broker, which should not change them."""

from __future__ import annotations

from typing import Any

from txmicro.amqp.frames import Properties


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


def changed(properties: Properties, **changes: Any) -> Properties:
    """A copy of *properties* in which some have other values."""
    values = {name: getattr(properties, name) for name in Properties.__slots__}
    return Properties(**{**values, **changes})
