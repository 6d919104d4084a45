"""MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), with its bin and timestamp types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgpack

from .base import Codec
from .extended import extend_integer, in_utc, restore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _MessagePack(Codec):
    name = "MessagePack"
    content_type = "application/msgpack"
    own_types = (msgpack.ExtType,)

    def __init__(self) -> None:
        self._packer = msgpack.Packer(default=_timestamp)

    def _pack(self, value: Any) -> bytes:
        data: bytes = self._packer.pack(value)
        return data

    def _unpack(self, data: bytes) -> Any:
        try:
            return _unpackb(data)
        except (
            TypeError
        ):  # a key is an array: read all arrays as tuples, then make lists of those that are not keys
            return restore(_unpackb(data, use_list=False))

    def extend(self, value: Any) -> Any:
        return extend_integer(value)


def _unpackb(data: bytes, use_list: bool = True) -> Any:
    return msgpack.unpackb(data, timestamp=3, strict_map_key=False, use_list=use_list)


def _timestamp(value: Any) -> msgpack.Timestamp:
    """Return a datetime as the format has it. By itself, the packer writes some that readers refuse."""
    if not isinstance(value, datetime):
        raise TypeError(type(value).__name__)
    since = in_utc(value) - _EPOCH
    return msgpack.Timestamp(since.days * 86_400 + since.seconds, since.microseconds * 1000)


MESSAGEPACK: Final[Codec] = _MessagePack()
