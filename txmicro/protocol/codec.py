"""The formats that messages' bodies travel in: JSON, BSON and MessagePack, with the same values in and out.

A body is an object (a dict) at the top. What survives every format:

- None, bools, text, floats (NaN and the infinities too), integers of up to 14,280 bits (4,298 digits);
- bytes (``bytearray`` and ``memoryview`` arrive as bytes);
- datetimes: they arrive in UTC, and a naive one counts as UTC. BSON keeps milliseconds, the others more;
- lists (tuples arrive as lists) and dicts, at least 100 levels deep. Keys are of any of these types (a tuple
  stays one there).

BSON also carries the types of pymongo's ``bson`` that the others have no word for, as ``ObjectId``, and
MessagePack its extension types. Anything else is an :class:`EncodeError`: nothing is silently turned into
text, and nothing that can execute is ever read.

Where a format has no word for a value, it travels as an object with one reserved key. The first three are
from MongoDB's Extended JSON v2, https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/:

=================================================  ========================================================
``{"$binary": {"base64": "…", "subType": "00"}}``  bytes in JSON
``{"$date": "2026-11-23T17:49:35.123456Z"}``       a datetime in JSON
``{"$numberDouble": "NaN"}``                       NaN, ``Infinity`` and ``-Infinity`` in JSON
``{"$integer": "18446744073709551616"}``           an integer of over 64 bits in BSON and MessagePack
``{"$map": [[key, value], …]}``                    a dict with keys that are not text; and one of a user's
                                                   that would be mistaken for one of these
=================================================  ========================================================

So a user's own ``{"$binary": 1}`` arrives as it was, and other ``$`` keys travel as they are. A usual body
costs one call of a C codec: the slow second pass is for what that call refuses, and for a ``$`` that looks
reserved.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json import JSONDecoder, JSONEncoder
from math import isfinite
from typing import Any, ClassVar, Final

import bson
import msgpack
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.int64 import Int64

from txmicro.errors import DecodeError, EncodeError

MAX_DEPTH: Final = 200
"""How deep the slow pass follows a value. The C codecs have limits of their own, which are higher."""

MAX_BITS: Final = 14_280
"""The largest integer. Python refuses to read more than 4,300 digits, as that takes quadratic time."""

# "$ref" is no word of ours, but pymongo reads an object with "$ref" and "$id" as a DBRef.
_LOOKS_RESERVED: Final = re.compile(rb"\$(?:binary|date|numberDouble|integer|map|ref)")
_NAME: Final = re.compile(r"[^\W\d]\w*", re.ASCII)
_CONTAINERS: Final = frozenset({dict, list, tuple})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT64: Final = range(-(2**63), 2**63)


class Codec(ABC):
    """A format. Its instances hold buffers, so they belong to the reactor's thread.

    :ivar name: as the configuration's ``data_transfer_protocol`` has it.
    :ivar content_type: as a message's properties have it.
    :cvar own_types: what this format carries as it is, and the others not at all.
    """

    name: str
    content_type: str
    own_types: ClassVar[tuple[type, ...]] = ()

    def encode(self, value: dict[str, Any]) -> bytes:
        """The bytes of *value*; raises :class:`EncodeError` that names where in it the culprit stands."""
        try:
            data = self._pack(value)
        except Exception:  # whatever it minds, the second pass knows or says where
            return self._encode_extended(value)
        if b"$" in data and _LOOKS_RESERVED.search(data):
            return self._encode_extended(value)
        return data

    def decode(self, data: bytes) -> Any:
        """The object that *data* holds; raises :class:`DecodeError` if it is not one, whatever it is."""
        try:
            value = self._unpack(data)
            if b"$" in data and _LOOKS_RESERVED.search(data):
                value = _restore(value)
        except Exception as error:
            raise DecodeError(f"not {self.name}: {_reason(error)}") from error
        if not isinstance(value, dict):
            raise DecodeError(f"expected an object at the top of the {self.name}, got {type(value).__name__}")
        return value

    def _encode_extended(self, value: Any) -> bytes:
        if not isinstance(value, Mapping):
            raise EncodeError(f"expected an object at the top, got {type(value).__name__}")
        try:
            return self._pack(_Extender(self).extend(value))
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"{self.name} cannot carry this value: {_reason(error)}") from error

    @abstractmethod
    def _pack(self, value: Any) -> bytes:
        """Encode what the format has words for; raise anything for what it has not."""

    @abstractmethod
    def _unpack(self, data: bytes) -> Any:
        """Decode; raise anything if *data* is wrong."""

    @abstractmethod
    def extend(self, value: int | float | bytes | datetime) -> Any:
        """*value* in words of this format; a datetime is in UTC."""

    def has_key(self, key: Any) -> bool:
        """Whether *key* can be a dict's key as it is."""
        return isinstance(key, str)


