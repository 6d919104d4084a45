"""The frame reader and writers, against pamqp's."""

from __future__ import annotations

import datetime
import struct
import warnings
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import base, commands
from pamqp import body as pamqp_body
from pamqp import encode as pamqp_encode
from pamqp import frame as pamqp_frame
from pamqp import header as pamqp_header
from pamqp.heartbeat import Heartbeat
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp import frames
from txmicro.amqp.errors import FrameError, InvalidArgument
from txmicro.amqp.fields import decode_table, encode_table
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import (
    ack_frame,
    content_frames,
    deliver_frame,
    method_frame,
    publish_prefix,
    reject_frame,
)
from txmicro.amqp.methods import Ack, Content, Deliver, Publish
from txmicro.amqp.properties import Properties, PropertiesTemplate

PROPERTY = settings(derandomize=True, deadline=None, database=None)

Light = Deliver | Publish | Ack


class Reading:
    """A reader, and what it has called back."""

    def __init__(self, **limits: Any) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.reader = FrameReader(
            lambda channel, method: self.events.append((channel, fields(method))),
            lambda channel, method, properties, body: self.events.append(
                (channel, fields(method), properties, body)
            ),
            lambda: self.events.append(("heartbeat",)),
            **limits,
        )

    def feed(self, *pieces: bytes) -> list[tuple[Any, ...]]:
        for piece in pieces:
            self.reader.feed(piece)
        return self.events


def fields(method: base.Frame | Light) -> tuple[str, dict[str, Any]]:
    """A method's name and arguments, whoever's object it is."""
    names = [name for name in method.__slots__ if name != "ticket"]
    return type(method).__name__, {name: getattr(method, name) for name in names}


def raw(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def raw_header(
    channel: int, size: int, properties: bytes = b"\0\0", kind: int = 60, weight: int = 0
) -> bytes:
    return raw(2, channel, struct.pack(">HHQ", kind, weight, size) + properties)


SHORT = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)
SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.floats(width=32, allow_nan=False)
    | st.decimals(-999, 999, places=2)
    | st.datetimes(
        datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)
    ).map(lambda moment: moment.replace(microsecond=0))
    | st.binary(max_size=20).map(bytearray)
)
TABLES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.recursive(
        SIMPLE,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": st.integers(0, 255),
    "short": st.integers(0, 65535),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**63 - 1),
    "shortstr": SHORT,
    "longstr": st.text(max_size=300),
    "table": TABLES,
}
NAMES = st.text("abzAZ09-_.:@#,/+ ", max_size=100)
# What pamqp insists on.
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "ticket": st.just(0),
    "queue": NAMES,
    "exchange": NAMES,
    "source": NAMES,
    "destination": NAMES,
    "virtual_host": NAMES,
    "capabilities": st.just(""),
    "insist": st.just(False),
    "out_of_band": st.just("0"),
    "channel_id": st.just("0"),
    "known_hosts": st.just(""),
    "cluster_id": st.just(""),
}
CONTENT = (commands.Basic.Publish, commands.Basic.Return, commands.Basic.Deliver, commands.Basic.GetOk)
PROPERTIES = st.builds(
    Properties,
    **dict.fromkeys(
        (
            "content_type",
            "content_encoding",
            "correlation_id",
            "reply_to",
            "expiration",
            "message_id",
            "message_type",
            "user_id",
            "app_id",
        ),
        st.none() | SHORT.filter(bool),
    ),
    headers=st.none() | TABLES,
    delivery_mode=st.none() | st.sampled_from((1, 2)),
    priority=st.none() | st.integers(0, 255),
    timestamp=st.none() | st.integers(0, 2**32 - 1),
)


def methods(kind: type[base.Frame]) -> st.SearchStrategy[base.Frame]:
    """Any method of *kind*."""
    arguments = {name: BY_NAME.get(name, BY_TYPE[kind.amqp_type(name)]) for name in kind.attributes()}
    return st.builds(kind, **arguments)


