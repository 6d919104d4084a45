"""Fields of AMQP 0-9-1: short strings and tables.

Format: AMQP 0-9-1 section 4.2.5, with the field types of RabbitMQ's errata
(https://www.rabbitmq.com/docs/amqp-0-9-1-errata). pamqp reads and writes single values. Lengths are checked
here, because pamqp trusts them: it truncates a value that exceeds its frame, and copies the rest after each value.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pamqp import decode, encode

from .errors import SYNTAX_ERROR, FrameError, InvalidArgument

# Levels of nesting. A deeper value is read as None, so that no message can exhaust the stack.
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
_timestamp = struct.Struct(">Q").unpack_from


def shortstr(text: str) -> bytes:
    """Return *text* as a short string: at most 255 bytes of UTF-8. Raises :class:`InvalidArgument`."""
    try:
        data = text.encode()
        return _OCTETS[len(data)] + data
    except (AttributeError, IndexError, ValueError):
        raise InvalidArgument(f"{text!r:.300} is not a text of at most 255 bytes") from None


def encode_table(table: dict[str, Any]) -> bytes:
    """Return *table* as a field table, which begins with its length. Raises :class:`InvalidArgument`.

    Unlike pamqp, it keeps the precision of floats and accepts bytes.
    """
    try:
        return _table(table)
    except RecursionError:
        raise InvalidArgument("the table is nested too deeply") from None


def _table(table: dict[str, Any]) -> bytes:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{table!r:.100} is not a table")
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
    """Return the table at *offset*, and the offset after it.

    Raises :class:`FrameError`, also when the table exceeds *end*.
    """
    offset, stop = _extent(data, offset, end)
    table = {}
    while offset < stop:
        start = offset + 1
        offset = start + data[offset]
        if offset >= stop:
            raise FrameError("a field exceeds its table", code=SYNTAX_ERROR)
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
            raise FrameError("a field exceeds its table", code=SYNTAX_ERROR)
        if kind == _TIME and _timestamp(data, offset)[0] >> 32:
            return _timestamp(data, offset)[0], stop  # pamqp takes these for milliseconds
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
    """Return the start and end of the value whose length is at *offset*."""
    start = offset + 4
    if start > end:
        raise FrameError("a length is truncated", code=SYNTAX_ERROR)
    stop: int = start + _length(data, offset)[0]
    if stop > end:
        raise FrameError("a length exceeds its frame", code=SYNTAX_ERROR)
    return start, stop
