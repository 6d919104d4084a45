from __future__ import annotations

import json
import math
from collections import OrderedDict, UserDict, namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import bson
import msgpack
from bson import json_util
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError, EncodeError
from txmicro.protocol.codec.base import Codec
from txmicro.protocol.codec.bson import BSON
from txmicro.protocol.codec.extended import MAX_BITS, MAX_DEPTH
from txmicro.protocol.codec.formats import by_content_type, by_name
from txmicro.protocol.codec.json import JSON, STRICT_JSON
from txmicro.protocol.codec.messagepack import MESSAGEPACK

CODECS = (JSON, BSON, MESSAGEPACK)
WHEN = datetime(2026, 11, 23, 17, 49, 35, 123000, tzinfo=UTC)
Point = namedtuple("Point", "x y")


class StrictTests(SynchronousTestCase):
    def test_a_number_that_is_not_a_float_is_refused(self) -> None:
        for number in (b"1e400", b"-1e400", b"1" + b"0" * 400 + b".0"):
            with self.assertRaises(DecodeError) as raised:
                STRICT_JSON.decode(b'{"a": %b}' % number)
            self.assertIn("larger than a 64-bit float", str(raised.exception))
        self.assertEqual(STRICT_JSON.decode(b'{"a": 1.5, "b": 1e-400}'), {"a": 1.5, "b": 0.0})


class Color(Enum):
    RED = 1


class Level(IntEnum):
    HIGH = 3


class Word(str, Enum):  # noqa: UP042 - StrEnum has a __str__ of its own
    YES = "yes"