METHODS = st.sampled_from([kind for kind in commands.INDEX_MAPPING.values() if kind not in CONTENT]).flatmap(
    methods
)
CONTENTS = st.builds(Content, st.sampled_from(CONTENT).flatmap(methods), PROPERTIES, st.binary(max_size=9000))
DELIVERIES = st.builds(Content, methods(commands.Basic.Deliver), PROPERTIES, st.binary(max_size=60))
THINGS = st.tuples(st.integers(1, 65535), METHODS | CONTENTS | st.just(Heartbeat()))


def as_pamqp(properties: Properties) -> commands.Basic.Properties:
    theirs = commands.Basic.Properties(
        **{name: getattr(properties, name) for name in Properties.__slots__ if name != "timestamp"}
    )
    if properties.timestamp is not None:
        theirs.timestamp = datetime.datetime.fromtimestamp(properties.timestamp, datetime.UTC)
    return theirs


def by_pamqp(channel: int, thing: base.Frame | Content | Heartbeat, frame_max: int) -> bytes:
    """The bytes that pamqp writes."""
    if not isinstance(thing, Content):
        return pamqp_frame.marshal(thing, channel)
    if isinstance(thing.method, Light):
        raise TypeError(thing.method)
    header = pamqp_header.ContentHeader(0, len(thing.body), as_pamqp(thing.properties))
    most = frame_max - 8
    chunks = [thing.body[start : start + most] for start in range(0, len(thing.body), most)]
    parts: list[Any] = [thing.method, header, *map(pamqp_body.ContentBody, chunks)]
    return b"".join(pamqp_frame.marshal(part, channel) for part in parts)


def expected(channel: int, thing: base.Frame | Content | Heartbeat) -> tuple[Any, ...]:
    if isinstance(thing, Heartbeat):
        return ("heartbeat",)
    if isinstance(thing, Content):
        return channel, fields(thing.method), thing.properties, thing.body
    return channel, fields(thing)


