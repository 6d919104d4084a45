"""Watches and reports: they arrive as they were sent, and bad ones are refused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError
from txmicro.monitoring.quantiles import COUNTS
from txmicro.monitoring.records import Record
from txmicro.monitoring.report import Numbers, Report, Watch, report_topic
from txmicro.protocol.codec.base import Codec
from txmicro.protocol.codec.bson import BSON
from txmicro.protocol.codec.json import JSON
from txmicro.protocol.codec.messagepack import MESSAGEPACK

MANAGER = "SystemManager:1795449588399-3fa9"
WORKER = "WB:1795449588399-3fa9"
TOPIC = report_topic("WB")
HISTOGRAM = [*range(COUNTS)]

REPORT = Report(
    WORKER,
    "WB",
    "3fa9",
    running=1,
    held=2,
    pending=3,
    numbers=Numbers(
        {"interactive": {"succeeded": 7}},
        {"interactive": HISTOGRAM},
        {"durable": HISTOGRAM},
        {"WC": HISTOGRAM},
    ),
    ran=4,
    sent={"WC": 5},
    failed={"WA": 6},
    lost={"WD": 1},
    youngest={"interactive": 1795449588.5},
    records=[Record("sent", 1795449588.25, "00ff-1", 0, "WB:*", WORKER, "interactive", 1)],
    left_out=9,
)

NO_COUNTS: list[Any] = [-1, "1", None, float("nan"), float("inf"), 2**60, True, []]
NO_TYPES: list[Any] = [[], {"WC": -1}, {"WC": 0.5}, {"WC": True}, {"no type": 1}, {"": 1}, {1: 1}]
NO_HISTOGRAMS: list[Any] = [
    *([], HISTOGRAM[1:], [*HISTOGRAM, 1], [-1] * COUNTS, [0.5] * COUNTS, ["1"] * COUNTS, 1),
]
NO_OUTCOMES: list[Any] = [[], {"durable": []}, {"durable": {"failed": "1"}}, {"durable": {"x" * 101: 1}}]


class ArrivalTests(SynchronousTestCase):
    def test_they_arrive_in_every_format(self) -> None:
        watch = Watch(MANAGER, 2.5, 0.125, 10)
        formats: tuple[Codec, ...] = (JSON, BSON, MESSAGEPACK)
        for codec in formats:
            self.assertEqual(Report.from_body(codec.decode(codec.encode(REPORT.body())), TOPIC), REPORT)
            self.assertEqual(Watch.from_body(codec.decode(codec.encode(watch.body()))), watch)

    def test_only_the_id_is_needed(self) -> None:
        self.assertEqual(Report.from_body({"worker": WORKER}, TOPIC), Report(WORKER, "WB", ""))
        self.assertEqual(Watch.from_body({"manager": MANAGER}), Watch(MANAGER))

    def test_the_numbers_of_a_snapshot(self) -> None:
        snapshot = {
            "jobs": {"durable": {"dead": 1}},
            "wait": {},
            "run": {"durable": {"counts": HISTOGRAM, "sum": 1}},
        }
        snapshot |= {"trip": {}, "received": {"job": 1}}
        self.assertEqual(Numbers.of(snapshot), Numbers({"durable": {"dead": 1}}, run={"durable": HISTOGRAM}))


class RefusalTests(SynchronousTestCase):
    def refused(self, **changed: Any) -> None:
        self.assertRaises(DecodeError, Report.from_body, {**REPORT.body(), **changed}, TOPIC)

    def test_a_report_about_a_worker_of_another_type_than_its_topic(self) -> None:
        for topic in (report_topic("WA"), report_topic(""), report_topic("WB.WB"), "monitor.report"):
            error = self.assertRaises(DecodeError, Report.from_body, REPORT.body(), topic)
            self.assertIn("a report of a worker of type 'WB'", str(error))

    def test_a_report_that_is_no_object(self) -> None:
        bodies: tuple[Any, ...] = (None, [], "report", 1, {}, {"worker": "WB:*"}, {"worker": 1})
        for body in bodies:
            self.assertRaises(DecodeError, Report.from_body, body, TOPIC)

    def test_numbers_that_are_none(self) -> None:
        for name in ("running", "held", "pending", "ran", "left_out"):
            for value in NO_COUNTS:
                self.refused(**{name: value})

    def test_counts_by_type(self) -> None:
        for name in ("sent", "failed", "lost"):
            for value in NO_TYPES:
                self.refused(**{name: value})
            self.refused(**{name: {f"T{number}": 1 for number in range(1000)}})

    def test_numbers_of_a_service(self) -> None:
        self.refused(numbers=[])
        for name in ("wait", "run", "trip"):
            for value in NO_HISTOGRAMS:
                self.refused(numbers={name: {"durable": value}})
            self.refused(numbers={name: {"x" * 101: HISTOGRAM}})
        for counts in NO_OUTCOMES:
            self.refused(numbers={"jobs": counts})
        self.refused(numbers={"jobs": {"durable": {str(number): 1 for number in range(1000)}}})

    def test_times(self) -> None:
        for value in (-1, "1", None, float("nan"), True, 10**400):
            self.refused(youngest={"durable": value})

    def test_records(self) -> None:
        row = REPORT.body()["records"][0]
        self.refused(records={})
        self.refused(records=[row, row[1:]])
        self.refused(records=[row] * 10_000)

    def test_watches(self) -> None:
        for changed in (
            {"manager": "SystemManager"},
            {"interval": 0},
            {"interval": 3600},
            {"interval": float("nan")},
            {"interval": "1"},
            {"share": -0.1},
            {"share": 1.1},
            {"share": None},
            {"failures": -1},
            {"failures": "1"},
        ):
            body = {**Watch(MANAGER).body(), **changed}
            self.assertRaises(DecodeError, Watch.from_body, body)

    def test_a_watch_for_very_many_failures_is_for_as_many_as_a_report_may_contain(self) -> None:
        self.assertEqual(Watch.from_body({"manager": MANAGER, "failures": 10**9}).failures, 5_000)
