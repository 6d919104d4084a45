"""The properties of an AMQP 0-9-1 message.

Format: AMQP 0-9-1 section 4.2.6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from pamqp.commands import Basic

from .errors import SYNTAX_ERROR, FrameError, InvalidArgument
from .fields import decode_table, encode_table, shortstr

_flags = struct.Struct(">H").unpack_from
_pack_flags = struct.Struct(">H").pack
_timestamp = struct.Struct(">Q").unpack_from
_pack_timestamp = struct.Struct(">Q").pack


class Properties:
    """The properties of a message, with pamqp's names; None: absent.

    :ivar headers: a table of str, int, float, bool, None, bytes, Decimal, datetime, and lists and tables of them.
    :ivar expiration: milliseconds, as text.
    :ivar timestamp: Unix time in seconds.
    :ivar delivery_mode: 1: transient; 2: persistent.
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
        """Return the flags and the fields that are present. Raises :class:`InvalidArgument`."""
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
        """Return the properties that fill *data* from *offset* to *end* (None: to its end): flags, then fields.

        Text that is not valid UTF-8 is read with replacement characters: a broker passes it on unread, and one such
        message must not end the connection. Raises :class:`FrameError`.
        """
        stop = len(data) if end is None else end
        values: list[Any] = [None] * 14
        try:
            (flags,) = _flags(data, offset)
            offset += 2
            for index, kind in _present(flags):  # without a call for each field, except for tables
                if kind == _TEXT:
                    start = offset + 1
                    offset = start + data[offset]
                    values[index] = data[start:offset].decode("utf-8", "replace")
                elif kind == _OCTET:
                    values[index] = data[offset]
                    offset += 1
                elif kind == _TIME:
                    (values[index],) = _timestamp(data, offset)
                    offset += 8
                else:
                    values[index], offset = decode_table(data, offset, stop)
        except (IndexError, struct.error):
            offset = -1
        if offset != stop:  # also when a length exceeds the frame, because offsets only grow
            raise FrameError("the properties do not fill their frame", code=SYNTAX_ERROR)
        del values[_CLUSTER_ID]
        return cls(*values)


class PropertiesTemplate:
    """The properties that messages of one kind share, encoded once.

    The messages differ in headers, expiration, message id and timestamp.

    :param shared: properties without these four.
    """

    __slots__ = ("_after", "_before", "_between", "_flags")

    def __init__(self, shared: Properties) -> None:
        values = [(flag, getattr(shared, name), write) for flag, name, write in _WRITERS]
        present = [(flag, write(value)) for flag, value, write in values if value is not None]
        self._flags = _TIMESTAMP | sum(flag for flag, _ in present)
        self._before = b"".join(data for flag, data in present if flag > _HEADERS)
        self._between = b"".join(data for flag, data in present if _HEADERS > flag > _EXPIRATION)
        self._after = b"".join(data for flag, data in present if flag < _TIMESTAMP)

    def fill(
        self,
        message_id: str,
        timestamp: int,
        expiration: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the same bytes as :meth:`Properties.encode`.

        :param message_id: empty: absent.
        :param timestamp: Unix time in seconds.
        :param expiration: milliseconds, as text; None: absent.
        :param headers: None: absent.

        Raises :class:`InvalidArgument`.
        """
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
        try:
            time = _pack_timestamp(timestamp)
        except struct.error:
            raise _not_a_timestamp(timestamp) from None
        return b"".join(
            (_pack_flags(flags), self._before, table, self._between, expires, id, time, self._after)
        )


def _octet(value: int) -> bytes:
    try:
        return bytes((value,))
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"{value!r:.100} is not an octet: expected a whole number from 0 to 255"
        ) from None


def _seconds(value: int) -> bytes:
    try:
        return _pack_timestamp(value)
    except struct.error:
        raise _not_a_timestamp(value) from None


def _not_a_timestamp(value: object) -> InvalidArgument:
    return InvalidArgument(f"{value!r:.100} is not a timestamp: expected whole seconds of Unix time")


_TEXT, _OCTET, _TIME, _TABLE = "shortstr", "octet", "timestamp", "table"
_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    _TEXT: shortstr,
    _OCTET: _octet,
    _TIME: _seconds,
    _TABLE: encode_table,
}
_NAMES: Final = Basic.Properties.attributes()
_HEADERS: Final = Basic.Properties.flags["headers"]
_EXPIRATION: Final = Basic.Properties.flags["expiration"]
_MESSAGE_ID: Final = Basic.Properties.flags["message_id"]
_TIMESTAMP: Final = Basic.Properties.flags["timestamp"]
_CLUSTER_ID: Final = _NAMES.index("cluster_id")  # deprecated, and the last one: it is skipped
_KINDS: Final = [Basic.Properties.amqp_type(name) for name in _NAMES]
_WRITERS: Final = [
    (Basic.Properties.flags[name], name, _ENCODERS[Basic.Properties.amqp_type(name)])
    for name in _NAMES[:_CLUSTER_ID]
]


@cache  # few combinations of properties occur
def _present(flags: int) -> list[tuple[int, str]]:
    """Return the fields that *flags* announces, in their order on the wire: index and type."""
    if flags & 3:
        raise FrameError(f"unknown property flags {flags:#06x}", code=SYNTAX_ERROR)
    return [(index, _KINDS[index]) for index in range(14) if flags & 0x8000 >> index]
