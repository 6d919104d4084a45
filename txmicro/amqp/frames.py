"""Frames of AMQP 0-9-1: bytes to calls, and back. No I/O; client and broker share it.

Format: AMQP 0-9-1 section 4.2 (frames) and the XML of its methods, which pamqp has as classes. What comes
with every message (publish, deliver, ack) is read and written by hand; all else goes by pamqp's classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pamqp import base, commands, frame
from pamqp.decode import long_str

from .errors import COMMAND_INVALID, SYNTAX_ERROR, UNEXPECTED_FRAME, FrameError, InvalidArgument
from .fields import Form, Properties, decode_table, shortstr

__all__ = [
    "BODY_MAX",
    "FRAME_MAX",
    "FRAME_MIN",
    "HEADER_OVERHEAD",
    "HEARTBEAT",
    "OVERHEAD",
    "PROTOCOL_HEADER",
    "Ack",
    "Content",
    "Deliver",
    "Form",
    "FrameError",
    "FrameReader",
    "InvalidArgument",
    "Properties",
    "Publish",
    "ack_frame",
    "content_frames",
    "deliver_frame",
    "method_frame",
    "publish_prefix",
    "reject_frame",
]

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_MIN: Final = 4096  # what every peer takes
FRAME_MAX: Final = 131072  # what RabbitMQ proposes
BODY_MAX: Final = 128 * 1024 * 1024  # RabbitMQ's own limit
OVERHEAD: Final = 8  # bytes of a frame besides its payload
HEADER_OVERHEAD: Final = 20  # bytes of a content header besides its properties

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_END: Final = 0xCE
_BASIC: Final = 60
_PUBLISH: Final = commands.Basic.Publish.index
_DELIVER: Final = commands.Basic.Deliver.index
_ACK: Final = commands.Basic.Ack.index
_REJECT: Final = commands.Basic.Reject.index

_frame_head = struct.Struct(">BHI").unpack_from
_header_frame = struct.Struct(">BHIHHQ").unpack_from  # a content header's frame, up to its properties
_index = struct.Struct(">I").unpack_from
_content_head = struct.Struct(">HHQ").unpack_from
_tag = struct.Struct(">Q").unpack_from
_ack = struct.Struct(">QB").unpack_from
_short = struct.Struct(">H").unpack_from

_pack_frame_head = struct.Struct(">BHI").pack
_pack_tagged = struct.Struct(">BHIIQBB").pack  # a whole ack or reject
_pack_index = struct.Struct(">I").pack
_pack_publish = struct.Struct(">IH").pack
_pack_tag = struct.Struct(">QB").pack
_pack_header = struct.Struct(">BHIHHQ").pack  # a content header, up to its properties
_pack_body = struct.Struct(">BBHI").pack  # the end of the frame before, and a body's head


class Deliver:
    """``basic.deliver``."""

    __slots__ = ("consumer_tag", "delivery_tag", "exchange", "redelivered", "routing_key")

    def __init__(
        self, consumer_tag: str, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str
    ) -> None:
        self.consumer_tag = consumer_tag
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key


class Publish:
    """``basic.publish``."""

    __slots__ = ("exchange", "immediate", "mandatory", "routing_key")

    def __init__(self, exchange: str, routing_key: str, mandatory: bool, immediate: bool) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate


class Ack:
    """``basic.ack``: a consumer's, or a broker's confirm."""

    __slots__ = ("delivery_tag", "multiple")

    def __init__(self, delivery_tag: int, multiple: bool) -> None:
        self.delivery_tag = delivery_tag
        self.multiple = multiple


Method: TypeAlias = base.Frame | Deliver | Publish | Ack


class Content:
    """A message as it came: its method, properties and body."""

    __slots__ = ("body", "method", "properties")

    def __init__(self, method: Method, properties: Properties, body: bytes) -> None:
        self.method = method
        self.properties = properties
        self.body = body


class _Assembly:
    """A message of which frames are missing; ``properties`` is None until its header has come."""

    __slots__ = ("chunks", "method", "missing", "properties", "refused", "size")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.refused = False  # its body is read over
        self.properties: Properties | None = None
        self.chunks: list[bytes] = []
        self.size = 0
        self.missing = 0


class FrameReader:
    """Reads the stream of one connection; calls back, in the stream's order, for what has come whole.

    :param method: called with the channel and a method without content: an :class:`Ack` or pamqp's object.
    :param content: called with the channel, the method (:class:`Deliver`, :class:`Publish` or pamqp's
        object), the properties and the body of a message.
    :param heartbeat: called for a heartbeat.
    :param frame_max: the largest frame, in bytes; what is negotiated may be set later as an attribute.
    :param body_max: the largest body.
    :param held_max: how much of unfinished messages is held, all channels together; None: one largest body.
    :param refuse: called with the channel, the method, an AMQP reply code and the reason for a message that is too
        large; its body is read over then. None: such a message is a :class:`FrameError`.
    :param channel_max: the highest channel that may carry a message; an attribute too.
    :param properties: what decodes the properties of messages.
    """

    def __init__(
        self,
        method: Callable[[int, Any], None],
        content: Callable[[int, Any, Properties, bytes], None],
        heartbeat: Callable[[], None],
        *,
        frame_max: int = FRAME_MAX,
        body_max: int = BODY_MAX,
        held_max: int | None = None,
        channel_max: int = 0xFFFF,
        properties: type[Properties] = Properties,
        refuse: Callable[[int, Any, int, str], None] | None = None,
    ) -> None:
        self.frame_max = frame_max
        self.body_max = body_max
        self.held_max = body_max if held_max is None else held_max
        self._refuse = refuse
        self.channel_max = channel_max
        self._method = method
        self._content = content
        self._heartbeat = heartbeat
        self._decode_properties = properties.decode
        self._rest = bytearray()
        self._need = 0
        self._held = 0
        self._assemblies: dict[int, _Assembly] = {}
        self._read_by_kind: dict[int, Callable[[int, bytes, int, int], None]] = {
            _METHOD: self._read_method,
            _HEADER: self._read_header,
            _BODY: self._read_body,
            _HEARTBEAT: self._read_heartbeat,
        }

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere.

        Raises :class:`FrameError` on the first thing that is malformed or out of order: the stream is lost
        then. What the callbacks raise comes out too, and loses the stream.
        """
        if self._need:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        done = self._read(data)
        if done < len(data):
            self._rest += memoryview(data)[done:]

    def _read(self, data: bytes) -> int:
        """Read the whole frames of *data*; gives how many bytes they are, notes how many the next one has."""
        position, end = 0, len(data)
        while end - position >= OVERHEAD:
            kind, channel, size = _frame_head(data, position)
            read = self._read_by_kind.get(kind)
            if read is None:
                raise FrameError(f"unknown frame type {kind}: {data[position : position + 8]!r}")
            if size > self.frame_max - OVERHEAD:
                raise FrameError(f"a frame of {size} bytes: more than was agreed", channel=channel)
            start = position + 7
            stop = start + size
            if stop >= end:
                self._need = size + OVERHEAD
                return position
            if data[stop] != _END:
                raise FrameError("a frame without its end", channel=channel)
            if kind == _METHOD and size > 4 and _index(data, start)[0] == _DELIVER:
                position = self._read_delivery(channel, data, start, stop)
                if position:
                    continue
            position = stop + 1
            read(channel, data, start, stop)
        self._need = OVERHEAD if position < end else 0
        return position

    def _read_delivery(self, channel: int, data: bytes, start: int, stop: int) -> int:
        """A short cut for what comes most: a ``basic.deliver``, its header and one body, all of them here and right.

        Gives the position after it. 0: it is not so simple, or something is wrong with it; nothing has happened
        then, and frame by frame it will show.
        """
        try:
            kind, number, size, class_id, weight, length = _header_frame(data, stop + 1)
            head = stop + 8 + size  # the end of the header frame
            body_kind, body_number, body_size = _frame_head(data, head + 1)
            body = head + 8
            position: int = body + length + 1
            if not (
                kind == _HEADER
                and body_kind == _BODY
                and channel == number == body_number
                and 0 < channel <= self.channel_max
                and channel not in self._assemblies
                and class_id == _BASIC
                and not weight
                and 0 < length == body_size <= self.frame_max - OVERHEAD
                and 14 <= size <= self.frame_max - OVERHEAD
                and length <= self.body_max
                and length + self._held <= self.held_max
                and data[head] == data[position - 1] == _END
            ):
                return 0
            deliver = _decode_deliver(data, start + 4, stop)
            properties = self._decode_properties(data, stop + 20, head)
        except (IndexError, struct.error, FrameError):
            return 0
        self._content(channel, deliver, properties, data[body : position - 1])
        return position

    def _read_method(self, channel: int, data: bytes, start: int, stop: int) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is not None and assembly.refused:
            del self._assemblies[channel]  # the sender need not send the rest of what was refused
        elif assembly is not None:
            raise FrameError("a method amid a message", code=UNEXPECTED_FRAME, channel=channel)
        try:
            (index,) = _index(data, start)
            method = _DECODERS[index](data, start + 4, stop)
        except FrameError as error:
            error.channel = channel
            raise
        except (IndexError, struct.error):
            raise FrameError("a method that is cut off", code=SYNTAX_ERROR, channel=channel) from None
        except KeyError:
            raise FrameError(f"unknown method {index:#010x}", code=COMMAND_INVALID, channel=channel) from None
        if index in _WITH_CONTENT:
            if not 0 < channel <= self.channel_max:
                raise FrameError("a message on no channel", code=COMMAND_INVALID, channel=channel)
            self._assemblies[channel] = _Assembly(method)
        else:
            self._method(channel, method)

    def _read_header(self, channel: int, data: bytes, start: int, stop: int) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is None or assembly.properties is not None:
            raise FrameError("a header without its method", code=UNEXPECTED_FRAME, channel=channel)
        if stop - start < 14:
            raise FrameError("a header that is cut off", code=SYNTAX_ERROR, channel=channel)
        kind, weight, size = _content_head(data, start)
        if kind != _BASIC or weight:
            raise FrameError(f"a header of class {kind}, weight {weight}", code=SYNTAX_ERROR, channel=channel)
        try:
            assembly.properties = self._decode_properties(data, start + 12, stop)
        except FrameError as error:
            error.channel = channel
            raise
        if size > self.body_max or size + self._held > self.held_max:
            self._read_over(channel, assembly, size)
        elif size:
            assembly.size = assembly.missing = size
            self._held += size
        else:
            del self._assemblies[channel]
            self._content(channel, assembly.method, assembly.properties, b"")

    def _read_over(self, channel: int, assembly: _Assembly, size: int) -> None:
        """Refuse a message that is too large, by itself or beside those of other channels."""
        if self._refuse is None:
            raise FrameError(f"a message of {size} bytes: larger than the limit", channel=channel)
        assembly.refused = True
        assembly.missing = size
        if size > self.body_max:
            code, why = 406, f"message size {size} is larger than configured max size {self.body_max}"
        else:
            code, why = 311, f"unfinished messages of all channels are more than {self.held_max} bytes"
        self._refuse(channel, assembly.method, code, why)

    def _read_body(self, channel: int, data: bytes, start: int, stop: int) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is None or assembly.properties is None:
            raise FrameError("a body without its header", code=UNEXPECTED_FRAME, channel=channel)
        assembly.missing -= stop - start
        if assembly.missing < 0:
            raise FrameError("a body longer than announced", channel=channel)
        if assembly.refused:
            if not assembly.missing:
                del self._assemblies[channel]
            return
        assembly.chunks.append(data[start:stop])
        if not assembly.missing:
            del self._assemblies[channel]
            self._held -= assembly.size
            body = assembly.chunks[0] if len(assembly.chunks) == 1 else b"".join(assembly.chunks)
            self._content(channel, assembly.method, assembly.properties, body)

    def _read_heartbeat(self, channel: int, _data: bytes, start: int, stop: int) -> None:
        if channel or stop > start:
            raise FrameError("a heartbeat on a channel or with content", channel=channel)
        self._heartbeat()