class _JSON(Codec):
    """:rfc:`8259`, in UTF-8, as strict parsers read it."""

    name = "JSON"
    content_type = "application/json"

    def __init__(self, parse_float: Callable[[str], float] | None = None) -> None:
        encoder = JSONEncoder(
            ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
        )
        self._dump = encoder.encode
        self._load = JSONDecoder(parse_float=parse_float, parse_constant=_refuse_constant).decode

    def _pack(self, value: Any) -> bytes:
        if not _has_text_keys(value):
            raise TypeError("keys that are not text")
        return self._dump(value).encode()

    def _unpack(self, data: bytes) -> Any:
        value = self._load(data.decode())
        if (
            b"\\ud" in data or b"\\uD" in data
        ):  # half a surrogate pair is no text, and no other format takes it
            self._dump(value).encode()
        return value

    def extend(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return {"$binary": {"base64": b64encode(value).decode(), "subType": "00"}}
        if isinstance(value, datetime):
            return {"$date": value.replace(tzinfo=None).isoformat() + "Z"}
        if isinstance(value, float) and not isfinite(value):
            return {"$numberDouble": _NOT_FINITE[str(value)]}
        return value


class _Binary(Codec):
    """What BSON and MessagePack have in common: all scalars but large integers."""

    def extend(self, value: Any) -> Any:
        return {"$integer": str(int(value))} if isinstance(value, int) and value not in _INT64 else value


class _BSON(_Binary):
    """https://bsonspec.org/spec.html, by pymongo."""

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

    def has_key(self, key: Any) -> bool:
        return isinstance(key, str) and "\0" not in key


class _MessagePack(_Binary):
    """https://github.com/msgpack/msgpack/blob/master/spec.md, with its bin and timestamp types."""

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
        ):  # a key is an array, which is a tuple here: read all arrays as tuples, then undo it elsewhere
            return _restore(_unpackb(data, use_list=False))


def _unpackb(data: bytes, use_list: bool = True) -> Any:
    return msgpack.unpackb(data, timestamp=3, strict_map_key=False, use_list=use_list)


def _timestamp(value: Any) -> msgpack.Timestamp:
    """What the packer asks for datetimes: by itself it would send some that no reader takes."""
    if not isinstance(value, datetime):
        raise TypeError(type(value).__name__)
    since = _in_utc(value) - _EPOCH
    return msgpack.Timestamp(since.days * 86_400 + since.seconds, since.microseconds * 1000)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(number: str) -> float:
    """Read a number; ``1e400`` is Infinity to Python."""
    value = float(number)
    if isfinite(value):
        return value
    raise ValueError(f"the number {number:.20} is larger than a 64-bit float can be")


