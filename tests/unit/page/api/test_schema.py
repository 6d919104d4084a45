"""The schemas of parameters and bodies."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.page.api.schema import (
    BODY,
    BOOLEAN,
    Invalid,
    Schema,
    array,
    check,
    choice,
    number,
    one_of,
    read,
    record,
    text,
    whole,
)


class SchemaTests(SynchronousTestCase):
    def refused(self, schema: Schema, value: Any) -> str:
        return str(self.assertRaises(Invalid, check, schema, value, "x"))

    def unread(self, schema: Schema, *values: str) -> None:
        for value in values:
            self.assertRaises(Invalid, read, schema, value, "x")

    def test_whole_numbers(self) -> None:
        schema = whole(1, 500)
        self.assertEqual([read(schema, value, "x") for value in ("1", "500")], [1, 500])
        self.unread(schema, "", "0", "501", "-1", "+1", "1.0", " 1", "1_0", "٣", "0x1", "1e2", "9" * 30)
        self.assertEqual(self.refused(schema, 0), "x: 0 is not valid; expected a whole number from 1 to 500")
        self.refused(schema, True)

    def test_numbers(self) -> None:
        schema = number(high=1e11)
        self.assertEqual([read(schema, each, "x") for each in ("0", "1.5", "1e3")], [0.0, 1.5, 1000.0])
        self.unread(schema, "", "-1", "nan", "inf", "1e999", "100000000001", "1,5", "0x1")
        self.assertIn("expected a number from 0 to 1e+11", self.refused(schema, -1))

    def test_texts(self) -> None:
        schema = text(3, pattern="^[a-z]*$", shortest=1)
        self.assertEqual(read(schema, "abc", "x"), "abc")
        self.unread(schema, "", "abcd", "A", "a\n")
        self.assertIn("expected a text of 1 to 3 characters", self.refused(schema, ""))
        self.assertIn("a text that matches ^[a-z]*$", self.refused(schema, "A"))
        self.refused(schema, 1)

    def test_choices_and_booleans(self) -> None:
        self.assertEqual(read(choice("a", "b"), "b", "x"), "b")
        self.unread(choice("a", "b"), "c", "", "A")
        self.assertEqual([read(BOOLEAN, "true", "x"), read(BOOLEAN, "false", "x")], [True, False])
        self.unread(BOOLEAN, "1", "True", "")

    def test_lists(self) -> None:
        schema = array(text(2), 2)
        check(schema, ["a", "b"], "x")
        for value in ([], ["a", "b", "c"], "ab", {"a": 1}, None):
            self.assertEqual(self.refused(schema, value), "x: expected a list of 1 to 2 items")
        self.assertIn("x[1]: 'long' is not valid", self.refused(schema, ["a", "long"]))

    def test_objects(self) -> None:
        schema = record({"a": text(2)}, {"b": record({}, {"c": BOOLEAN})})
        check(schema, {"a": "", "b": {"c": True}}, "x")
        self.assertEqual(self.refused(schema, {}), "x: a is missing")
        self.assertEqual(self.refused(schema, {"a": "", "d": 1}), "x: 'd' is not a valid name; expected a, b")
        self.assertIn("x.b.c: 1 is not valid", self.refused(schema, {"a": "", "b": {"c": 1}}))
        self.assertIn("x: a list is not valid", self.refused(schema, []))
        error = self.assertRaises(Invalid, check, schema, {"a": 1}, BODY)
        self.assertTrue(str(error).startswith("a: 1 is not valid"))

    def test_exactly_one_of_several(self) -> None:
        schema = one_of(record({}, {"a": BOOLEAN, "b": BOOLEAN, "c": BOOLEAN}), ["a", "b"])
        check(schema, {"a": True, "c": True}, "x")
        for value in ({}, {"a": True, "b": True}, {"c": True}):
            self.assertEqual(self.refused(schema, value), "x: expected exactly one of a, b")

    def test_an_error_does_not_repeat_a_long_value(self) -> None:
        for value in ("x" * 10_000, ["x"] * 10_000, {"x" * 10_000: 1}):
            for schema in (text(2), whole(), record({"a": BOOLEAN})):
                self.assertLess(len(self.refused(schema, value)), 150)