def _decode_deliver(data: bytes, offset: int, end: int) -> Deliver:
    # A length that overruns shows at the end, as offsets only grow. Names and keys are a stranger's, passed
    # on unread by the broker: no UTF-8 there must not cost the connection.
    start = offset + 1
    offset = start + data[offset]
    consumer_tag = data[start:offset].decode("utf-8", "replace")
    delivery_tag, redelivered = _ack(data, offset)
    start = offset + 10
    offset = start + data[start - 1]
    exchange = data[start:offset].decode("utf-8", "replace")
    start = offset + 1
    offset = start + data[offset]
    _check_end(offset, end)
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
    _check_end(offset + 1, end)
    return Publish(exchange, data[start:offset].decode("utf-8", "replace"), bool(bits & 1), bool(bits & 2))


def _decode_ack(data: bytes, offset: int, end: int) -> Ack:
    tag, multiple = _ack(data, offset)
    _check_end(offset + 9, end)
    return Ack(tag, bool(multiple & 1))


def _check_end(offset: int, end: int) -> None:
    if offset != end:
        raise FrameError("a method that does not fill its frame", code=SYNTAX_ERROR)


def _read_shortstr(data: bytes, offset: int, _end: int) -> tuple[str, int]:
    start = offset + 1
    stop = start + data[offset]
    return data[start:stop].decode("utf-8", "replace"), stop  # RabbitMQ cuts reply texts amid a character


