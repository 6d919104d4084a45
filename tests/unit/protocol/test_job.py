from __future__ import annotations

from typing import Any

from tests.support.bodies import DEEP, ME, NO_NUMBER, NO_OBJECT, NO_TEXT, YOU, BodyCase
from txmicro.protocol.codec.bson import BSON
from txmicro.protocol.codec.json import JSON
from txmicro.protocol.codec.messagepack import MESSAGEPACK
from txmicro.protocol.job import Forward, Job, hop_key, remaining_ms


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


class Jobs(BodyCase):
    def read(self, wrong: Any) -> Job:
        return Job.from_body(wrong, 200.0)

    def test_the_body_has_the_documented_fields(self) -> None:
        self.assertEqual(
            job(tries=2, sent=1_795_449_588_399.25).body(100.0),
            {
                "id": "7c3e-1",
                "workers_list": ["WD:*", YOU],
                "workers_list_id": 0,
                "data": {"title": "Alien"},
                "sender": {"id": ME, "type": "WA"},
                "origin": ME,
                "tries": 2,
                "deadline": 30_000,
                "sent": 1_795_449_588_399.25,
            },
        )

    def test_it_arrives_in_every_format_with_the_deadline_on_the_local_clock(self) -> None:
        for codec in (JSON, BSON, MESSAGEPACK):
            arrived = Job.from_body(
                codec.decode(codec.encode(job(tries=2, sent=1_795_449_588_399.25).body(100.0))),
                200.0,
                redelivered=True,
                traceparent="00-a",
            )
            expected = job(
                tries=2, deadline=230.0, redelivered=True, traceparent="00-a", sent=1_795_449_588_399.25
            )
            self.assertEqual(arrived, expected)

    def test_a_message_of_microservices_js_is_complete(self) -> None:
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

    def test_the_time_of_the_send_may_be_a_whole_number_or_missing(self) -> None:
        self.assertEqual(self.read(body(sent=1_795_449_588_399)).sent, 1_795_449_588_399)
        self.assertEqual(self.read(body()).sent, 0)

    def test_a_job_without_data(self) -> None:
        without = body()
        del without["data"]
        self.assertIsNone(self.read(without).data)

    def test_invalid_bodies(self) -> None:
        wrong: dict[str, list[Any]] = {
            "id": [*NO_TEXT, "", "a b", "é", "x" * 129, "a\n"],
            "workers_list": [None, 5, "WD:*", {}, [], ["WD"], ["WD:*", 5], [None], [DEEP]],
            "workers_list_id": [None, "0", True, 1.0, -1, 2, 10**400],
            "sender": [*NO_OBJECT, {}, {"id": 5}, {"id": "WA"}, {"id": "WA:*"}, {"id": DEEP}],
            "origin": [*NO_TEXT, "WA", "WA:*"],
            "tries": NO_NUMBER,
            "past": NO_NUMBER,
            "sent": NO_NUMBER,
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

    def test_a_hop_to_another_address_ends_the_slip(self) -> None:
        first = job()
        two = first.next("WE:*", "more", YOU)
        self.assertEqual((two.workers_list, two.address, two.last), (["WE:*"], "WE:*", True))
        self.assertEqual(first.workers_list, ["WD:*", YOU])
        self.assertEqual((two.hop, two.key, two.next("WE:*", "more", ME).key), (1, "7c3e-1/1", "7c3e-1/2"))
        self.assertEqual(two.outcome(YOU, {})["workers_list_id"], 1)
        read = self.read(two.body(0.0))
        self.assertEqual((read.key, read.workers_list, read.past), (two.key, ["WE:*"], 1))

    def test_the_remaining_time(self) -> None:
        self.assertEqual([remaining_ms(10.0, now) for now in (0.0, 9.9996, 10.0, 11.0)], [10_000, 0, 0, 0])

    def test_forward(self) -> None:
        self.assertEqual(Forward("WB:*"), Forward("WB:*", None))
