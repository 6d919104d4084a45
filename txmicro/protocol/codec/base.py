"""The base of all formats: a fast pass in C, and a slower one for what it refuses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from txmicro.errors import DecodeError, EncodeError

from .extended import LOOKS_RESERVED, Extender, restore


class Codec(ABC):
    """A format. Its instances have buffers, so they belong to the reactor's thread.

    :ivar name: its name in the configuration's ``data_transfer_protocol``.
    :ivar content_type: its name in the properties of messages.
    :cvar own_types: the types that only this format carries.
    """

    name: str
    content_type: str
    own_types: ClassVar[tuple[type, ...]] = ()

    def encode(self, value: dict[str, Any]) -> bytes:
        """Return *value* encoded. Raises :class:`~txmicro.errors.EncodeError`, which names the place of the problem."""
        try:
            data = self._pack(value)
        except Exception:  # the second pass can carry the value, or names the problem and its place
            return self._encode_extended(value)
        if b"$" in data and LOOKS_RESERVED.search(data):
            return self._encode_extended(value)
        return data

    def decode(self, data: bytes) -> Any:
        """Return the object that *data* holds. Raises :class:`~txmicro.errors.DecodeError` for any other bytes."""
        try:
            value = self._unpack(data)
            if b"$" in data and LOOKS_RESERVED.search(data):
                value = restore(value)
        except Exception as error:
            raise DecodeError(f"not valid {self.name}: {_reason(error)}") from error
        if not isinstance(value, dict):
            raise DecodeError(f"expected an object at the top of the {self.name}, got {type(value).__name__}")
        return value

    def _encode_extended(self, value: Any) -> bytes:
        if not isinstance(value, Mapping):
            raise EncodeError(f"expected an object at the top, got {type(value).__name__}")
        try:
            return self._pack(Extender(self).extend(value))
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"{self.name} cannot carry this value: {_reason(error)}") from error

    @abstractmethod
    def _pack(self, value: Any) -> bytes:
        """Encode what the format can express; raise any exception for what it cannot."""

    @abstractmethod
    def _unpack(self, data: bytes) -> Any:
        """Decode *data*; raise any exception if it is not valid."""

    @abstractmethod
    def extend(self, value: int | float | bytes | datetime) -> Any:
        """Return *value* as this format can express it; a datetime is in UTC."""

    def has_key(self, key: Any) -> bool:
        """Return whether this format can express *key* as the key of a dict."""
        return isinstance(key, str)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion" in str(error) or type(error).__name__ == "StackError":
        return "nested too deeply"
    return f"{error!s:.200}" or type(error).__name__
