from __future__ import annotations

import math
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError
from txmicro.protocol import messages
from txmicro.protocol.codec import BSON, JSON, MESSAGEPACK
from txmicro.protocol.messages import (
    Announcement,
    Deletion,
    Forward,
    Inquiry,
    Job,
    get,
    get_keys,
    hop_key,
    remaining_ms,
)

ME = "WA:1795449588399-3fa9"
YOU = "WB:1795449588400-0001"
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]

# Neither text, nor a number, nor an object, in turn.
NO_TEXT: list[Any] = [None, 5, 1.5, True, [], {}, b"x", DEEP]
NO_NUMBER: list[Any] = [None, "5", True, [], {}, math.nan, math.inf, -1, 10**400, DEEP]
NO_OBJECT: list[Any] = [None, 5, "x", True, [], b"x", DEEP]


def job(**fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": "7c3e-1",
        "data": {"title": "Alien"},
        "workers_list": ["WD:*", YOU],
        "workers_list_id": 0,
        "sender": ME,
        "origin": ME,
        "deadline": 130.0,
    }
    return Job(**(known | fields))


def body(**fields: Any) -> dict[str, Any]:
    return job().body(100.0) | fields


class BodyCase(SynchronousTestCase):
    def refused(self, read: Any, wrong: Any) -> None:
        error = self.assertRaises(DecodeError, read, wrong)
        self.assertLess(len(str(error)), 400)


class Jobs(BodyCase):
    def read(self, wrong: Any) -> Job:
        return Job.from_body(wrong, 200.0)

    def test_the_body_has_the_published_shape_and_more(self) -> None:
        self.assertEqual(
            job(tries=2).body(100.0),
            {
                "id": "7c3e-1",
                "workers_list": ["WD:*", YOU],
                "workers_list_id": 0,
                "data": {"title": "Alien"},
                "sender": {"id": ME, "type": "WA"},
                "origin": ME,
                "tries": 2,
                "deadline": 30_000,
            },
        )

    def test_it_arrives_in_every_format_with_the_deadline_on_the_local_clock(self) -> None:
        for codec in (JSON, BSON, MESSAGEPACK):
            arrived = Job.from_body(
                codec.decode(codec.encode(job(tries=2).body(100.0))),
                200.0,
                redelivered=True,
                traceparent="00-a",
            )
            self.assertEqual(arrived, job(tries=2, deadline=230.0, redelivered=True, traceparent="00-a"))

    def test_what_microservices_js_sends_is_enough(self) -> None:
        arrived = self.read(
            {
                "workers_list": ["WD:*"],
                "workers_list_id": 0,
                "data": "Stuff to do",
                "sender": {"id": "WA:1461679731775", "type": "WA"},
                "id": "1461679731775",
            }
        )
        self.assertEqual((arrived.origin, arrived.tries, arrived.deadline), ("WA:1461679731775", 0, 230.0))

    def test_a_job_without_data(self) -> None:
        without = body()
        del without["data"]
        self.assertIsNone(self.read(without).data)

    def test_wrong_shapes(self) -> None:
        wrong: dict[str, list[Any]] = {
            "id": [*NO_TEXT, "", "a b", "é", "x" * 129, "a\n"],
            "workers_list": [None, 5, "WD:*", {}, [], ["WD"], ["WD:*", 5], [None], [DEEP]],
            "workers_list_id": [None, "0", True, 1.0, -1, 2, 10**400],
            "sender": [*NO_OBJECT, {}, {"id": 5}, {"id": "WA"}, {"id": "WA:*"}, {"id": DEEP}],
            "origin": [*NO_TEXT, "WA", "WA:*"],
            "tries": NO_NUMBER,
            "past": NO_NUMBER,
            "deadline": NO_NUMBER,
        }
        for name, values in wrong.items():
            for value in values:
                self.refused(self.read, body(**{name: value}))
        for name in ("id", "workers_list", "workers_list_id", "sender"):
            self.refused(self.read, {key: value for key, value in body().items() if key != name})
        for value in NO_OBJECT:
            self.refused(self.read, value)

    def test_the_hop(self) -> None:
        one = job()
        self.assertEqual((one.key, one.address, one.last), ("7c3e-1/0", "WD:*", False))
        self.assertEqual(hop_key("7c3e-1", 0), one.key)

    def test_the_next_hop_of_the_slip(self) -> None:
        two = job(tries=3, traceparent="00-a").next(None, "more", YOU)
        self.assertEqual((two.key, two.address, two.last), ("7c3e-1/1", YOU, True))
        self.assertEqual((two.data, two.sender, two.origin), ("more", YOU, ME))
        self.assertEqual((two.deadline, two.tries, two.traceparent), (130.0, 0, "00-a"))

    def test_a_hop_elsewhere_ends_the_slip(self) -> None:
        first = job()
        two = first.next("WE:*", "more", YOU)
        self.assertEqual((two.workers_list, two.address, two.last), (["WE:*"], "WE:*", True))
        self.assertEqual(first.workers_list, ["WD:*", YOU])
        self.assertEqual((two.hop, two.key, two.next("WE:*", "more", ME).key), (1, "7c3e-1/1", "7c3e-1/2"))
        self.assertEqual(two.outcome(YOU, {})["workers_list_id"], 1)
        read = self.read(two.body(0.0))
        self.assertEqual((read.key, read.workers_list, read.past), (two.key, ["WE:*"], 1))

    def test_what_remains_of_a_deadline(self) -> None:
        self.assertEqual([remaining_ms(10.0, now) for now in (0.0, 9.9996, 10.0, 11.0)], [10_000, 0, 0, 0])

    def test_forward(self) -> None:
        self.assertEqual(Forward("WB:*"), Forward("WB:*", None))


