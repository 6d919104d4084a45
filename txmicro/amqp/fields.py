"""Fields of AMQP 0-9-1: tables and the properties of a message.

Format: AMQP 0-9-1 sections 4.2.5 and 4.2.6, with the field types of RabbitMQ's errata
(https://www.rabbitmq.com/docs/amqp-0-9-1-errata). pamqp reads and writes single values. Lengths are read
here, because pamqp trusts them: it cuts a value that overruns its frame, and copies what follows each value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeAlias

from pamqp import decode, encode
from pamqp.commands import Basic

from .errors import SYNTAX_ERROR, FrameError, InvalidArgument

# Nobody's headers are that deep; what is deeper reads as None, so that no message can exhaust our stack.
_DEEPEST: Final = 64

# Sizes of the field types that have no length of their own.
_FIXED: Final = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V\0", 0),
    ord("D"): 5,
}
_TIME: Final = ord("T")
_SCALARS: Final = {kind[0]: decoder for kind, decoder in decode.TABLE_MAPPING.items()}

_OCTETS: Final = [bytes((number,)) for number in range(256)]

_length = struct.Struct(">I").unpack_from
_pack_length = struct.Struct(">I").pack
_pack_double = struct.Struct(">d").pack
_flags = struct.Struct(">H").unpack_from
_pack_flags = struct.Struct(">H").pack
_timestamp = struct.Struct(">Q").unpack_from
_pack_timestamp = struct.Struct(">Q").pack


def shortstr(text: str) -> bytes:
    """Encode a short string: up to 255 bytes of UTF-8. Raises :class:`InvalidArgument`."""
    try:
        data = text.encode()
        return _OCTETS[len(data)] + data
    except (AttributeError, IndexError, ValueError):
        raise InvalidArgument(f"{text!r:.300} is no text of up to 255 bytes") from None


def encode_table(table: dict[str, Any]) -> bytes:
    """Encode a field table, its length first; raises :class:`InvalidArgument`.

    Unlike pamqp's, it keeps the precision of floats and takes bytes.
    """
    try:
        return _table(table)
    except RecursionError:
        raise InvalidArgument("a table that is nested too deeply") from None


def _table(table: dict[str, Any]) -> bytes:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{table!r:.100} is no table")
    data = b"".join(shortstr(key) + _value(value) for key, value in table.items())
    return _pack_length(len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"F" + _table(value)
    if isinstance(value, list):
        data = b"".join(map(_value, value))
        return b"A" + _pack_length(len(data)) + data
    if isinstance(value, float):
        return b"d" + _pack_double(value)
    if isinstance(value, bytes):
        return b"x" + _pack_length(len(value)) + value
    try:
        return encode.encode_table_value(value)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise InvalidArgument(f"a table cannot hold {value!r:.100}: {error}") from None


def decode_table(data: bytes, offset: int, end: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    """Read the table at *offset*, none of which may lie beyond *end*; gives it and the offset after it.

    Raises :class:`FrameError`.
    """
    offset, stop = _extent(data, offset, end)
    table = {}
    while offset < stop:
        start = offset + 1
        offset = start + data[offset]
        if offset >= stop:
            raise FrameError("a table that ends within a field", code=SYNTAX_ERROR)
        key = data[start:offset].decode("utf-8", "replace")
        table[key], offset = _decode_value(data, offset, stop, depth)
    return table, stop


def _decode_array(data: bytes, offset: int, end: int, depth: int) -> tuple[list[Any], int]:
    offset, stop = _extent(data, offset, end)
    array = []
    while offset < stop:
        value, offset = _decode_value(data, offset, stop, depth)
        array.append(value)
    return array, stop


def _decode_value(data: bytes, offset: int, end: int, depth: int) -> tuple[Any, int]:
    kind = data[offset]
    offset += 1
    size = _FIXED.get(kind)
    if size is not None:
        stop = offset + size
        if stop > end:
            raise FrameError("a field that overruns its table", code=SYNTAX_ERROR)
        if kind == _TIME and _timestamp(data, offset)[0] >> 32:
            return _timestamp(data, offset)[0], stop  # pamqp guesses that these are milliseconds
        return _SCALARS[kind](data[offset:stop])[1], stop
    if kind not in b"SxFA":
        raise FrameError(f"unknown field type {bytes((kind,))!r}", code=SYNTAX_ERROR)
    _, stop = _extent(data, offset, end)
    if kind in b"Sx":
        return _SCALARS[kind](data[offset:stop])[1], stop
    if depth == _DEEPEST:
        return None, stop
    if kind == ord("F"):
        return decode_table(data, offset, stop, depth + 1)
    return _decode_array(data, offset, stop, depth + 1)


def _extent(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Where that begins and ends which has its length at *offset*."""
    start = offset + 4
    if start > end:
        raise FrameError("a length that is cut off", code=SYNTAX_ERROR)
    stop: int = start + _length(data, offset)[0]
    if stop > end:
        raise FrameError("a length that overruns its frame", code=SYNTAX_ERROR)
    return start, stop