class AgainstPamqp(SynchronousTestCase):
    def setUp(self) -> None:
        warning = warnings.catch_warnings(action="ignore", category=DeprecationWarning)  # basic.recover-async
        warning.__enter__()
        self.addCleanup(warning.__exit__, None, None, None)

    @settings(PROPERTY, max_examples=150)
    @given(st.lists(THINGS, max_size=6), st.data())
    def test_any_split_of_any_stream_yields_what_was_written(
        self, things: list[tuple[int, Any]], data: st.DataObject
    ) -> None:
        stream = b"".join(by_pamqp(channel, thing, 4096) for channel, thing in things)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        self.assertEqual(Reading().feed(*pieces), [expected(*thing) for thing in things])

    @settings(PROPERTY, max_examples=100)
    @given(st.integers(1, 65535), CONTENTS.filter(lambda content: not has_float(content.properties.headers)))
    def test_the_writers_bytes_are_pamqps(self, channel: int, content: Content) -> None:
        if isinstance(content.method, Light):
            raise TypeError(content.method)
        content.properties.headers = in_pamqps_order(content.properties.headers)
        written = content_frames(
            channel, method_frame(channel, content.method), content.properties.encode(), content.body, 4096
        )
        self.assertEqual(written, by_pamqp(channel, content, 4096))

    @settings(PROPERTY)
    @given(st.integers(0, 65535), st.integers(0, 2**63 - 1), st.booleans(), SHORT, NAMES)
    def test_the_methods_written_by_hand_are_pamqps(
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

    @settings(PROPERTY, max_examples=200)
    @given(st.binary(max_size=60), st.sampled_from(sorted(commands.INDEX_MAPPING)))
    def test_a_method_of_garbage_is_read_or_is_a_frame_error(self, garbage: bytes, index: int) -> None:
        reading = Reading()
        try:
            reading.feed(raw(1, 1, struct.pack(">I", index) + garbage))
        except FrameError as error:
            self.assertEqual((error.channel, error.code), (1, 502))

    @settings(PROPERTY, max_examples=300)
    @given(st.binary(max_size=80))
    def test_properties_of_garbage_are_read_or_are_a_frame_error(self, garbage: bytes) -> None:
        try:
            Properties.decode(garbage)
        except FrameError as error:
            self.assertEqual(error.code, 502)

    @settings(PROPERTY, max_examples=300)
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

    @settings(PROPERTY, max_examples=150)
    @given(PROPERTIES, st.integers(0, 2**63 - 1))
    def test_a_form_is_filled_in_as_properties_are_encoded(self, properties: Properties, time: int) -> None:
        properties.timestamp = time
        properties.message_id = properties.message_id or None
        own = {"headers", "expiration", "message_id", "timestamp"}
        shared = {name: getattr(properties, name) for name in Properties.__slots__ if name not in own}
        filled = PropertiesTemplate(Properties(**shared)).fill(
            properties.message_id or "", time, properties.expiration, properties.headers
        )
        self.assertEqual(filled, properties.encode())

    @settings(PROPERTY, max_examples=500)
    @given(st.lists(st.tuples(st.integers(0, 3), DELIVERIES), min_size=1, max_size=3), st.data())
    def test_the_short_cut_for_deliveries_reads_what_the_long_way_reads(
        self, contents: list[tuple[int, Content]], data: st.DataObject
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

    @settings(PROPERTY, max_examples=100)
    @given(st.binary(max_size=200))
    def test_a_stream_of_garbage_is_a_frame_error_or_unfinished(self, garbage: bytes) -> None:
        reading = Reading()
        try:
            reading.feed(garbage)
        except FrameError:
            return
        self.assertLess(len(garbage), 131072)

    @settings(PROPERTY, max_examples=150)
    @given(TABLES)
    def test_tables_come_back_as_they_went(self, table: dict[str, Any]) -> None:
        data = encode_table(table)
        self.assertEqual(decode_table(data, 0, len(data)), (table, len(data)))


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


class Fields(SynchronousTestCase):
    def test_floats_keep_their_precision_and_bytes_stay_bytes(self) -> None:
        data = encode_table({"float": 0.1, "bytes": b"\xff\x00", "long": [b""]})
        self.assertEqual(
            decode_table(data, 0, len(data))[0], {"float": 0.1, "bytes": b"\xff\x00", "long": [b""]}
        )

    def test_a_table_of_every_type_is_read(self) -> None:
        items = (
            b"\x01at\x01" + b"\x01bb\xff" + b"\x01cB\xff" + b"\x01ds\xff\xff" + b"\x01eu\xff\xff"
            b"\x01fI\xff\xff\xff\xff" + b"\x01gi\xff\xff\xff\xff" + b"\x01hl" + b"\xff" * 8 + b"\x01iL"
            b"\x00\x00\x00\x00\x00\x00\x00\x01"
            + b"\x01jf\x3f\x80\x00\x00"
            + b"\x01kd"
            + struct.pack(">d", 0.1)
        ) + (
            b"\x01lD\x02\x00\x00\x00\x7b" + b"\x01mS\x00\x00\x00\x02\xc3\xa9" + b"\x01nS\x00\x00\x00\x01\xff"
            b"\x01oA\x00\x00\x00\x02t\x00" + b"\x01pT" + struct.pack(">Q", 1) + b"\x01qF\x00\x00\x00\x00"
            b"\x01rV" + b"\x01s\x00" + b"\x01xx\x00\x00\x00\x01\xfe"
        )
        data = struct.pack(">I", len(items)) + items
        self.assertEqual(
            decode_table(data, 0, len(data))[0],
            {
                "a": True,
                "b": -1,
                "c": 255,
                "d": -1,
                "e": 65535,
                "f": -1,
                "g": 2**32 - 1,
                "h": -1,
                "i": 1,
                "j": 1.0,
                "k": 0.1,
                "l": Decimal("1.23"),
                "m": "é",
                "n": b"\xff",
                "o": [False],
                "p": datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC),
                "q": {},
                "r": None,
                "s": None,
                "x": bytearray(b"\xfe"),
            },
        )

    def test_a_time_that_may_be_milliseconds_stays_a_number(self) -> None:
        for number in (2**32, 1795449588000, 2**64 - 1):
            data = b"\x00\x00\x00\x0b\x01tT" + struct.pack(">Q", number)
            self.assertEqual(decode_table(data, 0, len(data))[0], {"t": number})

    def test_what_is_nested_too_deeply_reads_as_none(self) -> None:
        deep: Any = {}
        for _ in range(100):
            deep = {"x": [deep]}
        data = encode_table(deep)
        value, depth = decode_table(data, 0, len(data))[0], 0
        while value is not None:
            value = value["x"] if isinstance(value, dict) else value[0]
            depth += 1
        self.assertEqual(depth, 65)

    def test_lengths_that_overrun_are_errors(self) -> None:
        for damaged in (
            b"",
            b"\x00\x00\x00",
            b"\x00\x00\x00\x01",
            b"\x00\x00\x00\x01\x05",
            b"\x00\x00\x00\x02\x01a",
            b"\x00\x00\x00\x03\x01at" + b"\x01",
            b"\x00\x00\x00\x04\x01aS\x00\x00\x00\x00\x00",
            b"\x00\x00\x00\x08\x01aS\x00\x00\x00\x02x" + b"y",
            b"\x00\x00\x00\x08\x01aA\x00\x00\x00\x02t" + b"\x01",
            b"\x00\x00\x00\x03\x01a?",
        ):
            with self.assertRaises(FrameError) as caught:
                decode_table(damaged, 0, len(damaged))
            self.assertEqual(caught.exception.code, 502)

    def test_what_a_table_cannot_hold_is_refused(self) -> None:
        loop: dict[str, Any] = {}
        loop["loop"] = loop
        long_ago = datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC)
        tables: list[Any] = [{"a": object()}, {"a": 2**64}, {1: 2}, {"x" * 256: 1}, {"t": long_ago}, [], loop]
        for table in tables:
            self.assertRaises(InvalidArgument, encode_table, table)

    def test_properties_that_cannot_be_sent_are_refused(self) -> None:
        for properties in (
            Properties(message_id="é" * 128),
            Properties(message_id=5),  # type: ignore[arg-type]
            Properties(message_id="\ud800"),
            Properties(priority=256),
            Properties(delivery_mode="2"),  # type: ignore[arg-type]
            Properties(timestamp=-1),
            Properties(timestamp=1.5),  # type: ignore[arg-type]
            Properties(headers="x"),  # type: ignore[arg-type]
        ):
            self.assertRaises(InvalidArgument, properties.encode)

    def test_malformed_properties_are_an_error(self) -> None:
        for damaged in (
            b"",
            b"\x80",
            b"\x80\x00",
            b"\x80\x00\x05abc",
            b"\x80\x00\x01ab",
            b"\x00\x40",
            b"\x00\x01",
        ):
            self.assertRaises(FrameError, Properties.decode, damaged)

    def test_text_that_is_no_utf_8_does_not_cost_the_connection(self) -> None:
        self.assertEqual(Properties.decode(b"\x80\x00\x02a\xff").content_type, "a\ufffd")
        deliver = raw(1, 1, struct.pack(">I", 0x3C003C) + b"\x01\xff" + b"\0" * 8 + b"\0\x01\xfe\x01\xfd")
        publish = raw(1, 2, struct.pack(">I", 0x3C0028) + b"\0\0\x01\xfe\x01\xfd\x03")
        close = raw(1, 3, struct.pack(">IHB", 0x140028, 404, 1) + b"\xc3" + b"\0\0\0\0")
        events = Reading().feed(deliver + raw_header(1, 0) + publish + raw_header(2, 0) + close)
        self.assertEqual(events.pop()[1][1]["reply_text"], "\ufffd")
        self.assertEqual([event[1][1]["routing_key"] for event in events], ["\ufffd", "\ufffd"])
        self.assertEqual((events[1][1][1]["mandatory"], events[1][1][1]["immediate"]), (True, True))

    def test_the_deprecated_cluster_id_is_read_past(self) -> None:
        self.assertEqual(Properties.decode(b"\x00\x0c\x01a\x02bc"), Properties(app_id="a"))

    def test_properties_are_compared_and_shown_by_their_fields(self) -> None:
        self.assertNotEqual(Properties(app_id="a"), Properties())
        self.assertNotEqual(Properties(), object())
        self.assertEqual(repr(Properties(app_id="a", priority=0)), "Properties(app_id='a', priority=0)")


