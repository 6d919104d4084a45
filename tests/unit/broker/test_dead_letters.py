"""Dead letters of the embedded broker, on a Clock."""

from __future__ import annotations

from typing import Any

from tests.support.broker_model import FLAGS, NOW, ModelTestCase
from txmicro.broker.messages import OVERHEAD
from txmicro.broker.properties import ReceivedProperties
from txmicro.broker.queues import RETRY, Queue


class DeadLetterTests(ModelTestCase):
    def dying(self, name: str = "queue", key: str | None = "dead", **arguments: Any) -> Queue:
        given = {f"x-{word.replace('_', '-')}": value for word, value in arguments.items()}
        given["x-dead-letter-exchange"] = ""
        if key is not None:
            given["x-dead-letter-routing-key"] = key
        return self.declare(name, durable=True, arguments=given)

    def reject(self, queue: Queue) -> None:
        found = self.party.channel.get(queue.name, no_ack=False)
        if found is not None:
            self.party.channel.reject(found[0], requeue=False)

    def test_the_history_has_every_death_with_the_latest_first(self) -> None:
        first, second, dead = self.dying("first", "second"), self.dying("second"), self.declare("dead")
        self.publish("first", b"body", headers={"x-death": ["junk"]})
        self.reject(first)
        self.reject(second)
        deaths = (dead.ready[0].properties.headers or {})["x-death"]
        history = [(death["queue"], death["routing-keys"]) for death in deaths]
        self.assertEqual(history, [("second", ["second"]), ("first", ["first"])])
        self.assertEqual(dead.ready[0].properties.headers["x-first-death-queue"], "first")  # type: ignore[index]

    def test_an_invalid_history_is_ignored(self) -> None:
        queue, dead = self.dying(), self.declare("dead")
        for forged in ("text", [{"queue": "queue", "reason": "rejected", "count": "many"}]):
            self.publish("queue", headers={"x-death": forged})
            self.reject(queue)
            ((death, *_),) = ((dead.ready.popleft().properties.headers or {})["x-death"],)
            self.assertEqual(death["count"], 1)

    def test_headers_that_cannot_be_written_are_left_out(self) -> None:
        queue, dead = self.dying(), self.declare("dead")
        received = ReceivedProperties(headers={"\ufffd" * 255: 1}, delivery_mode=2)
        received.raw = b"as it came"
        self.model.publish("", "queue", received, b"")
        self.reject(queue)
        properties = dead.ready[0].properties
        self.assertEqual(properties.delivery_mode, 2)
        self.assertIn("x-death", properties.headers or {})

    def test_without_the_exchange_the_message_is_dropped(self) -> None:
        queue = self.declare(arguments={"x-dead-letter-exchange": "missing"})
        self.publish("queue", b"one")
        self.reject(queue)
        self.assertEqual(self.model.memory.used, 0)

    def test_a_chain_of_full_queues_does_not_exhaust_the_stack(self) -> None:
        for number in range(300):
            self.dying(f"q{number}", f"q{number + 1}", max_length=0)
        last = self.declare("q300")
        self.publish("q0", b"body")
        self.assertEqual(self.bodies(last), [b"body"])

    def test_at_least_once_letters_wait_until_a_queue_accepts_them(self) -> None:
        queue = self.dying(
            queue_type="quorum", dead_letter_strategy="at-least-once", overflow="reject-publish"
        )
        self.publish("queue", b"body")
        self.reject(queue)
        self.assertEqual(self.model.memory.used, 4 + FLAGS + OVERHEAD)
        self.clock.advance(RETRY)
        dead = self.declare("dead")
        self.clock.advance(RETRY)
        self.assertEqual(self.bodies(dead), [b"body"])
        self.assertEqual(self.model.memory.used, dead.ready[0].size)

    def test_waiting_letters_are_deleted_with_their_queue(self) -> None:
        queue = self.dying(
            queue_type="quorum", dead_letter_strategy="at-least-once", overflow="reject-publish"
        )
        self.publish("queue", b"body")
        self.reject(queue)
        self.model.delete_queue(self.party.session, "queue")
        self.assertEqual(self.model.memory.used, 0)

    def test_a_message_beyond_the_delivery_limit_leaves_a_quorum_queue(self) -> None:
        queue = self.dying(queue_type="quorum", delivery_limit=1)
        dead = self.declare("dead")
        self.publish("queue", b"body")
        for _ in range(2):
            self.party.channel.get("queue", no_ack=False)
            self.party.channel.recover()
        self.assertEqual((self.bodies(queue), self.bodies(dead)), ([], [b"body"]))

    def test_a_retry_is_repeated_as_often_as_it_is_rejected(self) -> None:
        work = self.dying("work", "retry")
        self.dying("retry", "work", message_ttl=1000)
        self.publish("work", b"body")
        for _ in range(3):
            self.reject(work)
            self.assertEqual(self.bodies(work), [])
            self.clock.advance(1)
            self.assertEqual(self.bodies(work), [b"body"])

    def test_the_time_of_death_is_unix_time(self) -> None:
        queue, dead = self.dying(), self.declare("dead")
        self.publish("queue")
        self.reject(queue)
        (death,) = (dead.ready[0].properties.headers or {})["x-death"]
        self.assertEqual(death["time"].timestamp(), int(NOW))
