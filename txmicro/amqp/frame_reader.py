"""Reads frames of AMQP 0-9-1 from a stream of bytes. Client and broker share it; no I/O.

Format: AMQP 0-9-1 section 4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from .errors import COMMAND_INVALID, SYNTAX_ERROR, UNEXPECTED_FRAME, FrameError
from .frames import (
    BODY_MAX,
    FRAME_END,
    FRAME_MAX,
    OVERHEAD,
    TYPE_BODY,
    TYPE_HEADER,
    TYPE_HEARTBEAT,
    TYPE_METHOD,
)
from .methods import BASIC, DECODERS, DELIVER, WITH_CONTENT, Method, decode_deliver
from .properties import Properties

_frame_head = struct.Struct(">BHI").unpack_from
_header_frame = struct.Struct(">BHIHHQ").unpack_from  # a content header's frame, up to its properties
_index = struct.Struct(">I").unpack_from
_content_head = struct.Struct(">HHQ").unpack_from


class _Assembly:
    """A message whose frames have not all arrived; ``properties`` is None until its header has."""

    __slots__ = ("chunks", "method", "missing", "properties", "refused", "size")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.refused = False  # its body is skipped
        self.properties: Properties | None = None
        self.chunks: list[bytes] = []
        self.size = 0
        self.missing = 0


class FrameReader:
    """Reads the stream of one connection. Calls back in the stream's order, for complete methods and messages.

    :param method: called with the channel and a method without content: an :class:`Ack` or pamqp's object.
    :param content: called with the channel, the method (:class:`Deliver`, :class:`Publish` or pamqp's
        object), the properties and the body of a message.
    :param heartbeat: called without arguments for a heartbeat.
    :param frame_max: the largest frame, in bytes; set it as an attribute when it is negotiated.
    :param body_max: the largest body, in bytes.
    :param held_max: the most bytes of unfinished messages to hold, on all channels together; None: *body_max*.
    :param refuse: called with the channel, the method, an AMQP reply code and the reason for a message that is too
        large, whose body is then skipped. None: such a message is a :class:`FrameError`.
    :param channel_max: the highest channel that may carry a message; also an attribute.
    :param properties: the class that decodes the properties of messages.
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
            TYPE_METHOD: self._read_method,
            TYPE_HEADER: self._read_header,
            TYPE_BODY: self._read_body,
            TYPE_HEARTBEAT: self._read_heartbeat,
        }

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the stream, which may begin and end anywhere in a frame.

        Raises :class:`FrameError` on the first frame that is malformed or out of order, and whatever a callback
        raises. The stream cannot be read any further after that.
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
        """Read the complete frames of *data*. Return their size, and note the size of the next one."""
        position, end = 0, len(data)
        while end - position >= OVERHEAD:
            kind, channel, size = _frame_head(data, position)
            read = self._read_by_kind.get(kind)
            if read is None:
                raise FrameError(f"unknown frame type {kind}: {data[position : position + 8]!r}")
            if size > self.frame_max - OVERHEAD:
                raise FrameError(
                    f"the frame has {size + OVERHEAD} bytes; at most {self.frame_max} were negotiated",
                    channel=channel,
                )
            start = position + 7
            stop = start + size
            if stop >= end:
                self._need = size + OVERHEAD
                return position
            if data[stop] != FRAME_END:
                raise FrameError("the frame-end octet is missing", channel=channel)
            if kind == TYPE_METHOD and size > 4 and _index(data, start)[0] == DELIVER:
                position = self._read_delivery(channel, data, start, stop)
                if position:
                    continue
            position = stop + 1
            read(channel, data, start, stop)
        self._need = OVERHEAD if position < end else 0
        return position

    def _read_delivery(self, channel: int, data: bytes, start: int, stop: int) -> int:
        """Read the most frequent sequence at once: a ``basic.deliver``, its header and one body, complete and valid.

        Returns the position after it; 0: the sequence is another one, incomplete or invalid. Nothing has happened
        then, and reading frame by frame has the same result as without this method.
        """
        try:
            kind, number, size, class_id, weight, length = _header_frame(data, stop + 1)
            head = stop + 8 + size  # the end of the header frame
            body_kind, body_number, body_size = _frame_head(data, head + 1)
            body = head + 8
            position: int = body + length + 1
            if not (
                kind == TYPE_HEADER
                and body_kind == TYPE_BODY
                and channel == number == body_number
                and 0 < channel <= self.channel_max
                and channel not in self._assemblies
                and class_id == BASIC
                and not weight
                and 0 < length == body_size <= self.frame_max - OVERHEAD
                and 14 <= size <= self.frame_max - OVERHEAD
                and length <= self.body_max
                and length + self._held <= self.held_max
                and data[head] == data[position - 1] == FRAME_END
            ):
                return 0
            deliver = decode_deliver(data, start + 4, stop)
            properties = self._decode_properties(data, stop + 20, head)
        except (IndexError, struct.error, FrameError):
            return 0
        self._content(channel, deliver, properties, data[body : position - 1])
        return position

    def _read_method(self, channel: int, data: bytes, start: int, stop: int) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is not None and assembly.refused:
            del self._assemblies[channel]  # the sender need not send the rest of a refused message
        elif assembly is not None:
            raise FrameError("method within a message", code=UNEXPECTED_FRAME, channel=channel)
        try:
            (index,) = _index(data, start)
            method = DECODERS[index](data, start + 4, stop)
        except FrameError as error:
            error.channel = channel
            raise
        except (IndexError, struct.error):
            raise FrameError("the method is truncated", code=SYNTAX_ERROR, channel=channel) from None
        except KeyError:
            raise FrameError(f"unknown method {index:#010x}", code=COMMAND_INVALID, channel=channel) from None
        if index in WITH_CONTENT:
            if not 0 < channel <= self.channel_max:
                raise FrameError(
                    "message on a channel that cannot carry one", code=COMMAND_INVALID, channel=channel
                )
            self._assemblies[channel] = _Assembly(method)
        else:
            self._method(channel, method)

    def _read_header(self, channel: int, data: bytes, start: int, stop: int) -> None:
        assembly = self._assemblies.get(channel)
        if assembly is None or assembly.properties is not None:
            raise FrameError("header without a method", code=UNEXPECTED_FRAME, channel=channel)
        if stop - start < 14:
            raise FrameError("the header is truncated", code=SYNTAX_ERROR, channel=channel)
        kind, weight, size = _content_head(data, start)
        if kind != BASIC or weight:
            raise FrameError(
                f"header of class {kind} and weight {weight}; expected {BASIC} and 0",
                code=SYNTAX_ERROR,
                channel=channel,
            )
        try:
            assembly.properties = self._decode_properties(data, start + 12, stop)
        except FrameError as error:
            error.channel = channel
            raise
        if size > self.body_max or size + self._held > self.held_max:
            self._skip_body(channel, assembly, size)
        elif size:
            assembly.size = assembly.missing = size
            self._held += size
        else:
            del self._assemblies[channel]
            self._content(channel, assembly.method, assembly.properties, b"")

    def _skip_body(self, channel: int, assembly: _Assembly, size: int) -> None:
        """Refuse a message that is too large, alone or together with those of other channels. Skip its body."""
        if self._refuse is None:
            raise FrameError(f"the message has {size} bytes, more than the limit", channel=channel)
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
            raise FrameError("body without a header", code=UNEXPECTED_FRAME, channel=channel)
        assembly.missing -= stop - start
        if assembly.missing < 0:
            raise FrameError("the body is longer than its header says", channel=channel)
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
            raise FrameError("heartbeat on a channel or with content", channel=channel)
        self._heartbeat()
