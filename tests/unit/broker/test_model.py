"""The embedded broker's model: what the contract (contract_broker.py) leaves open, and time, on a Clock."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.properties import Properties
from txmicro.broker.errors import Refused
from txmicro.broker.memory_gauge import MemoryGauge
from txmicro.broker.messages import OVERHEAD, Message
from txmicro.broker.model import Model, Outcome
from txmicro.broker.properties import ReceivedProperties
from txmicro.broker.queue_options import parse_options
from txmicro.broker.queues import RETRY, Queue
from txmicro.broker.sessions import ModelChannel, ModelSession
from txmicro.broker.topics import TopicTrie

NOW = 1_795_449_588.5
FLAGS = 2
"""Bytes of properties of which none is there."""


class Party:
    """A client of the model: one session with one channel, and what it was sent."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.session = ModelSession(model)
        self.delivered: list[tuple[str, int, Message]] = []
        self.cancelled: list[str] = []
        self.channel = self.open()

    def open(self) -> ModelChannel:
        def send(consumer: str, tag: int, message: Message) -> None:
            self.delivered.append((consumer, tag, message))

        return ModelChannel(self.model, self.session, send, self.cancelled.append)

    def consume(self, queue: str, tag: str = "", *, no_ack: bool = False, exclusive: bool = False) -> str:
        consumer = self.channel.consume(queue, tag, no_ack=no_ack, exclusive=exclusive)
        self.channel.start(consumer)
        return consumer.tag

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for _consumer, _tag, message in self.delivered]


class ModelTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        ids = count(1)
        self.model = Model(self.clock, now=lambda: NOW, new_id=lambda: str(next(ids)))
        self.party = Party(self.model)

    def tearDown(self) -> None:
        self.model.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def declare(self, name: str = "queue", **options: Any) -> Queue:
        arguments = options.pop("arguments", None)
        return self.model.declare_queue(self.party.session, name, arguments=arguments, **options)

    def publish(self, key: str, body: bytes = b"", exchange: str = "", **properties: Any) -> Outcome:
        return self.model.publish(exchange, key, Properties(**properties), body)

    def bodies(self, queue: Queue) -> list[bytes]:
        return [message.body for message in queue.ready]

    def refused(self, code: int, ask: Callable[..., object], *args: Any, **kwargs: Any) -> str:
        refusal = self.assertRaises(Refused, ask, *args, **kwargs)
        self.assertEqual(refusal.code, code)
        return str(refusal)


