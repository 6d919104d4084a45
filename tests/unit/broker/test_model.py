"""The embedded broker's model, as far as the contract suite leaves it open, on a Clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.broker_model import ModelTestCase, Party
from txmicro.amqp.properties import Properties
from txmicro.broker.model import Model, Outcome


class NameTests(ModelTestCase):
    def test_names_must_be_valid_in_amqp(self) -> None:
        for name in ("q" * 256, "ü", "a\nb"):
            self.assertIn("queue name", self.refused(406, self.declare, name))
        for name in ("e" * 128, "ü"):
            self.assertIn("exchange name", self.refused(406, self.model.declare_exchange, name, "direct"))

    def test_the_broker_generates_missing_names(self) -> None:
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

    def test_the_arguments_of_headers_bindings_are_removed_with_them(self) -> None:
        self.declare()
        exchange: Any = self.model.exchanges["amq.headers"]
        for arguments in ({"a": 1}, {"a": 2}):
            self.model.bind(self.party.session, "queue", "amq.headers", "", arguments)
        self.model.unbind(self.party.session, "queue", "amq.headers", "", {"a": 1})
        self.model.unbind(self.party.session, "queue", "amq.headers", "", {"never": "bound"})
        self.assertEqual(len(exchange._rules), 1)
        self.model.delete_queue(self.party.session, "queue")
        self.assertEqual(exchange._rules, {})

    def test_an_internal_exchange_refuses_publishers(self) -> None:
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

    def test_direct_bindings_are_removed_one_by_one(self) -> None:
        for name in ("one", "two"):
            self.declare(name)
            self.model.declare_exchange("e", "direct")
            self.model.bind(self.party.session, name, "e", "key")
        self.model.unbind(self.party.session, "one", "e", "key")
        self.publish("key", exchange="e")
        self.assertEqual([len(self.model.queues[name].ready) for name in ("one", "two")], [0, 1])
        self.model.unbind(self.party.session, "two", "e", "key")
        self.assertIs(self.publish("key", exchange="e"), Outcome.UNROUTED)


class InvariantTests(SynchronousTestCase):
    """Checks after any requests that no memory leaks and no message waits while a consumer can take it."""

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