class OutOfOrder(SynchronousTestCase):
    PUBLISH = publish_prefix(1, "", "", False)

    def refused(self, code: int, *pieces: bytes, **limits: int) -> FrameError:
        with self.assertRaises(FrameError) as caught:
            Reading(**limits).feed(*pieces)
        self.assertEqual(caught.exception.code, code)
        error: FrameError = caught.exception
        return error

    def test_an_error_says_what_and_where(self) -> None:
        error = self.refused(505, raw_header(9, 0))
        self.assertEqual(str(error), "header without a method (channel 9, 505)")
        self.assertEqual(error.channel, 9)

    def test_another_protocol_is_named(self) -> None:
        self.assertIn("AMQP", str(self.refused(501, frames.PROTOCOL_HEADER)))
        self.assertIn("HTTP/1.1", str(self.refused(501, b"HTTP/1.1 400 Bad Request")))

    def test_a_frame_larger_than_agreed_is_refused_before_it_has_come(self) -> None:
        self.refused(501, raw(3, 1, bytes(4089))[:8], frame_max=4096)
        self.assertEqual(Reading(frame_max=4096).feed(raw(3, 1, bytes(4088))[:8]), [])

    def test_a_frame_without_its_end(self) -> None:
        self.refused(501, raw(8, 0, b"", b"\xcd"))

    def test_heartbeats_are_empty_and_on_channel_0(self) -> None:
        self.refused(501, raw(8, 1, b""))
        self.refused(501, raw(8, 0, b"x"))

    def test_unknown_methods_and_cut_ones(self) -> None:
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

    def test_a_header_of_another_class_or_cut(self) -> None:
        self.refused(502, self.PUBLISH + raw(2, 1, bytes(13)))
        self.refused(502, self.PUBLISH + raw_header(1, 0, kind=50))
        self.refused(502, self.PUBLISH + raw_header(1, 0, weight=1))
        self.assertEqual(self.refused(502, self.PUBLISH + raw_header(1, 0, b"\x80\0\x05a")).channel, 1)

    def test_a_body_over_the_limit_is_refused_at_its_header(self) -> None:
        self.refused(501, self.PUBLISH + raw_header(1, 11), body_max=10)

    def test_the_limit_holds_for_all_channels_together(self) -> None:
        other = publish_prefix(2, "", "", False)
        self.refused(501, self.PUBLISH + raw_header(1, 6) + other + raw_header(2, 5), body_max=10)

    def test_what_is_delivered_counts_no_more(self) -> None:
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