class TopicTests(SynchronousTestCase):
    words = st.lists(st.sampled_from("ab*#"), max_size=5).map(".".join)

    @settings(deadline=None)
    @given(st.lists(words, unique=True, max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
    def test_it_matches_as_the_definition_says(self, patterns: list[str], key: list[str]) -> None:
        trie: TopicTrie[str] = TopicTrie()
        for pattern in patterns:
            trie.add(pattern, pattern)
        expected = {pattern for pattern in patterns if _matches(pattern.split(".") if pattern else [], key)}
        self.assertEqual(set(trie.match(".".join(key))), expected)

    def test_a_removed_pattern_matches_no_more_and_leaves_the_others(self) -> None:
        trie: TopicTrie[str] = TopicTrie()
        for pattern in ("a.b", "a.b.c", "a.#"):
            trie.add(pattern, pattern)
        self.assertEqual(len(trie.match("a.b")), 2)
        trie.remove("a.b", "a.b")
        trie.remove("a.#", "a.#")
        trie.remove("a.#", "a.#")
        trie.remove("x.y", "a.#")
        self.assertEqual((trie.match("a.b"), trie.match("a.b.c")), ((), ("a.b.c",)))
        trie.remove("a.b.c", "a.b.c")
        self.assertEqual(trie._root.words, {})

    def test_what_it_remembers_is_bounded(self) -> None:
        trie: TopicTrie[str] = TopicTrie()
        trie.add("#", "all")
        for number in range(5000):
            self.assertEqual(trie.match(str(number)), ("all",))
        self.assertLess(len(trie._known), 4097)


def _matches(pattern: list[str], key: list[str]) -> bool:
    """The definition of topic matching, word by word."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return _matches(pattern[1:], key) or (bool(key) and _matches(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and _matches(pattern[1:], key[1:])


class GaugeTests(SynchronousTestCase):
    def test_the_alarm_rises_above_the_limit_and_ends_below_four_fifths(self) -> None:
        seen: list[bool] = []
        gauge = MemoryGauge(100)
        gauge.on_alarm = seen.append
        gauge.allocate(100)
        self.assertEqual(seen, [])
        gauge.allocate(1)
        gauge.allocate(1)
        gauge.free(22)
        self.assertEqual(seen, [True])
        gauge.free(1)
        gauge.free(1)
        self.assertEqual(seen, [True, False])

    def test_nobody_needs_to_listen(self) -> None:
        gauge = MemoryGauge(1)
        gauge.allocate(2)
        self.assertTrue(gauge.alarm)


class ArgumentTests(SynchronousTestCase):
    def read(self, **arguments: Any) -> Any:
        given = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        return parse_options("queue", durable=True, exclusive=False, auto_delete=False, arguments=given)

    def test_times_are_read_as_seconds(self) -> None:
        read = self.read(message_ttl=1500, expires=60_000)
        self.assertEqual((read.ttl, read.expires), (1.5, 60.0))

    def test_other_arguments_have_no_effect(self) -> None:
        self.assertEqual(self.read(queue_mode="lazy"), self.read())

    def test_only_quorum_queues_limit_deliveries_and_keep_dead_letters(self) -> None:
        wanted = {"delivery_limit": 3, "dead_letter_strategy": "at-least-once"}
        classic, quorum = self.read(**wanted), self.read(queue_type="quorum", **wanted)
        self.assertEqual((classic.delivery_limit, classic.at_least_once), (None, False))
        self.assertEqual((quorum.delivery_limit, quorum.at_least_once), (3, True))

    def test_what_would_be_missed_is_refused(self) -> None:
        for wanted in ({"single_active_consumer": True}, {"max_priority": 5}, {"queue_type": "stream"}):
            self.assertEqual(self.assertRaises(Refused, self.read, **wanted).code, 540)

    def test_quorum_queues_are_durable_and_shared(self) -> None:
        for field, options in (
            ("durable", {"durable": False, "exclusive": False, "auto_delete": False}),
            ("exclusive", {"durable": True, "exclusive": True, "auto_delete": False}),
            ("auto-delete", {"durable": True, "exclusive": False, "auto_delete": True}),
        ):
            refusal = self.assertRaises(
                Refused, parse_options, "queue", arguments={"x-queue-type": "quorum"}, **options
            )
            self.assertEqual(
                refusal.text,
                f"PRECONDITION_FAILED - invalid property '{field}' for queue 'queue' in vhost '/'",
            )


class NameTests(ModelTestCase):
    def test_names_are_what_amqp_allows(self) -> None:
        for name in ("q" * 256, "ü", "a\nb"):
            self.assertIn("queue name", self.refused(406, self.declare, name))
        for name in ("e" * 128, "ü"):
            self.assertIn("exchange name", self.refused(406, self.model.declare_exchange, name, "direct"))

    def test_the_broker_names_what_has_no_name(self) -> None:
        self.assertEqual(self.declare("").name, "amq.gen-1")

    def test_its_own_name_can_be_declared_again(self) -> None:
        queue = self.declare("")
        self.assertIs(self.declare(queue.name), queue)

    def test_reserved_and_default_exchanges_stay(self) -> None:
        self.refused(403, self.model.declare_exchange, "", "direct")
        self.refused(403, self.model.delete_exchange, "")
        self.refused(540, self.model.declare_exchange, "e", "direct", arguments={"alternate-exchange": "f"})

    def test_exchanges_that_every_broker_has(self) -> None:
        queue = self.declare()
        for kind in ("direct", "fanout", "topic"):
            name = f"amq.{kind}"
            self.model.declare_exchange(name, kind, durable=True)
            self.model.bind(self.party.session, "queue", name, "key")
            self.publish("key", name.encode(), exchange=name)
            self.refused(406, self.model.declare_exchange, name, kind)
        self.assertEqual(self.bodies(queue), [b"amq.direct", b"amq.fanout", b"amq.topic"])
        self.refused(403, self.model.declare_exchange, "amq.mine", "direct")
        self.refused(403, self.model.delete_exchange, "amq.direct")

    def test_rules_of_headers_go_with_their_bindings(self) -> None:
        self.declare()
        exchange: Any = self.model.exchanges["amq.headers"]
        for arguments in ({"a": 1}, {"a": 2}):
            self.model.bind(self.party.session, "queue", "amq.headers", "", arguments)
        self.model.unbind(self.party.session, "queue", "amq.headers", "", {"a": 1})
        self.model.unbind(self.party.session, "queue", "amq.headers", "", {"never": "bound"})
        self.assertEqual(len(exchange._rules), 1)
        self.model.delete_queue(self.party.session, "queue")
        self.assertEqual(exchange._rules, {})

    def test_nobody_publishes_to_an_internal_exchange(self) -> None:
        self.model.declare_exchange("inner", "fanout", internal=True)
        self.refused(403, self.publish, "key", exchange="inner")

    def test_a_deleted_exchange_leaves_no_bindings(self) -> None:
        self.declare()
        self.model.declare_exchange("e", "direct")
        self.model.bind(self.party.session, "queue", "e", "key")
        self.model.bind(self.party.session, "queue", "e", "key")
        self.model.delete_exchange("e")
        self.assertEqual(self.model._bindings, {"queue": set()})

    def test_a_fanout_exchange_counts_bindings_per_queue(self) -> None:
        self.declare()
        self.model.declare_exchange("e", "fanout")
        for key in ("a", "b"):
            self.model.bind(self.party.session, "queue", "e", key)
        self.model.unbind(self.party.session, "queue", "e", "a")
        self.assertIs(self.publish("", exchange="e"), Outcome.STORED)
        self.model.unbind(self.party.session, "queue", "e", "b")
        self.model.unbind(self.party.session, "queue", "e", "b")
        self.assertIs(self.publish("", exchange="e"), Outcome.UNROUTED)

    def test_direct_bindings_are_undone_one_by_one(self) -> None:
        for name in ("one", "two"):
            self.declare(name)
            self.model.declare_exchange("e", "direct")
            self.model.bind(self.party.session, name, "e", "key")
        self.model.unbind(self.party.session, "one", "e", "key")
        self.publish("key", exchange="e")
        self.assertEqual([len(self.model.queues[name].ready) for name in ("one", "two")], [0, 1])
        self.model.unbind(self.party.session, "two", "e", "key")
        self.assertIs(self.publish("key", exchange="e"), Outcome.UNROUTED)


class ExpiryTests(ModelTestCase):
    def test_the_head_expires_on_time_without_consumers(self) -> None:
        queue = self.declare()
        self.publish("queue", b"one", expiration="1000")
        self.publish("queue", b"two", expiration="3000")
        self.clock.advance(0.999)
        self.assertEqual(self.bodies(queue), [b"one", b"two"])
        self.clock.advance(0.001)
        self.assertEqual(self.bodies(queue), [b"two"])
        self.clock.advance(2)
        self.assertEqual(self.bodies(queue), [])
        self.assertEqual(self.model.memory.used, 0)

    def test_messages_expire_only_at_the_head(self) -> None:
        queue = self.declare()
        self.publish("queue", b"one")
        self.publish("queue", b"two", expiration="1000")
        self.clock.advance(2)
        self.assertEqual(len(queue.ready), 2)
        queue.get()
        self.assertIsNone(queue.get())

    def test_one_timer_serves_the_whole_queue(self) -> None:
        self.declare(arguments={"x-expires": 60_000})
        for number in range(100):
            self.publish("queue", b"", expiration=str(1000 + number))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_sooner_head_moves_the_timer(self) -> None:
        queue = self.declare()
        self.publish("queue", b"late", expiration="9000")
        late = queue.get()
        self.publish("queue", b"soon", expiration="1000")
        self.clock.advance(1)
        self.assertEqual(self.bodies(queue), [])
        queue.requeue([late] if late else [])
        self.assertEqual(self.bodies(queue), [b"late"])
        self.clock.advance(8)
        self.assertEqual(self.bodies(queue), [])

    def test_a_consumer_never_gets_what_has_expired(self) -> None:
        self.declare()
        self.party.channel.qos(1)
        self.party.consume("queue")
        for body in (b"one", b"two"):
            self.publish("queue", body, expiration="1000")
        self.clock.pump([])
        self.clock.rightNow += 1  # the timer is late
        self.party.channel.ack(1)
        self.assertEqual(self.party.bodies, [b"one"])
        self.assertEqual(self.model.memory.used, 0)

    def test_the_queue_and_the_message_say_how_long_and_the_shorter_counts(self) -> None:
        queue = self.declare(arguments={"x-message-ttl": 2000})
        self.publish("queue", b"one", expiration="1000")
        self.publish("queue", b"two", expiration="9000")
        self.clock.advance(1)
        self.assertEqual(self.bodies(queue), [b"two"])
        self.clock.advance(1)
        self.assertEqual(self.bodies(queue), [])

    def test_an_unused_queue_is_deleted(self) -> None:
        self.declare(arguments={"x-expires": 1000})
        self.clock.advance(0.9)
        self.assertIsNone(self.party.channel.get("queue", no_ack=True))
        self.clock.advance(0.9)
        self.assertIn("queue", self.model.queues)
        self.clock.advance(0.1)
        self.assertEqual(self.model.queues, {})

    def test_a_consumed_queue_is_used(self) -> None:
        self.declare(arguments={"x-expires": 1000})
        tag = self.party.consume("queue")
        self.clock.advance(5)
        self.assertIn("queue", self.model.queues)
        self.party.channel.cancel(tag)
        self.clock.advance(1)
        self.assertEqual(self.model.queues, {})

    def test_declaring_again_is_use(self) -> None:
        for _ in range(3):
            self.declare(arguments={"x-expires": 1000})
            self.clock.advance(0.9)
        self.assertIn("queue", self.model.queues)


class DeliveryTests(ModelTestCase):
    def test_a_session_that_cannot_take_gets_nothing_until_it_can(self) -> None:
        self.declare()
        self.party.consume("queue")
        self.party.session.pause()
        self.publish("queue", b"one")
        self.assertEqual(self.party.bodies, [])
        self.party.session.resume()
        self.assertEqual(self.party.bodies, [b"one"])

    def test_resuming_wakes_only_who_waited(self) -> None:
        self.declare()
        self.party.consume("queue")
        self.party.session.pause()
        self.party.session.resume()
        self.publish("queue", b"one")
        self.assertEqual(self.party.bodies, [b"one"])

    def test_others_get_what_a_busy_consumer_cannot_take(self) -> None:
        self.declare()
        self.party.channel.qos(1)
        other = Party(self.model)
        self.party.consume("queue")
        other.consume("queue")
        for body in (b"1", b"2", b"3", b"4"):
            self.publish("queue", body)
        self.assertEqual((self.party.bodies, other.bodies), ([b"1"], [b"2", b"3", b"4"]))

    def test_a_parked_consumer_can_be_cancelled(self) -> None:
        queue = self.declare()
        self.party.channel.qos(1)
        tag = self.party.consume("queue")
        self.publish("queue", b"one")
        self.publish("queue", b"two")
        self.party.channel.cancel(tag)
        self.party.channel.ack(1)
        self.assertEqual(self.bodies(queue), [b"two"])

    def test_cancelling_nobody_does_nothing(self) -> None:
        self.party.channel.cancel("nobody")

    def test_a_consumer_tag_is_used_once(self) -> None:
        self.declare()
        self.party.consume("queue", "tag")
        self.refused(530, self.party.consume, "queue", "tag")

    def test_without_acks_nothing_is_kept(self) -> None:
        self.declare()
        self.party.consume("queue", no_ack=True)
        self.publish("queue", b"one")
        self.assertEqual((self.party.bodies, self.party.channel.unacked), ([b"one"], {}))
        self.assertEqual(self.model.memory.used, 0)

    def test_memory_counts_what_is_ready_and_unacknowledged(self) -> None:
        self.declare()
        self.publish("queue", b"12345")
        self.publish("queue", b"12345")
        self.party.channel.get("queue", no_ack=False)
        self.assertEqual(self.model.memory.used, 2 * (5 + FLAGS + OVERHEAD))
        self.party.channel.ack(1)
        self.model.queues["queue"].purge()
        self.assertEqual(self.model.memory.used, 0)

    def test_memory_counts_headers(self) -> None:
        self.declare()
        self.publish("queue", headers={"large": "x" * 100_000})
        self.assertGreater(self.model.memory.used, 100_000)

    def test_ack_of_all(self) -> None:
        self.declare()
        self.party.consume("queue")
        for _ in range(3):
            self.publish("queue")
        self.party.channel.ack(2, multiple=True)
        self.assertEqual(list(self.party.channel.unacked), [3])
        self.party.channel.ack(0, multiple=True)
        self.assertEqual(self.model.memory.used, 0)
        self.refused(406, self.party.channel.ack, 3)

    def test_reject_frees_the_consumer(self) -> None:
        self.declare()
        self.party.channel.qos(1)
        self.party.consume("queue")
        self.publish("queue", b"one")
        self.publish("queue", b"two")
        self.party.channel.reject(1, requeue=False)
        self.assertEqual(self.party.bodies, [b"one", b"two"])

    def test_requeue_frees_the_consumer(self) -> None:
        self.declare()
        self.party.channel.qos(1)
        self.party.consume("queue")
        self.publish("queue", b"one")
        self.party.channel.reject(1, requeue=True)
        self.assertEqual(self.party.bodies, [b"one", b"one"])
        self.assertTrue(self.party.delivered[1][2].redelivered)

    def test_requeues_of_several_consumers_merge_in_order(self) -> None:
        queue = self.declare()
        other = Party(self.model)
        self.party.consume("queue")
        other.consume("queue")
        for number in range(6):
            self.publish("queue", b"%d" % number)
        self.party.session.pause()
        other.session.pause()
        self.publish("queue", b"6")
        self.party.channel.close()
        other.channel.close()
        self.assertEqual(self.bodies(queue), [b"%d" % number for number in range(7)])

    def test_a_queue_requeues_within_its_bounds(self) -> None:
        queue = self.declare(arguments={"x-max-length": 1})
        self.publish("queue", b"one")
        self.party.channel.get("queue", no_ack=False)
        self.publish("queue", b"two")
        self.party.channel.recover()
        self.assertEqual(self.bodies(queue), [b"two"])

    def test_a_closing_session_does_not_deliver_to_itself(self) -> None:
        queue = self.declare()
        second = self.party.open()
        self.party.consume("queue")
        second.start(second.consume("queue", "", no_ack=False, exclusive=False))
        for _ in range(4):
            self.publish("queue")
        self.party.session.close()
        self.assertEqual(len(self.party.delivered), 4)
        self.assertEqual([message.deliveries for message in queue.ready], [1, 1, 1, 1])

    def test_a_closed_session_loses_its_exclusive_queues(self) -> None:
        self.declare("shared")
        self.declare("own", exclusive=True)
        self.party.consume("own")
        self.publish("own", b"one")
        self.party.session.close()
        self.assertEqual(list(self.model.queues), ["shared"])
        self.assertEqual(self.model.memory.used, 0)
        self.assertEqual(self.party.cancelled, [])

    def test_a_deleted_queue_cancels_its_consumers_and_forgets_late_answers(self) -> None:
        self.declare()
        tag = self.party.consume("queue")
        for _ in range(3):
            self.publish("queue")
        self.party.session.pause()
        self.publish("queue")
        self.assertEqual(self.model.delete_queue(self.party.session, "queue"), 1)
        self.assertEqual(self.party.cancelled, [tag])
        self.party.channel.ack(1)
        self.party.channel.reject(2, requeue=False)
        self.party.channel.reject(3, requeue=True)
        self.assertEqual(self.model.memory.used, 0)

    def test_a_second_queue_can_be_full(self) -> None:
        self.model.declare_exchange("e", "fanout")
        for name, length in (("full", 0), ("free", 9)):
            self.declare(name, arguments={"x-max-length": length, "x-overflow": "reject-publish"})
            self.model.bind(self.party.session, name, "e", "")
        self.assertIs(self.publish("", exchange="e"), Outcome.REFUSED)
        self.assertEqual(len(self.model.queues["free"].ready), 1)


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

    def test_the_history_has_every_death_the_latest_first(self) -> None:
        first, second, dead = self.dying("first", "second"), self.dying("second"), self.declare("dead")
        self.publish("first", b"body", headers={"x-death": ["junk"]})
        self.reject(first)
        self.reject(second)
        deaths = (dead.ready[0].properties.headers or {})["x-death"]
        history = [(death["queue"], death["routing-keys"]) for death in deaths]
        self.assertEqual(history, [("second", ["second"]), ("first", ["first"])])
        self.assertEqual(dead.ready[0].properties.headers["x-first-death-queue"], "first")  # type: ignore[index]

    def test_a_history_of_the_wrong_shape_does_no_harm(self) -> None:
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

    def test_a_missing_exchange_means_the_end(self) -> None:
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

    def test_at_least_once_letters_wait_until_somebody_takes_them(self) -> None:
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

    def test_waiting_letters_go_with_their_queue(self) -> None:
        queue = self.dying(
            queue_type="quorum", dead_letter_strategy="at-least-once", overflow="reject-publish"
        )
        self.publish("queue", b"body")
        self.reject(queue)
        self.model.delete_queue(self.party.session, "queue")
        self.assertEqual(self.model.memory.used, 0)

    def test_a_worn_out_message_leaves_a_quorum_queue(self) -> None:
        queue = self.dying(queue_type="quorum", delivery_limit=1)
        dead = self.declare("dead")
        self.publish("queue", b"body")
        for _ in range(2):
            self.party.channel.get("queue", no_ack=False)
            self.party.channel.recover()
        self.assertEqual((self.bodies(queue), self.bodies(dead)), ([], [b"body"]))

    def test_a_retry_goes_round_as_often_as_it_is_rejected(self) -> None:
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


class InvariantTests(SynchronousTestCase):
    """Whatever clients do, nothing leaks and nothing waits without need."""

    requests = st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "publish",
                    "consume",
                    "cancel",
                    "get",
                    "ack",
                    "reject",
                    "requeue",
                    "pause",
                    "resume",
                    "close",
                    "wait",
                ]
            ),
            st.integers(0, 1),
        ),
        max_size=40,
    )

    @settings(deadline=None)
    @given(requests, st.sampled_from(["drop-head", "reject-publish"]), st.booleans())
    def test_messages_are_counted_and_delivered(self, requests: Any, overflow: str, quorum: bool) -> None:
        clock = Clock()
        model = Model(clock)
        parties = [Party(model), Party(model)]
        arguments = {"x-max-length": 4, "x-overflow": overflow, "x-message-ttl": 2500}
        if quorum:
            arguments |= {"x-queue-type": "quorum", "x-delivery-limit": 1}
        arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        queue = model.declare_queue(parties[0].session, "queue", durable=True, arguments=arguments)
        dead = model.declare_queue(parties[0].session, "dead", arguments={"x-max-length": 3})
        for request, number in requests:
            if request == "close":
                parties[number].session.close()
                parties[number] = Party(model)
            else:
                self.ask(clock, parties[number], request)
            channels = [party.channel for party in parties]
            unacked = [message for channel in channels for message in channel.unacked.values()]
            held = sum(message.size for message in (*unacked, *queue.ready, *dead.ready))
            self.assertEqual(model.memory.used, held)
            free = [
                consumer
                for consumer in queue.consumers
                if consumer.channel.session.writable and consumer.unacked < consumer.prefetch
            ]
            self.assertFalse(queue.ready and free)
            self.assertTrue(len(queue.ready) <= 4 or overflow == "reject-publish")  # requeues always enter
        model.close()
        self.assertEqual(clock.getDelayedCalls(), [])

    def ask(self, clock: Clock, party: Party, request: str) -> None:
        channel = party.channel
        tag = next(iter(channel.unacked), None)
        if request == "publish":
            party.model.publish("", "queue", Properties(), b"body")
        elif request == "consume":
            channel.qos(2)
            party.consume("queue")
        elif request == "cancel":
            channel.cancel(next(iter(channel.consumers), ""))
        elif request == "get":
            channel.get("queue", no_ack=False)
        elif request == "ack" and tag is not None:
            channel.ack(tag)
        elif request in ("reject", "requeue") and tag is not None:
            channel.reject(tag, requeue=request == "requeue")
        elif request == "pause":
            party.session.pause()
        elif request == "resume":
            party.session.resume()
        elif request == "wait":
            clock.advance(1)
