"""Tests that a bus and its channels restore what is lost: connections, channels, queues, consumers."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Queue
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogEvent

from tests.support.logs import listen
from tests.support.system import Endpoint, SystemTestCase
from txmicro.amqp import uri
from txmicro.amqp.channel import Channel
from txmicro.amqp.errors import AccessRefused, ChannelClosed
from txmicro.amqp.frames import method_frame
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory
from txmicro.bus import session as session_module
from txmicro.bus.connections import REFUSED_DELAY
from txmicro.bus.targets import Target
from txmicro.config import Config
from txmicro.errors import BusClosed, DuplicateWorker, NotPermitted, NotStored, WorkerStopped
from txmicro.manager import SystemManager
from txmicro.protocol import messages, topology
from txmicro.protocol.job import Job
from txmicro.testing import memory_bus
from txmicro.worker import Worker


async def echo(job: Job) -> Any:
    return job.data


class RecoveryTestCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.events = listen(self)

    def logged(self, word: str) -> list[LogEvent]:
        texts = [(event, (event.get("log_format") or "").format(**event)) for event in self.events]
        return [event for event, text in texts if word in text]

    def pair(self, handler: Any = echo, config: Config | None = None) -> tuple[Worker, Worker]:
        """Return a sender and a worker, each in a process of its own."""
        sender, worker = Worker("WA", id="WA:1"), Worker("WB", do_job=handler, id="WB:1")
        self.process(sender)
        self.process(worker, config=config)
        return sender, worker

    def operator(self) -> Channel:
        bus = self.process()
        assert bus.session is not None
        return self.result(bus.session.consuming.channel_open())

    def check(self, sender: Worker, seconds: float = 5.0) -> None:
        """Check that jobs to any WB, and to this one, succeed."""
        for address in ("WB:*", "WB:1"):
            self.assertEqual(self.result(sender.send(address, address).when_done(), seconds), address)


class ConnectingTests(RecoveryTestCase):
    def test_a_broker_that_is_down_is_tried_again_with_growing_pauses(self) -> None:
        self.endpoint.broker = None
        worker = Worker("WB", do_job=echo)
        self.process(worker)
        self.advance(10)
        tries = self.endpoint.tries
        self.assertGreater(tries, 4)
        self.assertLess(tries, 20)
        self.assertEqual(len(self.logged("no connection to")), tries)
        self.assertNoResult(waiting := worker.when_ready())
        self.endpoint.broker = self.broker
        self.assertIs(self.result(waiting, 5.0), worker)

    def test_stopping_while_the_broker_is_down_is_quick_and_clean(self) -> None:
        self.endpoint.broker = None
        worker = Worker("WB", do_job=echo)
        bus = self.process(worker)
        self.stop(bus)
        self.failureResultOf(worker.when_ready(), CancelledError)
        self.failureResultOf(bus.when_connected(), BusClosed)

    def test_brokers_are_tried_in_turn(self) -> None:
        dead, alive = Endpoint(self.clock, None), Endpoint(self.clock, self.broker)
        bus = memory_bus(self.clock, dead, Config())
        bus._targets.append(Target(alive, uri.parse("amqp://second")))
        self.buses.append(bus)
        bus.startService()
        self.advance(0.2)
        self.assertEqual((dead.tries, alive.tries), (1, 2))
        self.assertIsNotNone(bus.session)

    def test_a_wrong_password_is_logged_clearly_and_tried_slowly(self) -> None:
        bus = memory_bus(self.clock, self.endpoint, Config())
        bus._targets[0] = Target(self.endpoint, uri.parse("amqp://guest:wrong@memory"))
        self.buses.append(bus)
        bus.startService()
        self.advance(9)
        self.assertEqual(self.endpoint.tries, 1)
        [said] = self.logged("no connection to")
        self.assertIn("ACCESS_REFUSED", str(said["reason"]))
        self.assertEqual(self.logged("wrong"), [])
        self.advance(2)
        self.assertEqual(self.endpoint.tries, 2)

    def test_a_connection_to_a_silent_broker_is_closed(self) -> None:
        class Mute:
            tries = 0

            def connect(self, factory: Any) -> Deferred[Any]:
                self.tries += 1
                return Deferred()

        mute = Mute()
        bus = memory_bus(self.clock, mute, Config())
        self.buses.append(bus)
        bus.startService()
        self.advance(40)
        self.assertGreater(mute.tries, 1)

    def test_a_session_with_one_connection_is_closed(self) -> None:
        """The first connection is accepted, the second one refused."""

        class Half(Endpoint):
            def connect(self, factory: Any) -> Deferred[Any]:
                self.broker = whole if self.tries % 2 == 0 else None
                return super().connect(factory)

        whole = self.broker
        bus = memory_bus(self.clock, Half(self.clock, whole), Config())
        self.buses.append(bus)
        bus.startService()
        self.advance(10)
        self.assertIsNone(bus.session)
        self.assertLess(len(whole.connections), 2)


class LossTests(RecoveryTestCase):
    def test_the_broker_restarts_empty(self) -> None:
        sender, _ = self.pair()
        self.restart_broker()
        self.advance(5)
        self.check(sender)
        self.assertEqual(self.logged("lost its channel"), [])  # the line about the connection is enough

    def test_jobs_that_run_while_the_broker_restarts_are_done_once(self) -> None:
        waiting: Deferred[str] = Deferred()
        ran: list[str] = []

        async def handle(job: Job) -> str:
            ran.append(job.key)
            return await waiting

        sender, _ = self.pair(handle)
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        self.restart_broker()
        self.advance(5)
        waiting.callback("done")
        self.assertEqual(self.result(answer, 5.0), "done")
        self.assertEqual(len(ran), 1)

    def test_a_result_that_was_lost_with_the_connection_is_sent_again(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        sender, _ = self.pair(handle)
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        self.endpoint.broker = None
        self.broker.close()
        self.clock.advance(0)
        waiting.callback("done")  # there is no connection to send it on
        self.advance(3)
        self.restart_broker()
        self.assertEqual(self.result(answer, 8.0), "done")

    def test_jobs_without_an_ack_before_the_broker_restarted_are_sent_again(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        job = sender.send("WB:*", 1)
        self.restart_broker()
        self.process(Worker("WB", do_job=echo))
        self.assertEqual(self.result(job.when_done(), 8.0), 1)

    def test_jobs_sent_while_the_broker_is_down_wait_for_it(self) -> None:
        sender, _ = self.pair()
        self.endpoint.broker = None
        self.broker.close()
        self.advance(1)
        answer = sender.send("WB:*", 5).when_done()
        self.advance(3)
        self.restart_broker()
        self.assertEqual(self.result(answer, 5.0), 5)

    def test_the_loss_of_one_connection_closes_the_other(self) -> None:
        sender, worker = self.pair()
        for purpose in ("publishing", "consuming"):
            getattr(worker.bus.session, purpose).transport.abortConnection()
            self.advance(2)
            self.check(sender)

    def test_a_worker_announces_itself_again(self) -> None:
        _, worker = self.pair()
        manager = SystemManager()
        self.process(manager)
        self.restart_broker()
        manager.registry.remove(worker.id)
        self.advance(5)
        self.assertIn(worker.id, manager.registry)

    def test_subscriptions_are_renewed(self) -> None:
        heard: list[Any] = []
        sender, worker = self.pair()
        self.result(worker.subscribe("#", lambda topic, data: heard.append(data)))
        self.restart_broker()
        self.advance(5)
        sender.publish("x", 1)
        self.advance(0.2)
        self.assertEqual(heard, [1])

    def test_a_session_that_is_lost_soon_is_retried_slowly(self) -> None:
        """A broker that drops every connection at once gets a bounded number of them."""
        worker = Worker("WB", do_job=echo)
        bus = self.process(worker)
        for _ in range(200):
            self.advance(0.05)
            for connection in list(self.broker.connections):
                connection.transport.abortConnection()
        self.assertLess(self.endpoint.tries, 30)
        self.advance(5)
        self.assertIsNotNone(bus.session)


class PartTests(RecoveryTestCase):
    """Tests the loss of a part of one worker's channel; the connections stay open."""

    def test_each_of_its_queues_is_deleted_while_in_use(self) -> None:
        sender, worker = self.pair()
        channel = self.operator()
        session = worker.bus.session
        for queue in (topology.jobs_queue("WB"), topology.direct_queue("WB:1"), topology.inbox_queue("WB:1")):
            # AMQP permits only their own connection to delete exclusive queues. An operator can delete them.
            self.broker.model._delete_queue(self.broker.model.queues[queue])
            self.advance(3)
            self.check(sender)
        self.assertIs(worker.bus.session, session)
        del channel

    def test_the_senders_inbox_is_deleted_while_it_waits(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        sender, _ = self.pair(handle)
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        self.broker.model._delete_queue(self.broker.model.queues[topology.inbox_queue("WA:1")])
        waiting.callback("done")
        self.assertEqual(self.result(answer, 5.0), "done")

    def test_exchanges_are_deleted_while_in_use(self) -> None:
        sender, _ = self.pair()
        self.check(sender)
        channel = self.operator()
        for name in (topology.to_exchange("WB"), topology.replies_exchange("WA"), topology.NOTIFICATIONS):
            self.result(channel.exchange_delete(exchange=name))
            self.check(sender, 5.0)
        self.assertTrue(self.logged("lost its channel"))

    def test_the_tenth_deletion_is_repaired_as_soon_as_the_first(self) -> None:
        sender, _ = self.pair()
        channel = self.operator()
        for _ in range(10):
            self.result(channel.exchange_delete(exchange=topology.replies_exchange("WA")))
            self.check(sender, 5.0)

    def test_bindings_are_deleted_while_in_use(self) -> None:
        sender, worker = self.pair()
        channel = self.operator()
        exchange, queue = topology.to_exchange("WB"), topology.jobs_queue("WB")
        self.result(channel.queue_unbind(queue=queue, exchange=exchange, routing_key="*"))
        self.check(sender, 5.0)
        self.assertEqual(self.logged("lost its channel"), [])
        self.result(worker._running_engine.retire(1.0, WorkerStopped("stopped")))
        self.advance(10)
        self.assertEqual(self.logged("lost its channel"), [])

    def test_shared_queues_are_checked_often_by_the_oldest_worker_and_seldom_by_others(self) -> None:
        bound: list[str] = []

        class Binding:
            def queue_bind(self, queue: str, **_: Any) -> Deferred[None]:
                bound.append(queue)
                return succeed(None)

        def look(worker: Worker, number: int) -> set[str]:
            bound.clear()
            channel: Any = Binding()
            worker._running_engine.channel.robust._bind_again(channel, number)
            return set(bound)

        _, eldest = self.pair()
        self.clock.advance(1)
        younger = Worker("WB", do_job=echo, id="WB:2")
        self.process(younger)
        own = {topology.direct_queue("WB:2"), topology.inbox_queue("WB:2")}
        self.assertEqual(look(younger, 1), own)
        self.assertEqual(look(younger, 20), own | {topology.jobs_queue("WB")})
        self.assertIn(topology.jobs_queue("WB"), look(eldest, 1))

    def test_its_channel_is_closed(self) -> None:
        sender, worker = self.pair()
        channel = worker._running_engine.channel.robust.channel
        assert channel is not None
        channel.ack(4711)  # an unknown delivery tag: the broker closes the channel
        self.advance(2)
        self.assertIsNot(worker._running_engine.channel.robust.channel, channel)
        self.check(sender)

    def test_its_broker_breaks_the_protocol(self) -> None:
        sender, worker = self.pair()
        channel = worker._running_engine.channel.robust.channel
        assert channel is not None
        channel.client.dataReceived(method_frame(channel.id, Queue.PurgeOk(1)))  # nothing was purged
        self.advance(5)
        self.assertTrue(worker._running_engine.channel.ready)
        self.check(sender)

    def test_acknowledgements_of_a_lost_channel_are_not_sent_on_the_next(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        sender, worker = self.pair(handle)
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        link = worker._running_engine.channel
        assert link.robust.channel is not None
        link.robust.channel.ack(4711)
        self.advance(2)
        channel = link.robust.channel
        waiting.callback("done")
        self.assertEqual(self.result(answer), "done")
        self.assertIs(link.robust.channel, channel)

    def test_a_subscription_that_fails_is_tried_again(self) -> None:
        """The channel that is being opened is closed, and opened again."""
        sender, worker = self.pair()
        link = worker._running_engine.channel
        heard: list[Any] = []
        assert link.robust.channel is not None
        link.robust.channel.ack(4711)
        self.result(worker.subscribe("#", lambda topic, data: heard.append(data)))
        self.advance(3)
        sender.publish("x", 1)
        self.advance(0.2)
        self.assertEqual(heard, [1])

    def test_canceling_a_subscription_stops_the_wait(self) -> None:
        _, worker = self.pair()
        waiting = worker.subscribe("#", lambda topic, data: None)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(worker._running_engine.channel.ready)

    def test_another_refusal_of_the_broker_is_tried_again(self) -> None:
        """A queue with the same name and other arguments exists."""
        channel = self.operator()
        self.result(channel.queue_declare(queue=topology.jobs_queue("WB"), durable=True))
        worker = Worker("WB", do_job=echo)
        self.process(worker)
        self.advance(3)
        self.assertNotEqual(self.logged("PRECONDITION_FAILED"), [])
        self.result(channel.queue_delete(queue=topology.jobs_queue("WB")))
        self.advance(5)
        self.assertTrue(worker._running_engine.channel.ready)

    def test_a_refused_inbox_is_tried_again(self) -> None:
        channel = self.operator()
        self.result(
            channel.exchange_declare(exchange=topology.NOTIFICATIONS, exchange_type="topic", durable=True)
        )
        self.result(channel.queue_declare(queue=topology.inbox_queue("WB:1"), durable=True))
        worker = Worker("WB", do_job=echo, id="WB:1")
        self.process(worker)
        self.advance(3)
        self.assertFalse(worker._running_engine.channel.ready)
        self.result(channel.queue_delete(queue=topology.inbox_queue("WB:1")))
        self.advance(5)
        self.assertTrue(worker._running_engine.channel.ready)

    def test_an_id_is_free_again_when_its_worker_has_stopped(self) -> None:
        _, worker = self.pair()
        self.stop(worker.bus)
        again = Worker("WB", do_job=echo, id="WB:1")
        self.process(again)
        self.assertIs(self.successResultOf(again.when_ready()), again)

    def test_a_worker_that_leaves_a_running_process_frees_its_id(self) -> None:
        staying, leaving = Worker("WA"), Worker("WB", do_job=echo, id="WB:1")
        bus = self.process(staying, leaving)
        self.result(leaving.subscribe("#", lambda topic, data: None))
        self.result(leaving.stopService())
        again = Worker("WB", do_job=echo, id="WB:1")
        self.process(again)
        self.assertIs(self.successResultOf(again.when_ready()), again)
        self.assertTrue(bus.running)


class FlowTests(RecoveryTestCase):
    def test_nothing_is_published_while_the_broker_blocks_the_connection(self) -> None:
        sender, worker = self.pair()
        session = sender.bus.session
        assert session is not None
        session.publishing.set_blocked(True)
        self.assertFalse(sender.bus.writable)
        answer = sender.send("WB:*", 1).when_done()
        self.advance(10)
        self.assertNoResult(answer)
        session.publishing.set_blocked(False)
        self.assertEqual(self.result(answer), 1)
        self.assertEqual(len(worker._running_engine._answers), 1)

    def test_no_job_is_started_while_its_answer_could_not_be_sent(self) -> None:
        waiting: list[Deferred[None]] = []

        async def handle(job: Job) -> None:
            waiting.append(Deferred())
            await waiting[-1]

        sender, worker = self.pair(handle)
        session = worker.bus.session
        assert session is not None
        first = sender.send("WB:*").when_done()
        self.advance(0.5)
        session.publishing.set_blocked(True)
        second = sender.send("WB:*").when_done()
        waiting[0].callback(None)
        self.assertIsNone(self.result(first, 8.0))  # this broker continues to read
        self.assertEqual(len(waiting), 1)
        session.publishing.set_blocked(False)
        self.advance(2.5)
        waiting[1].callback(None)
        self.assertIsNone(self.result(second))
        self.assertEqual(len(waiting), 2)

    def test_the_jobs_that_wait_for_a_blocked_connection_are_bounded(self) -> None:
        sender, worker = self.pair()
        heard: list[Any] = []
        self.result(worker.subscribe("#", lambda topic, data: heard.append(topic)))
        self.patch(session_module, "BACKLOG_MAX", 10_000)
        session = sender.bus.session
        assert session is not None
        session.publishing.set_blocked(True)
        for number in range(100):
            sender.publish(f"blocked.{number}", "x" * 1000)
        session.publishing.set_blocked(False)
        sender.publish("free", "x" * 1000)
        self.advance(0.2)
        self.assertGreater(len(heard), 5)
        self.assertLess(len(heard), 11)
        self.assertEqual((heard[0], heard[-1]), ("blocked.0", "free"))

    def test_a_copy_without_a_queue_is_returned(self) -> None:
        sender, worker = self.pair()
        returned: list[Any] = []
        self.patch(sender._running_engine._outbox, "returned", returned.append)
        job = sender.send("WB:2", None)
        self.advance(0.2)
        self.assertEqual(returned, [f"{job.id}/0"])
        del worker

    def test_an_undeclared_exchange_does_not_close_the_channel(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        for _ in range(3):
            sender.send("WX:*", None)
        self.advance(5)
        self.assertIs(sender.bus.session, session)
        self.check(sender)

    def test_a_check_that_the_broker_refuses_has_no_result(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        assert session is not None
        refused = ChannelClosed(403, "ACCESS_REFUSED")
        for client in (session.publishing, session.consuming):
            for question in ("exchange_declare", "queue_declare"):
                self.patch(client.channelFactory, question, lambda channel, **_: fail(refused))
        self.failureResultOf(self.soon(Deferred.fromCoroutine(session.has("x"))), ChannelClosed)
        self.failureResultOf(self.soon(session.exists("x")), ChannelClosed)
        self.failureResultOf(self.soon(Deferred.fromCoroutine(session.consumers("x"))), ChannelClosed)

    def refuse(self, client: Any, method: str) -> None:
        """Let the broker refuse *method* because of missing permissions."""
        text = "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'WA'"
        refused = AccessRefused(text, "write")
        self.patch(client.channelFactory, method, lambda channel, **_: fail(refused))

    def test_a_message_that_is_not_permitted_fails_at_once_and_is_logged_once(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        assert session is not None
        self.refuse(session.publishing, "exchange_declare")
        jobs = [sender.send("WX:*", None) for _ in range(3)]
        stored = sender.send("WX:*", None, durable=True).when_stored()
        sender._running_engine.channel.publisher.reply("WX:1", messages.PROBE, "WX:1", b"")
        self.advance(0.2)
        for job in jobs:
            error = self.failureResultOf(job.when_done(), NotPermitted).value
            self.assertIn("the user lacks the write permission", str(error))
        self.failureResultOf(stored, NotStored)
        self.assertIs(sender.bus.session, session)
        self.assertEqual(len(self.logged("does not take a")), 1)

    def test_a_right_that_is_missing_at_the_first_start_fails_the_start(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        assert session is not None
        self.refuse(session.consuming, "queue_declare")
        late = Worker("WX", id="WX:1")
        late.setServiceParent(sender.bus)
        error = self.error(late.when_ready(), AccessRefused)
        self.assertIn("the user lacks the write permission", str(error))
        self.assertEqual(len(self.logged("cannot start")), 1)

    def test_a_right_that_is_revoked_later_is_waited_for_slowly(self) -> None:
        _, worker = self.pair()
        session = worker.bus.session
        assert session is not None
        self.refuse(session.consuming, "queue_declare")
        worker._running_engine.channel.robust._consumer_cancelled()
        self.advance(REFUSED_DELAY)
        self.assertEqual(len(self.logged("lost its channel")), 2)
        self.advance(REFUSED_DELAY)
        self.assertEqual(len(self.logged("lost its channel")), 3)

    def soon(self, waiting: Deferred[Any]) -> Deferred[Any]:
        self.advance(0.1)
        return waiting

    def test_nothing_is_published_on_a_session_that_is_lost(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        assert session is not None
        session.publishing.transport.abortConnection()
        self.advance(0.05)
        session.publish(session.frame(topology.EVENTS, "x", mandatory=False), b"", b"")

    def test_the_number_of_remembered_destinations_is_bounded(self) -> None:
        sender, _ = self.pair()
        session = sender.bus.session
        assert session is not None
        for number in range(10_050):
            session.frame(topology.to_exchange("WB"), f"WB:{number}", mandatory=True)
        self.assertLess(len(session._prefixes), 10_001)


class BadMessageTests(RecoveryTestCase):
    """Tests that any message that is not valid is dropped, without other effects."""

    def publish(self, worker: Worker, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        session = worker.bus.session
        assert session is not None
        frame = session.frame(exchange, key, mandatory=False)
        session.publish(frame, Properties(**properties).encode(), body)

    def test_bodies_that_do_not_match_their_content_type(self) -> None:
        sender, worker = self.pair(config=Config(max_message=4096))
        for destination in (
            (topology.to_exchange("WB"), "*"),
            (topology.to_exchange("WB"), "WB:1"),
            (topology.replies_exchange("WB"), "WB:1"),
            (topology.NOTIFICATIONS, "worker.new.WB"),
        ):
            for body, content_type in (
                (b"\xff\xfe", "application/json"),
                (b"{}", "text/plain"),
                (b"{}", None),
                (b"[1]", "application/json"),
                (b"{" * 4000, "application/json"),
                (b" " * 5000, "application/json"),
            ):
                self.publish(sender, *destination, body, content_type=content_type, message_type="ack")
        self.advance(0.5)
        self.check(sender)
        dropped = worker.bus.metrics.registry.get_sample_value(
            "microservices_job_errors_total", {"service": "WB", "error_type": "DecodeError"}
        )
        self.assertEqual(dropped, 24)
        said = self.logged("WB:1: dropped a")
        self.assertEqual(sorted(event["kind"] for event in said), ["ack", "job", "worker.new"])

    def test_control_messages_of_the_wrong_shape(self) -> None:
        sender, worker = self.pair()
        kinds = (
            "ack done heard refused result failure cancel probe status error peers list nonsense".split()  # noqa: SIM905
        )
        for kind in kinds:
            for body in (b"{}", b'{"worker": 1, "keys": 2}', b'{"worker": "WB:1", "keys": [1]}', b""):
                self.publish(
                    sender,
                    topology.replies_exchange("WB"),
                    "WB:1",
                    body,
                    content_type="application/json",
                    message_type=kind,
                )
        self.advance(0.5)
        self.check(sender)
        del worker

    def test_jobs_of_the_wrong_shape(self) -> None:
        sender, worker = self.pair()
        for body in (b"{}", b'{"workers_list": [], "workers_list_id": 0}', b'{"workers_list": 5}', b""):
            self.publish(
                sender,
                topology.to_exchange("WB"),
                "*",
                body,
                content_type="application/json",
                message_type="job",
            )
        self.advance(0.5)
        self.check(sender)
        self.assertEqual(len(worker._running_engine._intake), 0)

    def test_events_of_the_wrong_shape(self) -> None:
        heard: list[Any] = []
        sender, worker = self.pair()
        self.result(worker.subscribe("#", lambda topic, data: heard.append(data)))
        for body in (b"", b"nonsense", b"[]", b"{}"):
            self.publish(sender, topology.EVENTS, "x", body, content_type="application/json")
        self.advance(0.2)
        self.assertEqual(heard, [None])

    def test_more_workers_than_a_registry_keeps(self) -> None:
        sender, worker = self.pair()
        worker._running_engine.announcer.peers._limit = 2
        for number in range(5):
            sender._running_engine.channel.publisher.notify(
                "worker.new.WB", {"id": f"WB:{number + 10}", "type": "WB"}
            )
        self.advance(0.2)
        self.assertEqual(len(worker.peers), 2)
        self.check(sender)

    def test_an_error_for_another_worker_fails_nothing(self) -> None:
        sender, worker = self.pair()
        job = sender.send("WX:*", timeout=20)
        link = worker._running_engine.channel
        for target in ("WA:2", "WA:1"):
            self.assertFalse(job.done(), target)
            body = {"target": {"id": target, "type": "WA"}, "error": "", "address": "WX:*"}
            link.publisher.reply("WA:1", messages.ERROR, "", link.publisher.encode(body))
            self.advance(0.2)
        self.assertTrue(job.done())


class DuplicateTests(RecoveryTestCase):
    def test_a_worker_that_is_stopping_takes_no_jobs_after_a_loss(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        sender, worker = self.pair(handle)
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        stopping = worker.bus.stopService()
        self.advance(0.2)
        self.restart_broker()
        self.advance(5)
        second = sender.send("WB:*")
        self.advance(1)
        self.assertNotEqual(second._worker, "WB:1")
        waiting.callback("done")
        self.assertEqual(self.result(answer, 5.0), "done")
        self.advance(1)
        self.successResultOf(stopping)

    def test_a_refused_second_worker_does_not_affect_the_first(self) -> None:
        sender, worker = self.pair()
        second = Worker("WB", do_job=echo, id="WB:1")
        bus = self.process(second)
        self.failureResultOf(second.when_ready(), DuplicateWorker)
        self.stop(bus)
        self.check(sender)
        self.assertIs(self.successResultOf(worker.when_ready()), worker)


class BrokerFactoryTests(RecoveryTestCase):
    def test_two_brokers_share_nothing(self) -> None:
        """Tests the test environment: a broker does not have the queues of another one."""
        self.pair()
        self.assertNotEqual(list(self.broker.model.queues), [])
        self.assertEqual(list(BrokerFactory(self.clock).model.queues), [])
