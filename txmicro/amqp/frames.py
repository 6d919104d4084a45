"""Frames of AMQP 0-9-1: their limits, and how they are encoded. Client and broker share them; no I/O.

Format: AMQP 0-9-1 section 4.2.
"""

from __future__ import annotations

import struct
from typing import Final

from pamqp import base, frame

from .errors import InvalidArgument
from .fields import shortstr
from .methods import ACK, BASIC, DELIVER, PUBLISH, REJECT, Deliver

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_MIN: Final = 4096  # bytes: every peer accepts frames of this size (AMQP 0-9-1)
FRAME_MAX: Final = 131072  # bytes: what RabbitMQ proposes
BODY_MAX: Final = 128 * 1024 * 1024  # bytes: RabbitMQ's own limit
OVERHEAD: Final = 8  # bytes of a frame besides its payload
HEADER_OVERHEAD: Final = 20  # bytes of a content header frame besides its properties

TYPE_METHOD: Final = 1
TYPE_HEADER: Final = 2
TYPE_BODY: Final = 3
TYPE_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE

_pack_frame_head = struct.Struct(">BHI").pack
_pack_tagged = struct.Struct(">BHIIQBB").pack  # a whole ack or reject
_pack_index = struct.Struct(">I").pack
_pack_publish = struct.Struct(">IH").pack
_pack_tag = struct.Struct(">QB").pack
_pack_header = struct.Struct(">BHIHHQ").pack  # a content header, up to its properties
_pack_body = struct.Struct(">BBHI").pack  # the end of the previous frame, and the head of a body frame


def method_frame(channel: int, method: base.Frame) -> bytes:
    """Return a method of pamqp as a frame. Raises :class:`InvalidArgument`."""
    try:
        return frame.marshal(method, channel)
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError, struct.error) as error:
        raise InvalidArgument(f"{method.name}: {error}") from None


def content_frames(channel: int, method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return a message as frames, joined.

    :param method: the frame of its method, from one of the other functions here.
    :param properties: from :meth:`Properties.encode`.
    :param frame_max: the largest frame, in bytes; a longer body is split.
    """
    size = len(body)
    most = frame_max - OVERHEAD
    header = _pack_header(TYPE_HEADER, channel, 12 + len(properties), BASIC, 0, size)
    if 0 < size <= most:
        return b"".join(
            (method, header, properties, _pack_body(FRAME_END, TYPE_BODY, channel, size), body, b"\xce")
        )
    parts: list[bytes | memoryview] = [method, header, properties]
    view = memoryview(body)
    for start in range(0, size, most):
        chunk = view[start : start + most]
        parts += (_pack_body(FRAME_END, TYPE_BODY, channel, len(chunk)), chunk)
    parts.append(b"\xce")
    return b"".join(parts)


def publish_prefix(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the frame of a ``basic.publish`` for one destination. Raises :class:`InvalidArgument`."""
    return _method(
        channel, _pack_publish(PUBLISH, 0) + shortstr(exchange) + shortstr(routing_key) + bytes((mandatory,))
    )


def deliver_frame(channel: int, deliver: Deliver) -> bytes:
    """Return the frame of a ``basic.deliver``. Raises :class:`InvalidArgument`."""
    return _method(
        channel,
        _pack_index(DELIVER)
        + shortstr(deliver.consumer_tag)
        + _pack_tag(deliver.delivery_tag, deliver.redelivered)
        + shortstr(deliver.exchange)
        + shortstr(deliver.routing_key),
    )


def ack_frame(channel: int, delivery_tag: int, multiple: bool = False) -> bytes:
    """Return the frame of a ``basic.ack``."""
    return _pack_tagged(TYPE_METHOD, channel, 13, ACK, delivery_tag, multiple, FRAME_END)


def reject_frame(channel: int, delivery_tag: int, requeue: bool) -> bytes:
    """Return the frame of a ``basic.reject``."""
    return _pack_tagged(TYPE_METHOD, channel, 13, REJECT, delivery_tag, requeue, FRAME_END)


def _method(channel: int, payload: bytes) -> bytes:
    return _pack_frame_head(TYPE_METHOD, channel, len(payload)) + payload + b"\xce"