class _PlainInt(TypeDecoder):
    """Reads 64-bit integers as ``int``, where pymongo has a class of its own."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        return int(value)


def _has_text_keys(value: Any) -> bool:
    """Whether *value* has only keys that are text: JSON's C encoder would make ``{"1": 2}`` of ``{1: 2}``.

    False also for anything that is not plain JSON, which the slow pass sees to.
    """
    if isinstance(value, dict):
        try:
            "".join(value)
        except TypeError:
            return False
        value = value.values()
    for item in value:
        kind = type(item)
        if kind not in _SCALARS and (kind not in _CONTAINERS or not _has_text_keys(item)):
            return False
    return True


class _Extender:
    """One pass over a value that a C codec refused: puts what *codec* has no word for in reserved objects."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._path: list[Any] = []  # where in the value it is, for the error

    def extend(self, value: Any) -> Any:
        """*value* as the codec can carry it, in plain types; raises :class:`EncodeError`."""
        if value is None or isinstance(value, (bool, *self._codec.own_types)):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)):
            return self._list(value)
        return self._codec.extend(self._plain(value))

    def _list(self, values: list[Any] | tuple[Any, ...]) -> list[Any]:
        extended = []
        for index, value in enumerate(values):
            self._enter(index)
            extended.append(self.extend(value))
            self._path.pop()
        return extended

    def _mapping(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        pairs, simple = [], not _looks_reserved(values)
        for key, value in values.items():
            self._enter(key)
            pairs.append([self.extend(key), self.extend(value)])
            self._path.pop()
            simple = simple and self._codec.has_key(key)
        return dict(pairs) if simple else {"$map": pairs}

    def _enter(self, step: Any) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} levels deep, or in itself")
        self._path.append(step)

    def _text(self, value: str) -> str:
        try:
            return value.encode().decode()
        except UnicodeEncodeError:
            raise self._error("text with half a surrogate pair") from None

    def _plain(self, value: Any) -> int | float | bytes | datetime:
        if isinstance(value, int) and value.bit_length() <= MAX_BITS:
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, datetime):
            try:
                return _in_utc(value)
            except OverflowError:
                raise self._error(f"{value} is out of range in UTC") from None
        kind = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
        raise self._error(f"{self._codec.name} cannot carry {kind}")

    def _error(self, problem: str) -> EncodeError:
        return EncodeError(f"{_spell(self._path)}: {problem}")


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _looks_reserved(value: Mapping[Any, Any]) -> bool:
    return (len(value) == 1 and next(iter(value)) in _READERS) or ("$ref" in value and "$id" in value)


def _spell(path: list[Any]) -> str:
    """``data.rows[3].when``: in ASCII, as it may name text that is not valid, and not too long."""
    steps = [
        f".{step}" if _NAME.fullmatch(str(step)) and isinstance(step, str) else f"[{step!a}]" for step in path
    ]
    return f"{''.join(steps).removeprefix('.'):.200}"


def _restore(value: Any) -> Any:
    """Undo :class:`_Extender`; raises anything if a reserved object is not what it should be."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, held),) = value.items()
            if name in _READERS:
                return _READERS[name](held)
        return {key: _restore(item) for key, item in value.items()}
    if type(value) in (list, tuple):  # not an ExtType, which is a named tuple
        return [_restore(item) for item in value]
    return _restore(value.as_doc()) if isinstance(value, DBRef) else value


def _read_binary(held: dict[str, str]) -> bytes:
    return b64decode(held["base64"], validate=True)


def _read_date(held: str) -> datetime:
    return _in_utc(datetime.fromisoformat(held))


def _read_integer(held: str) -> int:
    return int(held, 10)


def _read_map(held: list[list[Any]]) -> dict[Any, Any]:
    return {_hashable(_restore(key)): _restore(value) for key, value in held}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


_READERS: Final[dict[Any, Callable[[Any], Any]]] = {
    "$binary": _read_binary,
    "$date": _read_date,
    "$numberDouble": float,
    "$integer": _read_integer,
    "$map": _read_map,
}


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion" in str(error) or type(error).__name__ == "StackError":
        return "nested too deeply"
    return f"{error!s:.200}" or type(error).__name__


JSON: Final[Codec] = _JSON()
BSON: Final[Codec] = _BSON()
MESSAGEPACK: Final[Codec] = _MessagePack()
STRICT_JSON: Final[Codec] = _JSON(_finite)
"""JSON of strangers: a number that is too large for a float is an error, and not Infinity; a call for each float."""

_BY_NAME: Final = {codec.name.lower(): codec for codec in (JSON, BSON, MESSAGEPACK)} | {
    "msgpack": MESSAGEPACK
}
_BY_CONTENT_TYPE: Final = {codec.content_type: codec for codec in (JSON, BSON, MESSAGEPACK)}

NAMES: Final = ("JSON", "BSON", "MessagePack", "msgpack")
"""What :func:`by_name` takes, in any case."""


def by_name(name: str) -> Codec:
    """The codec of this ``data_transfer_protocol``; raises :class:`KeyError` if there is none."""
    return _BY_NAME[name.lower()]


def by_content_type(content_type: str) -> Codec:
    """The codec that a message's ``content_type`` names; raises :class:`DecodeError` if there is none."""
    try:
        return _BY_CONTENT_TYPE[content_type]
    except KeyError:
        raise DecodeError(
            f"{content_type!r:.100} is no content type of ours: {', '.join(_BY_CONTENT_TYPE)}"
        ) from None
