from __future__ import annotations

from math import inf, nan
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.grouping import normalize
from txmicro.monitoring.records import KINDS, RAN, Record
from txmicro.page.memory.cleaning import LONGEST_MESSAGE, clean

NOW = 1795449588.25


class CleanTests(SynchronousTestCase):
    def cleaned(self, **fields: Any) -> Record:
        given: dict[str, Any] = {"kind": RAN, "time": 10.0, "job": "a-1", **fields}
        [record] = clean([Record(**given)], NOW)
        return record

    def test_a_record_that_is_valid_stays_as_it_is(self) -> None:
        record = Record(
            RAN, 10.5, "a-1", 2, "A:*", "A:1", "durable", 3, 0.5, 0.25, "failed", "E", "m", "t", "x"
        )
        self.assertEqual(clean([record], NOW), [record])

    def test_records_of_an_unknown_kind_or_of_no_job_are_left_out(self) -> None:
        self.assertEqual(clean([Record("flown", 1.0, "a"), Record(RAN, 1.0, "")], NOW), [])
        self.assertEqual(len(clean([Record(kind, 1.0, "a") for kind in KINDS], NOW)), len(KINDS))

    def test_a_time_that_is_not_one_becomes_now(self) -> None:
        times: list[Any] = [nan, inf, -inf, -1.0, 1e300, 10**400, "10", None]
        self.assertEqual([self.cleaned(time=each).time for each in times], [NOW] * len(times))

    def test_seconds_that_are_not_valid_are_unknown_or_bounded(self) -> None:
        values: list[Any] = [nan, inf, "1", None, -5.0, 1e300, True]
        expected = [None, None, None, None, 0.0, 1e9, 1.0]
        self.assertEqual([self.cleaned(wait=each).wait for each in values], expected)
        self.assertEqual([self.cleaned(seconds=each).seconds for each in values], expected)

    def test_counts_are_bounded(self) -> None:
        values: list[Any] = [-1, 10**30, "1", 1.5, None]
        self.assertEqual([self.cleaned(hop=each).hop for each in values], [0, 10**6, 0, 0, 0])
        self.assertEqual([self.cleaned(attempt=each).attempt for each in values], [0, 10**6, 0, 0, 0])

    def test_long_texts_are_cut(self) -> None:
        long = "x" * 10**6
        names = ("job", "address", "worker", "lane", "outcome", "error", "message", "trace", "text")
        record = self.cleaned(**dict.fromkeys(names, long))
        self.assertLess(sum(len(getattr(record, name)) for name in names), 6_000)
        self.assertEqual(len(record.message), LONGEST_MESSAGE)

    def test_control_characters_and_surrogates_are_escaped(self) -> None:
        self.assertEqual(self.cleaned(message="a\0b\x1b[2J\ud800").message, "a\\x00b\\x1b[2J\\ud800")
        self.assertEqual(self.cleaned(error="a\nb\u2028").error, "a\\nb\\u2028")
        self.assertEqual(len(self.cleaned(message="\0" * LONGEST_MESSAGE).message), LONGEST_MESSAGE)

    def test_a_message_may_have_lines(self) -> None:
        self.assertEqual(self.cleaned(text="a\n\tb\r\n\0").text, "a\n\tb\r\n\\x00")

    def test_a_message_is_in_the_same_group_before_and_after(self) -> None:
        message = "a\n\tb 7\r\n\x1b[2J \x85\u2028\ud800 'c\0'  "
        self.assertEqual(normalize(self.cleaned(message=message).message), normalize(message))

    def test_a_text_that_is_not_one_is_empty(self) -> None:
        nothing: Any = {"a": 1}
        self.assertEqual(self.cleaned(error=nothing, text=7).error, "")
