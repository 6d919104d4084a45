"""Tables, short strings and properties of AMQP."""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.amqp_frames import (
    Reading,
    raw,
    raw_header,
)
from txmicro.amqp.errors import FrameError, InvalidArgument
from txmicro.amqp.fields import decode_table, encode_table
from txmicro.amqp.properties import Properties


class FieldTests(SynchronousTestCase):
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

    def test_values_nested_too_deeply_are_read_as_none(self) -> None:
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

    def test_values_that_a_table_cannot_hold_are_refused(self) -> None:
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

    def test_text_that_is_not_utf_8_does_not_close_the_connection(self) -> None:
        self.assertEqual(Properties.decode(b"\x80\x00\x02a\xff").content_type, "a\ufffd")
        deliver = raw(1, 1, struct.pack(">I", 0x3C003C) + b"\x01\xff" + b"\0" * 8 + b"\0\x01\xfe\x01\xfd")
        publish = raw(1, 2, struct.pack(">I", 0x3C0028) + b"\0\0\x01\xfe\x01\xfd\x03")
        close = raw(1, 3, struct.pack(">IHB", 0x140028, 404, 1) + b"\xc3" + b"\0\0\0\0")
        events = Reading().feed(deliver + raw_header(1, 0) + publish + raw_header(2, 0) + close)
        self.assertEqual(events.pop()[1][1]["reply_text"], "\ufffd")
        self.assertEqual([event[1][1]["routing_key"] for event in events], ["\ufffd", "\ufffd"])
        self.assertEqual((events[1][1][1]["mandatory"], events[1][1][1]["immediate"]), (True, True))

    def test_the_deprecated_cluster_id_is_skipped(self) -> None:
        self.assertEqual(Properties.decode(b"\x00\x0c\x01a\x02bc"), Properties(app_id="a"))

    def test_properties_are_compared_and_shown_by_their_fields(self) -> None:
        self.assertNotEqual(Properties(app_id="a"), Properties())
        self.assertNotEqual(Properties(), object())
        self.assertEqual(repr(Properties(app_id="a", priority=0)), "Properties(app_id='a', priority=0)")
