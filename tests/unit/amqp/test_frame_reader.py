"""Reading frames: any method and message, compared with pamqp, and frames in an invalid order."""

from __future__ import annotations

import struct
import warnings
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp import frame as pamqp_frame
from twisted.trial.unittest import SynchronousTestCase

from tests.support.amqp_frames import (
    CONTENTS,
    DELIVERIES,
    NAMES,
    PROPERTIES,
    SHORT,
    TABLES,
    THINGS,
    Light,
    Reading,
    by_pamqp,
    expected,
    raw,
    raw_header,
)
from txmicro.amqp import frames
from txmicro.amqp.errors import FrameError
from txmicro.amqp.fields import decode_table, encode_table
from txmicro.amqp.frames import (
    ack_frame,
    content_frames,
    deliver_frame,
    method_frame,
    publish_prefix,
    reject_frame,
)
from txmicro.amqp.methods import Deliver, IncomingMessage
from txmicro.amqp.properties import Properties, PropertiesTemplate


def has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_float, value.values()))
    if isinstance(value, list):
        return any(map(has_float, value))
    return isinstance(value, float)


def in_pamqps_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: in_pamqps_order(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [in_pamqps_order(item) for item in value]
    return value


class PropertyTests(SynchronousTestCase):
    def setUp(self) -> None:
        warning = warnings.catch_warnings(action="ignore", category=DeprecationWarning)  # basic.recover-async
        warning.__enter__()
        self.addCleanup(warning.__exit__, None, None, None)

    @settings(max_examples=150)
    @given(st.lists(THINGS, max_size=6), st.data())
    def test_any_split_of_any_stream_is_read_as_it_was_written(
        self, things: list[tuple[int, Any]], data: st.DataObject
    ) -> None:
        stream = b"".join(by_pamqp(channel, thing, 4096) for channel, thing in things)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        self.assertEqual(Reading().feed(*pieces), [expected(*thing) for thing in things])

    @settings(max_examples=100)
    @given(st.integers(1, 65535), CONTENTS.filter(lambda content: not has_float(content.properties.headers)))
    def test_the_writers_bytes_equal_pamqps(self, channel: int, content: IncomingMessage) -> None:
        if isinstance(content.method, Light):
            raise TypeError(content.method)
        content.properties.headers = in_pamqps_order(content.properties.headers)
        written = content_frames(
            channel, method_frame(channel, content.method), content.properties.encode(), content.body, 4096
        )
        self.assertEqual(written, by_pamqp(channel, content, 4096))

    @given(st.integers(0, 65535), st.integers(0, 2**63 - 1), st.booleans(), SHORT, NAMES)
    def test_the_methods_encoded_by_txmicro_equal_pamqps(
        self, channel: int, tag: int, bit: bool, text: str, name: str
    ) -> None:
        basic = commands.Basic
        for ours, theirs in (
            (ack_frame(channel, tag, bit), basic.Ack(tag, bit)),
            (reject_frame(channel, tag, bit), basic.Reject(tag, bit)),
            (publish_prefix(channel, name, text, bit), basic.Publish(0, name, text, bit)),
            (
                deliver_frame(channel, Deliver(text, tag, bit, name, text)),
                basic.Deliver(text, tag, bit, name, text),
            ),
        ):
            self.assertEqual(ours, pamqp_frame.marshal(theirs, channel))

    @settings(max_examples=200)
    @given(st.binary(max_size=60), st.sampled_from(sorted(commands.INDEX_MAPPING)))
    def test_a_method_of_garbage_is_read_or_is_a_frame_error(self, garbage: bytes, index: int) -> None:
        reading = Reading()
        try:
            reading.feed(raw(1, 1, struct.pack(">I", index) + garbage))
        except FrameError as error:
            self.assertEqual((error.channel, error.code), (1, 502))

    @settings(max_examples=300)
    @given(st.binary(max_size=80))
    def test_properties_of_garbage_are_read_or_are_a_frame_error(self, garbage: bytes) -> None:
        try:
            Properties.decode(garbage)
        except FrameError as error:
            self.assertEqual(error.code, 502)

    @settings(max_examples=300)
    @given(PROPERTIES, st.data())
    def test_properties_with_one_changed_byte_are_read_or_are_a_frame_error(
        self, properties: Properties, data: st.DataObject
    ) -> None:
        damaged = bytearray(properties.encode())
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        try:
            Properties.decode(bytes(damaged))
        except FrameError as error:
            self.assertEqual(error.code, 502)

    @settings(max_examples=150)
    @given(PROPERTIES, st.integers(0, 2**63 - 1))
    def test_a_template_of_properties_equals_their_encoding(self, properties: Properties, time: int) -> None:
        properties.timestamp = time
        properties.message_id = properties.message_id or None
        own = {"headers", "expiration", "message_id", "timestamp"}
        shared = {name: getattr(properties, name) for name in Properties.__slots__ if name not in own}
        filled = PropertiesTemplate(Properties(**shared)).fill(
            properties.message_id or "", time, properties.expiration, properties.headers
        )
        self.assertEqual(filled, properties.encode())

    @settings(max_examples=500)
    @given(st.lists(st.tuples(st.integers(0, 3), DELIVERIES), min_size=1, max_size=3), st.data())
    def test_the_fast_path_for_deliveries_reads_the_same(
        self, contents: list[tuple[int, IncomingMessage]], data: st.DataObject
    ) -> None:
        stream = bytearray(b"".join(by_pamqp(channel, content, 4096) for channel, content in contents))
        if data.draw(st.booleans()):
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
        at_once, byte_by_byte = Reading(), Reading()
        outcomes = []
        for reading, pieces in (at_once, [bytes(stream)]), (byte_by_byte, [bytes((one,)) for one in stream]):
            try:
                reading.feed(*pieces)
                outcomes.append(0)
            except FrameError as error:
                outcomes.append(error.code)
        self.assertEqual(outcomes[0], outcomes[1])
        self.assertEqual(at_once.events, byte_by_byte.events)

    @settings(max_examples=100)
    @given(st.binary(max_size=200))
    def test_a_stream_of_garbage_is_a_frame_error_or_unfinished(self, garbage: bytes) -> None:
        reading = Reading()
        try:
            reading.feed(garbage)
        except FrameError:
            return
        self.assertLess(len(garbage), 131072)

    @settings(max_examples=150)
    @given(TABLES)
    def test_tables_are_read_as_they_were_written(self, table: dict[str, Any]) -> None:
        data = encode_table(table)
        self.assertEqual(decode_table(data, 0, len(data)), (table, len(data)))


class InvalidOrderTests(SynchronousTestCase):
    PUBLISH = publish_prefix(1, "", "", False)

    def refused(self, code: int, *pieces: bytes, **limits: int) -> FrameError:
        with self.assertRaises(FrameError) as caught:
            Reading(**limits).feed(*pieces)
        self.assertEqual(caught.exception.code, code)
        error: FrameError = caught.exception
        return error

    def test_an_error_names_the_frame_and_the_channel(self) -> None:
        error = self.refused(505, raw_header(9, 0))
        self.assertEqual(str(error), "header without a method (channel 9, 505)")
        self.assertEqual(error.channel, 9)

    def test_another_protocol_is_named(self) -> None:
        self.assertIn("AMQP", str(self.refused(501, frames.PROTOCOL_HEADER)))
        self.assertIn("HTTP/1.1", str(self.refused(501, b"HTTP/1.1 400 Bad Request")))

    def test_a_frame_larger_than_negotiated_is_refused_before_it_is_complete(self) -> None:
        self.refused(501, raw(3, 1, bytes(4089))[:8], frame_max=4096)
        self.assertEqual(Reading(frame_max=4096).feed(raw(3, 1, bytes(4088))[:8]), [])

    def test_a_frame_without_its_end(self) -> None:
        self.refused(501, raw(8, 0, b"", b"\xcd"))

    def test_heartbeats_are_empty_and_on_channel_0(self) -> None:
        self.refused(501, raw(8, 1, b""))
        self.refused(501, raw(8, 0, b"x"))

    def test_unknown_methods_and_truncated_ones(self) -> None:
        self.refused(503, raw(1, 1, b"\0\0\0\0"))
        self.refused(502, raw(1, 1, b"\0\0"))
        self.refused(502, raw(1, 1, struct.pack(">I", 0x3C0050)))
        self.refused(502, raw(1, 1, struct.pack(">I", 0x3C0050) + bytes(10)))
        self.refused(502, raw(1, 1, struct.pack(">I", 0x14000B) + b"\0\0\0\x09x"))
        self.refused(502, raw(1, 1, struct.pack(">IB", 0x3C0015, 9) + b"short"))

    def test_a_message_needs_a_channel(self) -> None:
        self.refused(503, publish_prefix(0, "", "", False))
        self.refused(503, publish_prefix(8, "", "", False), channel_max=7)

    def test_a_message_is_method_header_body(self) -> None:
        header = raw_header(1, 2)
        self.refused(505, raw(3, 1, b"x"))
        self.refused(505, self.PUBLISH + raw(3, 1, b"x"))
        self.refused(505, self.PUBLISH + header + header)
        self.refused(505, self.PUBLISH + ack_frame(1, 1))
        self.refused(505, self.PUBLISH + header + ack_frame(1, 1))
        self.refused(501, self.PUBLISH + header + raw(3, 1, b"xxx"))

    def test_a_header_of_another_class_or_a_truncated_one(self) -> None:
        self.refused(502, self.PUBLISH + raw(2, 1, bytes(13)))
        self.refused(502, self.PUBLISH + raw_header(1, 0, kind=50))
        self.refused(502, self.PUBLISH + raw_header(1, 0, weight=1))
        self.assertEqual(self.refused(502, self.PUBLISH + raw_header(1, 0, b"\x80\0\x05a")).channel, 1)

    def test_a_body_over_the_limit_is_refused_at_its_header(self) -> None:
        self.refused(501, self.PUBLISH + raw_header(1, 11), body_max=10)

    def test_the_limit_applies_to_all_channels_together(self) -> None:
        other = publish_prefix(2, "", "", False)
        self.refused(501, self.PUBLISH + raw_header(1, 6) + other + raw_header(2, 5), body_max=10)

    def test_delivered_messages_do_not_count(self) -> None:
        one = self.PUBLISH + raw_header(1, 10) + raw(3, 1, bytes(10))
        self.assertEqual(len(Reading(body_max=10).feed(one * 3)), 3)

    def test_channels_may_interleave_and_empty_body_frames_are_harmless(self) -> None:
        other = publish_prefix(2, "", "", False)
        stream = (
            self.PUBLISH + other + raw_header(2, 2) + raw_header(1, 4) + raw(3, 1, b"ab") + raw(3, 2, b"")
        )
        events = Reading().feed(stream + ack_frame(3, 1) + raw(3, 2, b"xy") + raw(3, 1, b"cd"))
        self.assertEqual([event[0] for event in events], [3, 2, 1])
        self.assertEqual([event[3] for event in events[1:]], [b"xy", b"abcd"])

    def test_a_stream_byte_by_byte(self) -> None:
        message = content_frames(1, self.PUBLISH, b"\0\0", b"body", 4096)
        stream = message + frames.HEARTBEAT + message
        events = Reading().feed(*(stream[at : at + 1] for at in range(len(stream))))
        self.assertEqual([event[-1] for event in events], [b"body", "heartbeat", b"body"])