class Writers(SynchronousTestCase):
    def test_arguments_that_pamqp_cannot_write_are_refused(self) -> None:
        for method in (
            commands.Basic.Ack("x"),  # type: ignore[arg-type]
            commands.Basic.CancelOk("x" * 256),
            commands.Connection.Blocked(None),  # type: ignore[arg-type]
        ):
            self.assertRaises(InvalidArgument, method_frame, 1, method)
        self.assertRaises(InvalidArgument, method_frame, -1, commands.Basic.Ack())

    def test_names_that_are_too_long_are_refused(self) -> None:
        self.assertRaises(InvalidArgument, publish_prefix, 1, "x" * 256, "", False)
        self.assertRaises(InvalidArgument, deliver_frame, 1, Deliver("", 1, False, "", "x" * 256))

    def test_an_empty_body_has_no_frame(self) -> None:
        written = content_frames(1, b"", b"\0\0", b"", 4096)
        self.assertEqual(written, raw_header(1, 0))

    def test_a_body_is_split_at_the_agreed_size(self) -> None:
        for size in (4088, 4089):
            frame_sizes = []
            written = content_frames(1, b"", b"\0\0", bytes(size), 4096)[len(raw_header(1, 0)) :]
            while written:
                (length,) = struct.unpack(">I", written[3:7])
                frame_sizes.append(length + 8)
                written = written[length + 8 :]
            self.assertEqual(frame_sizes, [4096] if size == 4088 else [4096, 9])

    def test_pamqp_would_have_lost_precision(self) -> None:
        # The reason for a writer of our own; if pamqp changes, it may go.
        self.assertEqual(pamqp_encode.encode_table_value(0.1)[:1], b"f")