def _read_longstr(data: bytes, offset: int, _end: int) -> tuple[str | bytes, int]:
    stop = offset + 4 + _index(data, offset)[0]
    return long_str(data[offset:stop])[1], stop


_READ_FIELD: Final[dict[str, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    "octet": lambda data, offset, _: (data[offset], offset + 1),
    "short": lambda data, offset, _: (_short(data, offset)[0], offset + 2),
    "long": lambda data, offset, _: (_index(data, offset)[0], offset + 4),
    "longlong": lambda data, offset, _: (_tag(data, offset)[0], offset + 8),
    "shortstr": _read_shortstr,
    "longstr": _read_longstr,
    "table": decode_table,
}


def _decoder(kind: type[base.Frame]) -> Callable[[bytes, int, int], base.Frame]:
    """What reads the arguments of a method; made once per class, from pamqp's description of it."""
    fields = [(name, kind.amqp_type(name)) for name in kind.__slots__]

    def decode(data: bytes, offset: int, end: int) -> base.Frame:
        method = kind.__new__(kind)  # its constructor has opinions about names
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
        _check_end(offset, end)
        return method

    return decode


_DECODERS: Final[dict[int, Callable[[bytes, int, int], Method]]] = {
    **{index: _decoder(kind) for index, kind in commands.INDEX_MAPPING.items()},
    _PUBLISH: _decode_publish,
    _DELIVER: _decode_deliver,
    _ACK: _decode_ack,
}
_WITH_CONTENT: Final = frozenset(
    (_PUBLISH, _DELIVER, commands.Basic.Return.index, commands.Basic.GetOk.index)
)


def method_frame(channel: int, method: base.Frame) -> bytes:
    """One of pamqp's methods as a frame; raises :class:`InvalidArgument`."""
    try:
        return frame.marshal(method, channel)
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError, struct.error) as error:
        raise InvalidArgument(f"{method.name}: {error}") from None


