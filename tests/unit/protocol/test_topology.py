"""The declarations of queues and exchanges, for each version of the broker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.protocol import topology
from txmicro.protocol.topology import Features, QueueDeclaration

ANCIENT = Features.of({"product": "RabbitMQ", "version": "3.9.29"})
OLD = Features.of({"product": "RabbitMQ", "version": "3.10.8"})
NEW = Features.of({"product": "RabbitMQ", "version": "4.3.0-rc.1"})


def everything(features: Features) -> list[QueueDeclaration]:
    return [
        topology.inbox("WB:1", "WB", ("worker.getAll",)),
        topology.direct("WB:1", "WB"),
        topology.jobs("WB", features),
        topology.events("WB:1", "WB", "movie.*", False, features),
        topology.events("WB:1", "WB", "movie.*", True, features),
    ]


class FeaturesTests(SynchronousTestCase):
    def test_versions(self) -> None:
        self.assertEqual(OLD.version, (3, 10, 8))
        self.assertEqual(NEW.version, (4, 3, 0))
        self.assertEqual(Features.of({"version": "what?"}).version, ())

    def test_transient_queues_are_denied_from_rabbitmq_4_3(self) -> None:
        for product, version, has in (
            ("RabbitMQ", "3.13.7", True),
            ("RabbitMQ", "4.2.1", True),
            ("RabbitMQ", "4.3.0", False),
            ("RabbitMQ", "5.0.0", False),
            ("txmicro", "9.0.0", True),
        ):
            features = Features.of({"product": product, "version": version})
            self.assertEqual(features.transient_queues, has, (product, version))

    def test_dead_letters_are_safe_from_rabbitmq_3_10(self) -> None:
        for product, version, has in (
            ("RabbitMQ", "3.9.29", False),
            ("RabbitMQ", "3.10.0", True),
            ("RabbitMQ", "4.3.0", True),
            ("txmicro", "0.1", True),
        ):
            features = Features.of({"product": product, "version": version})
            self.assertEqual(features.safe_dead_letters, has, (product, version))


class DeclarationTests(SynchronousTestCase):
    def test_shared_queues_are_transient_where_the_broker_permits(self) -> None:
        queue = topology.jobs("WB", OLD)
        self.assertEqual(
            (queue.durable, queue.auto_delete, queue.exclusive, queue.arguments), (False, True, False, {})
        )

    def test_nothing_that_a_new_rabbitmq_denies_is_declared_there(self) -> None:
        for queue in everything(NEW):
            self.assertTrue(queue.durable or queue.exclusive, queue)
            self.assertFalse(queue.auto_delete, queue)
            self.assertTrue(
                queue.exclusive or queue.arguments == {"x-queue-type": "quorum", "x-expires": 10_000}, queue
            )

    def test_every_name_begins_with_txmicro_and_has_plain_characters(self) -> None:
        for queue in everything(OLD):
            self.assertRegex(queue.name, r"^txmicro\.[A-Za-z0-9.:_-]+$")
        for exchange in topology.exchanges("WB"):
            self.assertTrue(exchange.name.startswith("txmicro."))

    def test_the_bindings_of_each_queue(self) -> None:
        bindings = {queue.name.rpartition(".")[0]: queue.bindings for queue in everything(OLD)[:3]}
        self.assertEqual(
            bindings,
            {
                "txmicro.inbox": (
                    ("txmicro.replies.WB", "WB:1"),
                    ("txmicro.notifications", "worker.getAll"),
                ),
                "txmicro.direct": (("txmicro.to.WB", "WB:1"),),
                "txmicro.jobs": (("txmicro.to.WB", "*"),),
            },
        )

    def test_a_group_shares_a_queue_and_others_do_not(self) -> None:
        def name(worker: str, group: bool) -> str:
            return topology.events(worker, "WB", "movie.*", group, OLD).name

        self.assertEqual(name("WB:1", True), name("WB:2", True))
        self.assertNotEqual(name("WB:1", False), name("WB:2", False))

    def test_the_durable_lanes_of_two_types_share_nothing(self) -> None:
        """A user with the right to one type's queues and exchanges cannot reach another type through them."""
        lanes = [
            (*topology.durable_queues(kind, OLD), topology.retry(kind, 1.0, OLD)) for kind in ("WB", "WC")
        ]
        one, other = (self.names(queues) for queues in lanes)
        self.assertEqual(one & other, set())
        self.assertEqual(one, {name.replace("WC", "WB") for name in other})

    def names(self, queues: tuple[QueueDeclaration, ...]) -> set[str]:
        exchanges = {exchange for queue in queues for exchange, _ in queue.bindings}
        leads = {queue.arguments.get("x-dead-letter-exchange", "") for queue in queues} - {""}
        for queue in queues:  # the message's own routing keys, which its sender chose, lead to no queue
            self.assertEqual(
                "x-dead-letter-exchange" in queue.arguments, "x-dead-letter-routing-key" in queue.arguments
            )
        return {queue.name for queue in queues} | exchanges | leads