class Announcements(BodyCase):
    full = Announcement(ME, "WA", "host", 77, "0.1.0", 100, "host:9091", 1795449588399)

    def test_there_and_back(self) -> None:
        self.assertEqual(Announcement.from_body(self.full.body()), self.full)
        self.assertEqual(self.full.body()["metrics"], "host:9091")

    def test_what_microservices_js_sends_is_enough(self) -> None:
        arrived = Announcement.from_body({"id": "WB:1460306476102", "type": "WB"})
        self.assertEqual(arrived, Announcement("WB:1460306476102", "WB"))

    def test_wrong_shapes(self) -> None:
        wrong: dict[str, list[Any]] = {
            "id": [*NO_TEXT, "WA", "WA:*"],
            "type": [*NO_TEXT, "WB", ""],
            "pid": NO_NUMBER,
            "capacity": NO_NUMBER,
            "started": NO_NUMBER,
            "host": [*NO_TEXT, "x" * 256],
            "version": [*NO_TEXT, "x" * 256],
            "metrics": [*NO_TEXT, "x" * 256],
        }
        for name, values in wrong.items():
            for value in values:
                self.refused(Announcement.from_body, self.full.body() | {name: value})
        for value in (*NO_OBJECT, {}, {"id": ME}):
            self.refused(Announcement.from_body, value)


class Others(BodyCase):
    def test_deletions(self) -> None:
        gone = Deletion(ME, "WA", "keepalive")
        self.assertEqual(Deletion.from_body(gone.body()), gone)
        self.assertEqual(Deletion.from_body({"id": ME, "type": "WB"}), Deletion(ME, "WA"))
        for wrong in (
            *NO_OBJECT,
            {},
            {"id": "WA:*"},
            {"id": ME, "reason": 5},
            {"id": ME, "reason": "x" * 256},
        ):
            self.refused(Deletion.from_body, wrong)

    def test_inquiries(self) -> None:
        inquiry = Inquiry("WB:*", ME)
        self.assertEqual(Inquiry.from_body(inquiry.body()), inquiry)
        for wrong in (*NO_OBJECT, {}, {"address": "WB:*"}, {"address": "WB", "sender": ME}):
            self.refused(Inquiry.from_body, wrong)
        self.refused(Inquiry.from_body, {"address": "WB:*", "sender": "WA:*"})

    def test_keys(self) -> None:
        self.assertEqual(get_keys({"keys": ["a/0", "b/1"]}), ["a/0", "b/1"])
        self.assertEqual(get_keys({"running": []}, "running"), [])
        for wrong in (*NO_OBJECT, {}, {"keys": "a/0"}, {"keys": [5]}, {"keys": [["a"]]}):
            self.refused(get_keys, wrong)

    def test_get_says_what_is_wrong(self) -> None:
        for wrong, text in (
            ([], "expected an object, got list"),
            ({}, "'a' is missing"),
            ({"a": "b"}, "'a' is 'b', of the wrong type str"),
        ):
            self.assertEqual(str(self.assertRaises(DecodeError, get, wrong, "a", int)), text)
        self.assertEqual(get({}, "a", int, 5), 5)
        self.assertIs(get({"a": True}, "a", bool), True)

    def test_the_words_of_microservices_js(self) -> None:
        self.assertEqual(messages.NO_WORKER_TEXT, "No worker available for this job")
