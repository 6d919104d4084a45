"""The methods of AMQP 0-9-1, and how they are decoded.

Those that come with every message (publish, deliver, ack) have classes and decoders here. All others use pamqp's
classes.

Format: the XML of the AMQP 0-9-1 methods, which pamqp has as classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeAlias

from pamqp import base, commands
from pamqp.decode import long_str

from .errors import SYNTAX_ERROR, FrameError
from .fields import decode_table
from .properties import Properties

PUBLISH: Final = commands.Basic.Publish.index
DELIVER: Final = commands.Basic.Deliver.index
ACK: Final = commands.Basic.Ack.index
REJECT: Final = commands.Basic.Reject.index
BASIC: Final = 60
"""The number of the class ``basic``."""

_short = struct.Struct(">H").unpack_from
_long = struct.Struct(">I").unpack_from
_longlong = struct.Struct(">Q").unpack_from
_ack = struct.Struct(">QB").unpack_from


class Deliver:
    """``basic.deliver``: the broker sends a message to a consumer."""

    __slots__ = ("consumer_tag", "delivery_tag", "exchange", "redelivered", "routing_key")

    index: ClassVar = DELIVER
    name: ClassVar = "basic.deliver"

    def __init__(
        self, consumer_tag: str, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str
    ) -> None:
        self.consumer_tag = consumer_tag
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key


class Publish:
    """``basic.publish``: a client sends a message to an exchange."""

    __slots__ = ("exchange", "immediate", "mandatory", "routing_key")

    index: ClassVar = PUBLISH
    name: ClassVar = "basic.publish"

    def __init__(self, exchange: str, routing_key: str, mandatory: bool, immediate: bool) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate


class Ack:
    """``basic.ack``: an acknowledgement from a consumer, or a confirm from a broker."""

    __slots__ = ("delivery_tag", "multiple")

    index: ClassVar = ACK
    name: ClassVar = "basic.ack"

    def __init__(self, delivery_tag: int, multiple: bool) -> None:
        self.delivery_tag = delivery_tag
        self.multiple = multiple


Method: TypeAlias = base.Frame | Deliver | Publish | Ack


class IncomingMessage:
    """A received message: its method, properties and body."""

    __slots__ = ("body", "method", "properties")

    def __init__(self, method: Method, properties: Properties, body: bytes) -> None:
        self.method = method
        self.properties = properties
        self.body = body


def decode_deliver(data: bytes, offset: int, end: int) -> Deliver:
    """Return the ``basic.deliver`` whose arguments are between *offset* and *end*.

    Raises :class:`FrameError`, ``IndexError`` or ``struct.error`` when they do not fill that space exactly.
    """
    # A length that is too large is noticed at the end, because offsets only grow. Names and keys are a publisher's,
    # and the broker passes them on unread: text that is not valid UTF-8 must not end the connection.
    start = offset + 1
    offset = start + data[offset]
    consumer_tag = data[start:offset].decode("utf-8", "replace")
    delivery_tag, redelivered = _ack(data, offset)
    start = offset + 10
    offset = start + data[start - 1]
    exchange = data[start:offset].decode("utf-8", "replace")
    start = offset + 1
    offset = start + data[offset]
    if offset != end:
        raise _unfilled()
    return Deliver(
        consumer_tag,
        delivery_tag,
        bool(redelivered & 1),
        exchange,
        data[start:offset].decode("utf-8", "replace"),
    )


def _decode_publish(data: bytes, offset: int, end: int) -> Publish:
    start = offset + 3
    offset = start + data[start - 1]
    exchange = data[start:offset].decode("utf-8", "replace")
    start = offset + 1
    offset = start + data[offset]
    bits = data[offset]
    if offset + 1 != end:
        raise _unfilled()
    return Publish(exchange, data[start:offset].decode("utf-8", "replace"), bool(bits & 1), bool(bits & 2))


def _decode_ack(data: bytes, offset: int, end: int) -> Ack:
    tag, multiple = _ack(data, offset)
    if offset + 9 != end:
        raise _unfilled()
    return Ack(tag, bool(multiple & 1))


def _unfilled() -> FrameError:
    return FrameError("the method does not fill its frame", code=SYNTAX_ERROR)


def _read_shortstr(data: bytes, offset: int, _end: int) -> tuple[str, int]:
    start = offset + 1
    stop = start + data[offset]
    return data[start:stop].decode(
        "utf-8", "replace"
    ), stop  # RabbitMQ may truncate a reply text within a character


def _read_longstr(data: bytes, offset: int, _end: int) -> tuple[str | bytes, int]:
    stop = offset + 4 + _long(data, offset)[0]
    return long_str(data[offset:stop])[1], stop


_READ_FIELD: Final[dict[str, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    "octet": lambda data, offset, _: (data[offset], offset + 1),
    "short": lambda data, offset, _: (_short(data, offset)[0], offset + 2),
    "long": lambda data, offset, _: (_long(data, offset)[0], offset + 4),
    "longlong": lambda data, offset, _: (_longlong(data, offset)[0], offset + 8),
    "shortstr": _read_shortstr,
    "longstr": _read_longstr,
    "table": decode_table,
}


def _decoder(kind: type[base.Frame]) -> Callable[[bytes, int, int], base.Frame]:
    """Return a function that decodes the arguments of *kind*, according to pamqp's description of it."""
    fields = [(name, kind.amqp_type(name)) for name in kind.__slots__]

    def decode(data: bytes, offset: int, end: int) -> base.Frame:
        method = kind.__new__(kind)  # without its constructor, which rejects some names that brokers accept
        bit = 0
        for name, field in fields:
            if field == "bit":
                if bit == 0:
                    bit = 1
                    offset += 1
                setattr(method, name, bool(data[offset - 1] & bit))
                bit <<= 1
            else:
                bit = 0
                value, offset = _READ_FIELD[field](data, offset, end)
                setattr(method, name, value)
        if offset != end:
            raise _unfilled()
        return method

    return decode


DECODERS: Final[dict[int, Callable[[bytes, int, int], Method]]] = {
    **{index: _decoder(kind) for index, kind in commands.INDEX_MAPPING.items()},
    PUBLISH: _decode_publish,
    DELIVER: decode_deliver,
    ACK: _decode_ack,
}
"""Decoders by the method's index. They are called with data, and the start and end of the arguments in it."""

WITH_CONTENT: Final = frozenset((PUBLISH, DELIVER, commands.Basic.Return.index, commands.Basic.GetOk.index))
"""The indexes of the methods that are followed by a message's header and body."""
