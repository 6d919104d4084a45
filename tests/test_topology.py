"""What is declared, by what the broker says it is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro import topology
from txmicro.topology import Features, Queue

OLD = Features.of({"product": "RabbitMQ", "version": "3.10.8"})
NEW = Features.of({"product": "RabbitMQ", "version": "4.3.0-rc.1"})


def everything(features: Features) -> list[Queue]:
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


class DeclarationTests(SynchronousTestCase):
    def test_shared_queues_are_transient_where_that_may_be(self) -> None:
        queue = topology.jobs("WB", OLD)
        self.assertEqual(
            (queue.durable, queue.auto_delete, queue.exclusive, queue.arguments), (False, True, False, {})
        )

    def test_nothing_that_a_new_rabbitmq_denies_is_declared_there(self) -> None:
        for queue in everything(NEW):
            self.assertTrue(queue.durable or queue.exclusive, queue)
            self.assertFalse(queue.auto_delete, queue)
            self.assertTrue(
                queue.exclusive or queue.arguments == {"x-queue-type": "quorum", "x-expires": 60_000}, queue
            )

    def test_every_name_is_ours_and_plain(self) -> None:
        for queue in everything(OLD):
            self.assertRegex(queue.name, r"^txmicro\.[A-Za-z0-9.:_-]+$")
        for exchange in topology.exchanges("WB"):
            self.assertTrue(exchange.name.startswith("txmicro."))

    def test_bindings_say_who_gets_what(self) -> None:
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
        """Whoever may write to a queue or exchange of one type can reach no other through it."""
        lanes = [topology.durable_queues(kind, (1.0, 5.0), OLD) for kind in ("WB", "WC")]
        one, other = (self.names(queues) for queues in lanes)
        self.assertEqual(one & other, set())
        self.assertEqual(one, {name.replace("WC", "WB") for name in other})

    def names(self, queues: tuple[Queue, ...]) -> set[str]:
        exchanges = {exchange for queue in queues for exchange, _ in queue.bindings}
        leads = {queue.arguments.get("x-dead-letter-exchange", "") for queue in queues} - {""}
        for queue in queues:  # the message's own keys, which its sender chose, lead nowhere
            self.assertEqual(
                "x-dead-letter-exchange" in queue.arguments, "x-dead-letter-routing-key" in queue.arguments
            )
        return {queue.name for queue in queues} | exchanges | leads