# Each value, with the results of JSON, BSON and MessagePack. SAME: the value itself; REFUSED: EncodeError.
SAME: Any = object()
REFUSED: Any = object()
TABLE: list[tuple[str, Any, Any, Any, Any]] = [
    ("none", None, SAME, SAME, SAME),
    ("bool", True, SAME, SAME, SAME),
    ("text", "naïve ☃ 😀 \0 \u2028", SAME, SAME, SAME),
    ("a subclass of text", Word.YES, "yes", "yes", "yes"),
    ("half a surrogate pair", "\ud800", REFUSED, REFUSED, REFUSED),
    ("integer", -7, SAME, SAME, SAME),
    ("a subclass of int", Level.HIGH, 3, 3, 3),
    ("2**53 + 1", 2**53 + 1, SAME, SAME, SAME),
    ("the largest of 64 bits", 2**63 - 1, SAME, SAME, SAME),
    ("the smallest of 64 bits", -(2**63), SAME, SAME, SAME),
    ("unsigned 64 bits", 2**64 - 1, SAME, SAME, SAME),
    ("over 64 bits", -(2**200), SAME, SAME, SAME),
    ("the largest integer", 2**MAX_BITS - 1, SAME, SAME, SAME),
    ("a larger one", 2**15_000, REFUSED, REFUSED, REFUSED),
    ("float", 0.1, SAME, SAME, SAME),
    ("negative zero", -0.0, SAME, SAME, SAME),
    ("smallest float", 5e-324, SAME, SAME, SAME),
    ("NaN", math.nan, SAME, SAME, SAME),
    ("infinity", math.inf, SAME, SAME, SAME),
    ("negative infinity", -math.inf, SAME, SAME, SAME),
    ("bytes", b"\x00\xff$", SAME, SAME, SAME),
    ("no bytes", b"", SAME, SAME, SAME),
    ("bytearray", bytearray(b"ab"), b"ab", b"ab", b"ab"),
    ("memoryview", memoryview(b"ab"), b"ab", b"ab", b"ab"),
    ("datetime", WHEN, SAME, SAME, SAME),
    ("microseconds", WHEN.replace(microsecond=123456), SAME, WHEN, SAME),
    ("naive datetime", WHEN.replace(tzinfo=None), WHEN, WHEN, WHEN),
    ("another zone", WHEN.astimezone(timezone(timedelta(hours=5, minutes=30))), WHEN, WHEN, WHEN),
    ("before 1970", datetime(1, 1, 1, tzinfo=UTC), SAME, SAME, SAME),
    ("far future", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), SAME, SAME, SAME),
    (
        "out of range in UTC",
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        REFUSED,
        REFUSED,
        REFUSED,
    ),
    ("list", [1, [2, []]], SAME, SAME, SAME),
    ("tuple", (1, (2, ())), [1, [2, []]], [1, [2, []]], [1, [2, []]]),
    ("named tuple", Point(1, 2), [1, 2], [1, 2], [1, 2]),
    ("dict", {"": {"a.b": {"c$": 1}}}, SAME, SAME, SAME),
    ("ordered dict", OrderedDict(b=1, a=2), SAME, SAME, SAME),
    ("mapping", UserDict(a=1), {"a": 1}, {"a": 1}, {"a": 1}),
    ("integer keys", {1: "a", "1": "b"}, SAME, SAME, SAME),
    ("integer keys below an ordered dict", OrderedDict(a={1: 2}), SAME, SAME, SAME),
    ("large integer keys", {2**70: 1}, SAME, SAME, SAME),
    ("other scalars for keys", {None: 1, False: 2, 1.5: 3, b"x": 4, WHEN: 5}, SAME, SAME, SAME),
    ("NUL in a key", {"a\0b": 1}, SAME, SAME, SAME),
    ("subclass of text for a key", {Word.YES: 1}, {"yes": 1}, {"yes": 1}, {"yes": 1}),
    ("tuple for a key", {(1, ("a", b"b")): [1]}, SAME, SAME, SAME),
    ("invalid text for a key", {"\udc00": 1}, REFUSED, REFUSED, REFUSED),
    ("frozenset for a key", {frozenset(): 1}, REFUSED, REFUSED, REFUSED),
    ("a query of MongoDB's", {"year": {"$gt": 5}, "$or": []}, SAME, SAME, SAME),
    ("a user's $binary", {"$binary": {"base64": "AA==", "subType": "00"}}, SAME, SAME, SAME),
    ("a user's $date", {"$date": 1}, SAME, SAME, SAME),
    ("a user's $numberDouble", {"$numberDouble": "1"}, SAME, SAME, SAME),
    ("a user's $integer", {"$integer": "1"}, SAME, SAME, SAME),
    ("a user's $map", {"$map": [["$map", {"$map": []}]]}, SAME, SAME, SAME),
    ("a user's $map beside bytes", [{"$map": []}, b"x", {"$map": 1, "a": 1}], SAME, SAME, SAME),
    ("a DBRef in looks", {"$ref": "a", "$id": {"$id": 1, "$ref": 2}}, SAME, SAME, SAME),
    ("a JSON schema", {"$ref": "#/a"}, SAME, SAME, SAME),
    ("text that looks reserved", "$map", SAME, SAME, SAME),
    ("set", {1}, REFUSED, REFUSED, REFUSED),
    ("decimal", Decimal("1.5"), REFUSED, REFUSED, REFUSED),
    ("fraction", Fraction(1, 2), REFUSED, REFUSED, REFUSED),
    ("complex", 1j, REFUSED, REFUSED, REFUSED),
    ("date", date(2026, 1, 1), REFUSED, REFUSED, REFUSED),
    ("duration", timedelta(1), REFUSED, REFUSED, REFUSED),
    ("UUID", UUID(int=1), REFUSED, REFUSED, REFUSED),
    ("enum", Color.RED, REFUSED, REFUSED, REFUSED),
    ("object", object(), REFUSED, REFUSED, REFUSED),
    ("function", len, REFUSED, REFUSED, REFUSED),
    ("extension type", msgpack.ExtType(5, b""), [5, b""], [5, b""], SAME),
    (
        "extension type beside a tuple for a key",
        [msgpack.ExtType(5, b""), {(1,): 2}, 2**70],
        [[5, b""], {(1,): 2}, 2**70],
        [[5, b""], {(1,): 2}, 2**70],
        SAME,
    ),
    ("ObjectId", bson.ObjectId("0" * 24), REFUSED, SAME, REFUSED),
    ("ObjectId beside a large integer", [bson.ObjectId("0" * 24), 2**70], REFUSED, SAME, REFUSED),
    ("BSON's code", bson.Code("x"), "x", SAME, "x"),
]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary()
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(["$map", "$date", "$ref", "$id", "$gt"])
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = SCALARS | st.tuples(SCALARS, SCALARS)
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)


VALUES = st.recursive(SCALARS, containers, max_leaves=12)


def nested(depth: int, inner: Any = 1) -> Any:
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


