"""Queues of the embedded broker: expiry and delivery, on a Clock."""

from __future__ import annotations

from tests.support.broker_model import FLAGS, ModelTestCase, Party
from txmicro.broker.messages import OVERHEAD
from txmicro.broker.model import Outcome


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

    def test_a_consumer_never_gets_expired_messages(self) -> None:
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

    def test_the_shorter_ttl_of_queue_and_message_applies(self) -> None:
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
    def test_a_session_that_cannot_accept_messages_gets_none_until_it_can(self) -> None:
        self.declare()
        self.party.consume("queue")
        self.party.session.pause()
        self.publish("queue", b"one")
        self.assertEqual(self.party.bodies, [])
        self.party.session.resume()
        self.assertEqual(self.party.bodies, [b"one"])

    def test_resuming_delivers_only_to_waiting_consumers(self) -> None:
        self.declare()
        self.party.consume("queue")
        self.party.session.pause()
        self.party.session.resume()
        self.publish("queue", b"one")
        self.assertEqual(self.party.bodies, [b"one"])

    def test_other_consumers_get_the_messages_of_a_busy_one(self) -> None:
        self.declare()
        self.party.channel.qos(1)
        other = Party(self.model)
        self.party.consume("queue")
        other.consume("queue")
        for body in (b"1", b"2", b"3", b"4"):
            self.publish("queue", body)
        self.assertEqual((self.party.bodies, other.bodies), ([b"1"], [b"2", b"3", b"4"]))

    def test_a_parked_consumer_can_be_canceled(self) -> None:
        queue = self.declare()
        self.party.channel.qos(1)
        tag = self.party.consume("queue")
        self.publish("queue", b"one")
        self.publish("queue", b"two")
        self.party.channel.cancel(tag)
        self.party.channel.ack(1)
        self.assertEqual(self.bodies(queue), [b"two"])

    def test_canceling_an_unknown_consumer_does_nothing(self) -> None:
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

    def test_memory_counts_ready_and_unacknowledged_messages(self) -> None:
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