def content_frames(channel: int, method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """A message as frames, in one piece.

    :param method: the frame of its method, from one of the functions here.
    :param properties: :meth:`Properties.encode`.
    :param frame_max: the largest frame, in bytes; a longer body is split.
    """
    size = len(body)
    most = frame_max - OVERHEAD
    header = _pack_header(_HEADER, channel, 12 + len(properties), _BASIC, 0, size)
    if 0 < size <= most:
        return b"".join((method, header, properties, _pack_body(_END, _BODY, channel, size), body, b"\xce"))
    parts: list[bytes | memoryview] = [method, header, properties]
    view = memoryview(body)
    for start in range(0, size, most):
        chunk = view[start : start + most]
        parts += (_pack_body(_END, _BODY, channel, len(chunk)), chunk)
    parts.append(b"\xce")
    return b"".join(parts)


def publish_prefix(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The ``basic.publish`` for one destination; raises :class:`InvalidArgument`."""
    return _method(
        channel, _pack_publish(_PUBLISH, 0) + shortstr(exchange) + shortstr(routing_key) + bytes((mandatory,))
    )


def deliver_frame(channel: int, deliver: Deliver) -> bytes:
    """A ``basic.deliver``; raises :class:`InvalidArgument`."""
    return _method(
        channel,
        _pack_index(_DELIVER)
        + shortstr(deliver.consumer_tag)
        + _pack_tag(deliver.delivery_tag, deliver.redelivered)
        + shortstr(deliver.exchange)
        + shortstr(deliver.routing_key),
    )


def ack_frame(channel: int, delivery_tag: int, multiple: bool = False) -> bytes:
    """A ``basic.ack``."""
    return _pack_tagged(_METHOD, channel, 13, _ACK, delivery_tag, multiple, _END)


def reject_frame(channel: int, delivery_tag: int, requeue: bool) -> bytes:
    """A ``basic.reject``."""
    return _pack_tagged(_METHOD, channel, 13, _REJECT, delivery_tag, requeue, _END)


def _method(channel: int, payload: bytes) -> bytes:
    return _pack_frame_head(_METHOD, channel, len(payload)) + payload + b"\xce"