def exact(one: Any, other: Any) -> bool:
    """Return whether both are equal, with equal types on all levels. True differs from 1, and NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return exact(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)) and isinstance(other, type(one)):
        return len(one) == len(other) and all(map(exact, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


class Survival(SynchronousTestCase):
    def check(self, codec: Codec, name: str, value: Any, expected: Any) -> None:
        if expected is REFUSED:
            error = self.assertRaises(EncodeError, codec.encode, {"data": {"rows": [0, value]}})
            self.assertTrue(error.message.startswith("data.rows[1]"), f"{name}: {error.message}")
            return
        expected = value if expected is SAME else expected
        result = codec.decode(codec.encode({"data": {"rows": [0, value]}}))
        self.assertTrue(exact(result, {"data": {"rows": [0, expected]}}), f"{name}: {result!r:.200}")

    def test_json(self) -> None:
        for name, value, expected, _, _ in TABLE:
            self.check(JSON, name, value, expected)

    def test_bson(self) -> None:
        for name, value, _, expected, _ in TABLE:
            self.check(BSON, name, value, expected)

    def test_messagepack(self) -> None:
        for name, value, _, _, expected in TABLE:
            self.check(MESSAGEPACK, name, value, expected)

    def test_a_hundred_levels_of_anything(self) -> None:
        for codec in CODECS:
            for inner in (1, b"bytes", 2**70, math.nan, {"$map": 1}, {1: 2}):
                value = {"data": nested(100, inner)}
                self.assertTrue(exact(codec.decode(codec.encode(value)), value), (codec.name, inner))

    def test_keys_that_are_not_text_a_hundred_levels_deep(self) -> None:
        value: dict[Any, Any] = {}
        for _ in range(100):
            value = {1: value}
        for codec in CODECS:
            self.assertEqual(codec.decode(codec.encode(value)), value)

    def test_a_value_that_is_too_deep_is_a_typed_error(self) -> None:
        for codec in CODECS:
            for depth in (3_000, 100_000):
                error = self.assertRaises(EncodeError, codec.encode, {"data": nested(depth)})
                self.assertIn(f"nested more than {MAX_DEPTH} levels deep", error.message)
                self.assertTrue(error.message.startswith("data"), error.message)
                self.assertLess(len(error.message), 400)

    def test_a_value_in_itself_is_a_typed_error(self) -> None:
        loop: dict[str, Any] = {}
        loop["loop"] = [loop]
        for codec in CODECS:
            error = self.assertRaises(EncodeError, codec.encode, loop)
            self.assertIn("or in itself", error.message)

    def test_sixteen_mebibytes(self) -> None:
        size = 16 << 20
        for codec in CODECS:
            value = {"data": {"text": "x" * size}}
            self.assertTrue(codec.decode(codec.encode(value)) == value, codec.name)
            binary = {"data": {"bytes": b"\x80$" * (size // 2)}}
            self.assertTrue(codec.decode(codec.encode(binary)) == binary, codec.name)

    def test_a_codec_works_after_a_refusal(self) -> None:
        for codec in CODECS:
            fresh = codec.encode({"a": 1})
            self.assertRaises(EncodeError, codec.encode, {"a": [1, {2}]})
            self.assertRaises(EncodeError, codec.encode, {"a": nested(3_000)})
            self.assertEqual(codec.encode({"a": 1}), fresh)

    @settings(max_examples=150)
    @given(VALUES)
    def test_every_value_of_the_table_in_random_structures(self, value: Any) -> None:
        for codec in CODECS:
            self.assertEqual(codec.decode(codec.encode({"data": value})), {"data": value}, codec.name)


class OnTheWire(SynchronousTestCase):
    """Tests the encoded bytes, which other programs read."""

    def test_json_is_strict_compact_and_utf8(self) -> None:
        self.assertEqual(JSON.encode({"a": [1, "é"], "b": None}), '{"a":[1,"é"],"b":null}'.encode())

    def test_json_encodes_nan_so_that_strict_parsers_can_read_it(self) -> None:
        text = JSON.encode({"a": math.nan, "b": math.inf, "c": -math.inf})

        def refuse(name: str) -> None:
            raise AssertionError(name)

        self.assertEqual(
            json.loads(text, parse_constant=refuse),
            {
                "a": {"$numberDouble": "NaN"},
                "b": {"$numberDouble": "Infinity"},
                "c": {"$numberDouble": "-Infinity"},
            },
        )

    def test_json_uses_extended_json(self) -> None:
        self.assertEqual(
            json.loads(JSON.encode({"bytes": b"\x00\xff", "when": WHEN, "keys": {1: "a"}})),
            {
                "bytes": {"$binary": {"base64": "AP8=", "subType": "00"}},
                "when": {"$date": "2026-11-23T17:49:35.123000Z"},
                "keys": {"$map": [[1, "a"]]},
            },
        )

    def test_pymongo_reads_our_extended_json(self) -> None:
        value = {"bytes": b"\x00\xff", "when": WHEN, "number": math.inf}
        options = json_util.JSONOptions(tz_aware=True, tzinfo=UTC)
        self.assertEqual(json_util.loads(JSON.encode(value), json_options=options), value)

    def test_messagepack_uses_its_own_bytes_and_timestamps(self) -> None:
        data = MESSAGEPACK.encode({"a": b"x", "b": WHEN, "c": {1: 2}})
        self.assertEqual(
            msgpack.unpackb(data, timestamp=3, strict_map_key=False), {"a": b"x", "b": WHEN, "c": {1: 2}}
        )

    def test_large_integers_are_text_in_binary_formats(self) -> None:
        expected = {"a": {"$integer": str(2**64)}}
        self.assertEqual(msgpack.unpackb(MESSAGEPACK.encode({"a": 2**64})), expected)
        self.assertEqual(bson.decode(BSON.encode({"a": 2**64})), expected)
        self.assertEqual(json.loads(JSON.encode({"a": 2**64})), {"a": 2**64})

    def test_a_dbref_of_a_mongodb_program_is_the_object_it_is_on_the_wire(self) -> None:
        data = bson.encode({"a": bson.DBRef("films", 1)})
        self.assertEqual(BSON.decode(data), {"a": {"$ref": "films", "$id": 1}})

    def test_dates_and_numbers_of_other_programs(self) -> None:
        data = b'{"a":{"$date":"2026-11-23T18:49:35.123+01:00"},"b":{"$date":"2026-11-23T17:49:35.123"}}'
        self.assertEqual(JSON.decode(data), {"a": WHEN, "b": WHEN})
        self.assertEqual(JSON.decode(b'{"a":{"$numberDouble":"1.5"}}'), {"a": 1.5})


class Refusal(SynchronousTestCase):
    def test_the_message_names_the_place_and_the_type(self) -> None:
        for codec in CODECS:
            value = {"data": {"rows": [1, 2, 3, {"when": {1, 2}}]}}
            error = self.assertRaises(EncodeError, codec.encode, value)
            self.assertEqual(
                error.message,
                f"data.rows[3].when: {codec.name} cannot carry set; convert it to a value of JSON, bytes or a date",
            )

    def test_keys_that_are_not_names_are_quoted(self) -> None:
        error = self.assertRaises(EncodeError, JSON.encode, {"data": {"a b": {7: {"\ud800": {1}}}}})
        self.assertEqual(error.message, "data['a b'][7]['\\ud800']: text with half a surrogate pair")

    def test_the_top_must_be_an_object(self) -> None:
        for codec in (JSON, BSON, MESSAGEPACK):
            for value in ({1}, object()):
                error = self.assertRaises(EncodeError, codec.encode, value)
                self.assertEqual(error.message, f"expected an object at the top, got {type(value).__name__}")

    def test_an_error_of_the_whole_object_is_a_typed_error(self) -> None:
        class Full(type(JSON)):  # type: ignore[misc]
            def _pack(self, value: Any) -> bytes:
                raise OverflowError("document too large")

        error = self.assertRaises(EncodeError, Full().encode, {})
        self.assertEqual(error.message, "JSON cannot carry this value: document too large")


class Garbage(SynchronousTestCase):
    def refused(self, codec: Codec, *samples: bytes) -> None:
        for data in samples:
            self.assertRaises(DecodeError, codec.decode, data)

    def test_bytes_that_no_format_accepts(self) -> None:
        for codec in CODECS:
            whole = codec.encode({"a": [1, "text", b"bytes", WHEN, 2**70]})
            self.refused(codec, b"", b"\x00", b"\xff" * 40, whole[:-1], whole + b"\x01", whole[1:])

    def test_every_truncation_of_a_message(self) -> None:
        for codec in CODECS:
            whole = codec.encode({"a": [1, "text", b"bytes", WHEN, 2**70]})
            self.refused(codec, *(whole[:length] for length in range(len(whole))))

    def test_only_objects_at_the_top(self) -> None:
        self.refused(JSON, b"[]", b"1", b'"a"', b"null", b'{"$date": "2026-11-23"}')
        self.refused(MESSAGEPACK, b"\x90", b"\x01", b"\xa1a", b"\xc0")

    def test_json_that_is_not_strict(self) -> None:
        self.refused(
            JSON, b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b"{} {}", b"{'a': 1}", b'{"a": 01}'
        )
        self.refused(JSON, b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'.encode("utf-16"), b'{"a": "\xff"}')

    def test_json_with_half_a_surrogate_pair(self) -> None:
        self.refused(JSON, rb'{"a": "\ud800"}', rb'{"a": "\uDC00x"}', rb'{"\ud800": 1}')
        self.assertEqual(JSON.decode(rb'{"a": "\ud83d\ude00"}'), {"a": "😀"})

    def test_integers_that_take_too_long_to_read(self) -> None:
        self.refused(JSON, b'{"a": %s}' % (b"1" * 5_000), b'{"a": {"$integer": "%s"}}' % (b"1" * 5_000))

    def test_very_deep_nesting(self) -> None:
        for depth in (2_000, 100_000):
            self.refused(JSON, b'{"a":' * depth + b"1" + b"}" * depth, b'{"a":' + b"[" * depth)
            self.refused(MESSAGEPACK, b"\x81\xa1a" * depth + b"\x01", b"\x81\xa1a" + b"\x91" * depth)
        document = b"\x05\x00\x00\x00\x00"
        for _ in range(20_000):
            document = (len(document) + 8).to_bytes(4, "little") + b"\x03a\x00" + document + b"\x00"
        self.refused(BSON, document)

    def test_very_deep_nesting_in_reserved_words(self) -> None:
        self.refused(JSON, b'{"a":' + b'{"$map":[[1,' * 900 + b"1" + b"]]}" * 900 + b"}")

    def test_wrong_lengths(self) -> None:
        self.refused(
            MESSAGEPACK,
            *(b"\x81\xa1a" + kind + b"\xff\xff\xff\xff" for kind in (b"\xc6", b"\xdb", b"\xdd", b"\xdf")),
        )
        self.refused(BSON, b"\xff\xff\xff\x7f\x00", b"\x0c\x00\x00\x00\x02a\x00\xff\xff\xff\x7f\x00")

    def test_invalid_messagepack(self) -> None:
        self.refused(MESSAGEPACK, b"\x81\xa1a\xc1")  # never used
        self.refused(MESSAGEPACK, b"\x81\x81\x01\x02\x03")  # a key that is a map
        self.refused(MESSAGEPACK, b"\x81\xa1a\xa1\xff")  # text that is not UTF-8

    def test_timestamps_out_of_range(self) -> None:
        self.refused(MESSAGEPACK, b"\x81\xa1a\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8)
        data = bytearray(bson.encode({"a": WHEN}))
        data[7:15] = b"\x7f" * 8
        self.refused(BSON, bytes(data))

    def test_reserved_words_with_wrong_content(self) -> None:
        for inside in (
            b'"$binary":1',
            b'"$binary":{}',
            b'"$binary":{"base64":"%"}',
            b'"$date":1',
            b'"$date":"today"',
            b'"$date":"0001-01-01T00:00:00+01:00"',
            b'"$numberDouble":"x"',
            b'"$numberDouble":[]',
            b'"$integer":1',
            b'"$integer":"x"',
            b'"$map":1',
            b'"$map":[1]',
            b'"$map":[[1]]',
            b'"$map":[[{},1]]',
        ):
            self.refused(JSON, b'{"a":{' + inside + b"}}")

    @settings(max_examples=300)
    @given(st.binary(max_size=60))
    def test_any_bytes_are_an_object_or_a_typed_error(self, data: bytes) -> None:
        for codec in CODECS:
            try:
                self.assertIsInstance(codec.decode(data), dict)
            except DecodeError as error:
                self.assertLess(len(str(error)), 400)


class Choice(SynchronousTestCase):
    def test_by_name_in_any_case(self) -> None:
        for names, codec in (
            ("JSON json", JSON),
            ("BSON bson", BSON),
            ("MessagePack msgpack MSGPACK", MESSAGEPACK),
        ):
            for name in names.split():
                self.assertIs(by_name(name), codec)
        self.assertRaises(KeyError, by_name, "pickle")

    def test_by_content_type(self) -> None:
        for codec in CODECS:
            self.assertIs(by_content_type(codec.content_type), codec)
        for wrong in ("application/x-python-pickle", "", "APPLICATION/JSON", None):
            self.assertRaises(DecodeError, by_content_type, wrong)