class DurableTests(SynchronousTestCase):
    def lane(self, features: Features, steps: tuple[float, ...] = (0.2, 30.0)) -> dict[str, QueueDeclaration]:
        retries = (topology.retry("WB", step, features) for step in steps)
        return {queue.name: queue for queue in (*topology.durable_queues("WB", features), *retries)}

    def test_the_arguments_of_each_queue(self) -> None:
        quorum = {"x-queue-type": "quorum"}
        leads = {"x-dead-letter-exchange": "txmicro.durable.WB", "x-overflow": "reject-publish"}
        safe = {"x-dead-letter-strategy": "at-least-once"}
        to_dead = {**leads, **safe, "x-dead-letter-routing-key": "dead"}
        back = {**leads, **safe, "x-dead-letter-routing-key": "durable"}
        unlimited = {"x-delivery-limit": topology.UNLIMITED}
        own = "txmicro.durable.WB"
        self.assertEqual(
            {name: (queue.bindings, queue.arguments) for name, queue in self.lane(OLD).items()},
            {
                "txmicro.dead.WB": (((own, "dead"),), {**quorum, **unlimited}),
                "txmicro.retry.WB.200": (
                    ((own, "retry.200"),),
                    {**quorum, **unlimited, **back, "x-message-ttl": 200},
                ),
                "txmicro.retry.WB.30000": (
                    ((own, "retry.30000"),),
                    {**quorum, **unlimited, **back, "x-message-ttl": 30000},
                ),
                "txmicro.quarantine.WB": (
                    ((own, "quarantine"),),
                    {**quorum, **to_dead, "x-delivery-limit": topology.DELIVERY_LIMIT},
                ),
                "txmicro.jobs.WB.durable": (
                    (("txmicro.to.WB", "durable"), (own, "durable")),
                    {**quorum, **unlimited, **to_dead},
                ),
            },
        )

    def test_the_declarations_do_not_change_with_the_version_of_the_broker(self) -> None:
        self.assertEqual(self.lane(OLD), self.lane(NEW))

    def test_durable_queues_and_exchanges_survive_a_restart(self) -> None:
        for features in (ANCIENT, OLD, NEW):
            for queue in self.lane(features).values():
                self.assertEqual(
                    (queue.durable, queue.exclusive, queue.auto_delete), (True, False, False), queue
                )

    def test_where_quorum_queues_know_no_expiry_retries_wait_in_classic_ones(self) -> None:
        queues = self.lane(ANCIENT)
        for name, queue in queues.items():
            self.assertEqual("x-queue-type" in queue.arguments, "retry" not in name)
            self.assertNotIn("x-dead-letter-strategy", queue.arguments)
        self.assertEqual(queues["txmicro.retry.WB.200"].arguments["x-message-ttl"], 200)

    def test_queues_are_declared_before_those_that_dead_letter_to_them(self) -> None:
        names = [queue.name for queue in topology.durable_queues("WB", OLD)]
        self.assertEqual((names[0], names[-1]), ("txmicro.dead.WB", "txmicro.jobs.WB.durable"))

    def test_steps_that_are_equal_in_milliseconds_share_a_queue(self) -> None:
        odd = (5.0, 0.0151, 0.0149, 5)
        retries = [topology.retry("WB", step, OLD) for step in odd]
        self.assertEqual({queue.name for queue in retries}, {"txmicro.retry.WB.5000", "txmicro.retry.WB.15"})
        for queue in retries:
            self.assertEqual(*(each for each in retries if each.name == queue.name))

    def test_the_routing_key_contains_the_step(self) -> None:
        for step in (0.001, 0.015, 5.0, 24 * 3600.0):
            found = topology.retry_step(topology.retry_key(step))
            assert found is not None
            self.assertEqual(topology.retry_queue("WB", found), topology.retry_queue("WB", step))
        for key in (
            topology.DEAD,
            topology.QUARANTINE,
            topology.DURABLE_KEY,
            "retry",
            "retry.",
            "retry.x",
            "retry.²",
        ):
            self.assertIsNone(topology.retry_step(key), key)

    def test_workers_of_a_type_with_other_steps_declare_the_same_other_queues(self) -> None:
        one, other = self.lane(OLD, (1.0, 5.0)), self.lane(OLD, (5.0, 60.0))
        for name in one.keys() & other.keys():
            self.assertEqual(one[name], other[name])
        self.assertEqual(len(one.keys() & other.keys()), 4)