class Properties:
    """The properties of a message, by pamqp's names; None: absent.

    :ivar headers: a table: str, int, float, bool, None, bytes, Decimal, datetime, lists and tables of them.
    :ivar expiration: milliseconds, as text.
    :ivar timestamp: seconds of Unix time.
    :ivar delivery_mode: 2: persistent.
    """

    __slots__ = (
        "app_id",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_mode",
        "expiration",
        "headers",
        "message_id",
        "message_type",
        "priority",
        "reply_to",
        "timestamp",
        "user_id",
    )

    def __init__(
        self,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        delivery_mode: int | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: str | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        message_type: str | None = None,
        user_id: str | None = None,
        app_id: str | None = None,
    ) -> None:
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.headers = headers
        self.delivery_mode = delivery_mode
        self.priority = priority
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.expiration = expiration
        self.message_id = message_id
        self.timestamp = timestamp
        self.message_type = message_type
        self.user_id = user_id
        self.app_id = app_id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Properties):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        present = [
            f"{name}={getattr(self, name)!r}" for name in self.__slots__ if getattr(self, name) is not None
        ]
        return f"Properties({', '.join(present)})"

    def encode(self) -> bytes:
        """The flags and the fields that are present; raises :class:`InvalidArgument`."""
        flags = 0
        parts = [b""]
        for flag, name, write in _WRITERS:
            value = getattr(self, name)
            if value is not None:
                flags |= flag
                parts.append(write(value))
        parts[0] = _pack_flags(flags)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes, offset: int = 0, end: int | None = None) -> Properties:
        """Read the flags at *offset* and the fields after them, which fill *data* up to *end* (its length).

        Text that is no UTF-8 is read with replacement characters: a broker passes it on unread, and one odd
        message must not cost the connection. Raises :class:`FrameError`.
        """
        stop = len(data) if end is None else end
        values: list[Any] = [None] * 14
        try:
            (flags,) = _flags(data, offset)
            offset += 2
            for index, read in _present(flags):
                if read is None:
                    start = offset + 1
                    offset = start + data[offset]
                    values[index] = data[start:offset].decode("utf-8", "replace")
                else:
                    values[index], offset = read(data, offset, stop)
        except (IndexError, struct.error):
            offset = -1
        if offset != stop:  # a length that overruns shows here, as offsets only grow
            raise FrameError("properties that do not fill their frame", code=SYNTAX_ERROR)
        del values[_CLUSTER_ID]
        return cls(*values)


class Form:
    """The properties that messages of one kind share, encoded once.

    They differ in headers, expiration, message id and time.

    :param shared: properties without those four.
    """

    __slots__ = ("_after", "_amid", "_before", "_flags")

    def __init__(self, shared: Properties) -> None:
        values = [(flag, getattr(shared, name), write) for flag, name, write in _WRITERS]
        present = [(flag, write(value)) for flag, value, write in values if value is not None]
        self._flags = _TIMESTAMP | sum(flag for flag, _ in present)
        self._before = b"".join(data for flag, data in present if flag > _HEADERS)
        self._amid = b"".join(data for flag, data in present if _HEADERS > flag > _EXPIRATION)
        self._after = b"".join(data for flag, data in present if flag < _TIMESTAMP)

    def fill(
        self,
        message_id: str,
        timestamp: int,
        expiration: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> bytes:
        """What :meth:`Properties.encode` gives; an empty *message_id*, and None: absent."""
        flags = self._flags
        table = expires = id = b""
        if headers is not None:
            flags |= _HEADERS
            table = encode_table(headers)
        if expiration is not None:
            flags |= _EXPIRATION
            expires = shortstr(expiration)
        if message_id:
            flags |= _MESSAGE_ID
            id = shortstr(message_id)
        time = _seconds(timestamp)
        return b"".join((_pack_flags(flags), self._before, table, self._amid, expires, id, time, self._after))


_Read: TypeAlias = Callable[[bytes, int, int], tuple[Any, int]]
_Write: TypeAlias = Callable[[Any], bytes]


def _read_octet(data: bytes, offset: int, _end: int) -> tuple[int, int]:
    return data[offset], offset + 1


def _read_timestamp(data: bytes, offset: int, _end: int) -> tuple[int, int]:
    return _timestamp(data, offset)[0], offset + 8


def _octet(value: int) -> bytes:
    try:
        return bytes((value,))
    except (TypeError, ValueError):
        raise InvalidArgument(f"{value!r:.100} is no octet") from None


def _seconds(value: int) -> bytes:
    try:
        return _pack_timestamp(value)
    except struct.error:
        raise InvalidArgument(f"{value!r:.100} is no timestamp: whole seconds of Unix time") from None


_KINDS: Final[dict[str, tuple[_Read | None, _Write]]] = {
    "shortstr": (None, shortstr),  # decode() reads it: most properties are text, and a call costs
    "octet": (_read_octet, _octet),
    "table": (decode_table, encode_table),
    "timestamp": (_read_timestamp, _seconds),
}
_NAMES: Final = Basic.Properties.attributes()
_HEADERS: Final = Basic.Properties.flags["headers"]
_EXPIRATION: Final = Basic.Properties.flags["expiration"]
_MESSAGE_ID: Final = Basic.Properties.flags["message_id"]
_TIMESTAMP: Final = Basic.Properties.flags["timestamp"]
_CLUSTER_ID: Final = _NAMES.index("cluster_id")  # deprecated, and the last: read past it
_READERS: Final = [_KINDS[Basic.Properties.amqp_type(name)][0] for name in _NAMES]
_WRITERS: Final = [
    (Basic.Properties.flags[name], name, _KINDS[Basic.Properties.amqp_type(name)][1])
    for name in _NAMES[:_CLUSTER_ID]
]


@cache  # messages have few combinations of properties
def _present(flags: int) -> list[tuple[int, _Read | None]]:
    """The fields that *flags* announces, in their order on the wire: index, and what reads it."""
    if flags & 3:
        raise FrameError(f"unknown property flags {flags:#06x}", code=SYNTAX_ERROR)
    return [(index, _READERS[index]) for index in range(14) if flags & 0x8000 >> index]
