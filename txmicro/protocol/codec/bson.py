"""BSON (https://bsonspec.org/spec.html), by pymongo."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

import bson
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64

from .base import Codec
from .extended import extend_integer


class _PlainInt(TypeDecoder):
    """Reads 64-bit integers as ``int``; pymongo would use a class of its own."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        return int(value)


class _BSON(Codec):
    name = "BSON"
    content_type = "application/bson"
    own_types = (Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp)

    def __init__(self) -> None:
        self._options: CodecOptions[dict[str, Any]] = CodecOptions(
            tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([_PlainInt()])
        )

    def _pack(self, value: Any) -> bytes:
        return bson.encode(value, codec_options=self._options)

    def _unpack(self, data: bytes) -> Any:
        return bson.decode(data, self._options)

    def extend(self, value: Any) -> Any:
        return extend_integer(value)

    def has_key(self, key: Any) -> bool:
        return isinstance(key, str) and "\0" not in key


BSON: Final[Codec] = _BSON()
