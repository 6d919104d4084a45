"""The SystemManager: the list of workers, and its answers to inquiries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.support.system import Endpoint, SystemTestCase
from txmicro.amqp.errors import AccessRefused, ConnectionLost
from txmicro.config import Config
from txmicro.discovery import inquiries
from txmicro.errors import AddressError, BusClosed, DuplicateWorker, NoAnswer, NoWorkerAvailable
from txmicro.manager import SystemManager
from txmicro.protocol import messages
from txmicro.protocol.job import Job
from txmicro.worker import Worker

ALIVE = Config(keepalive=1000)


async def echo(job: Job) -> Any:
    return job.data


class LogLevelTests(SystemTestCase):
    """A SystemManager sets log levels in the processes of the bus."""

    def setUp(self) -> None:
        super().setUp()
        self.manager = SystemManager()
        self.own = self.process(self.manager)
        self.first, self.second = self.process(Worker("WA")), self.process(Worker("WB"))

    def levels(self) -> list[dict[str, str]]:
        return [bus.log_levels.all for bus in (self.own, self.first, self.second)]

    def test_all_processes(self) -> None:
        self.manager.set_log_level("bus", "debug")
        self.advance(0.1)
        self.assertEqual(self.levels(), [{"*": "info", "bus": "debug"}] * 3)
        self.assertEqual(self.manager.log_levels, {"*": "info", "bus": "debug"})
        self.manager.set_log_level("bus", "")
        self.manager.set_log_level("*", "warn")
        self.advance(0.1)
        self.assertEqual(self.levels(), [{"*": "warn"}] * 3)

    def test_the_processes_of_a_type(self) -> None:
        self.manager.set_log_level("*", "debug", "WB")
        self.advance(0.1)
        self.assertEqual(self.levels(), [{"*": "info"}, {"*": "info"}, {"*": "debug"}])

    def test_each_process_logs_it(self) -> None:
        with capturedLogs() as events:
            self.manager.set_log_level("bus", "debug")
            self.advance(0.1)
        said = [formatEvent(event) for event in events]
        self.assertEqual(len([text for text in said if "has set the log level of bus to debug" in text]), 3)

    def test_invalid_arguments_are_refused(self) -> None:
        for arguments in (("a b", "info"), ("bus", "loud"), ("", "info")):
            self.assertRaises(ValueError, self.manager.set_log_level, *arguments)
        self.assertRaises(AddressError, self.manager.set_log_level, "bus", "info", "W:*")

    def test_without_a_connection_it_says_so(self) -> None:
        self.stop(self.own)
        error = self.assertRaises(BusClosed, self.manager.set_log_level, "bus", "info")
        self.assertIn("cannot set a log level: it is not running; try again later", str(error))


class RegistryTests(SystemTestCase):
    def test_a_manager_that_starts_late_learns_all_workers(self) -> None:
        workers = [Worker(kind) for kind in ("WA", "WB", "WB")]
        for worker in workers:
            self.process(worker)
        manager = SystemManager()
        self.process(manager)
        self.assertIs(self.successResultOf(manager.when_ready()), manager)
        self.assertEqual({entry["id"] for entry in manager.registry.listing()}, {w.id for w in workers})
        self.assertEqual(manager.registry.counts(), {"WA": 1, "WB": 2})

    def test_it_counts_them_in_metrics(self) -> None:
        manager = SystemManager()
        bus = self.process(manager)
        self.assertEqual(bus.metrics.registry.get_sample_value("microservices_connected_workers"), 0)
        self.process(Worker("WB"))
        value = bus.metrics.registry.get_sample_value
        self.assertEqual(value("microservices_connected_workers"), 1)
        self.assertEqual(value("microservices_workers_total", {"type": "WB"}), 1)
        self.stop(self.buses[-1])
        self.assertEqual(value("microservices_workers_total", {"type": "WB"}), 0)

    def test_a_round_that_fails_is_not_the_last(self) -> None:
        manager, worker = SystemManager(), Worker("WB")
        self.process(manager, config=ALIVE)
        self.process(worker)

        def broken(period: float, transmitted: bool) -> Any:
            raise OSError

        self.patch(manager.registry, "keepalive", broken)
        self.advance(2.5)
        self.assertGreaterEqual(len(self.flushLoggedErrors(OSError)), 2)

    def test_without_keepalive_it_sends_no_requests(self) -> None:
        manager, worker = SystemManager(), Worker("WB")
        self.process(manager)
        bus = self.process(worker)
        heard: list[str] = []
        self.patch(worker._running_engine._control, "notified", lambda topic, body: heard.append(topic))
        self.advance(10)
        self.assertEqual(heard, [])
        self.assertTrue(bus.running)

    def test_a_worker_that_answers_keepalives_stays(self) -> None:
        manager, worker = SystemManager(), Worker("WB")
        self.process(manager, config=ALIVE)
        self.process(worker)
        self.advance(10)
        self.assertEqual([entry["state"] for entry in manager.registry.listing()], ["alive"])

    def test_a_worker_that_misses_two_is_suspect_and_after_three_it_is_removed(self) -> None:
        manager, worker, peer = SystemManager(), Worker("WB", id="WB:1"), Worker("WB", id="WB:2")
        self.process(manager, config=ALIVE)
        self.process(worker)
        self.process(peer)
        self.advance(1)
        self.patch(
            worker._running_engine._control, "notified", lambda topic, body: None
        )  # as if it were blocked
        states = []
        for _ in range(5):
            self.advance(1)
            states.append({entry["id"]: entry["state"] for entry in manager.registry.listing()}.get("WB:1"))
        self.assertEqual(states[-1], None)
        self.assertIn("suspect", states)
        self.assertEqual([known.id for known in peer.peers], ["WB:2"])

    def test_a_removed_worker_that_runs_is_listed_again(self) -> None:
        manager, worker = SystemManager(), Worker("WB")
        self.process(manager, config=ALIVE)
        self.process(worker)
        manager.channel.publisher.notify(
            "worker.del.WB", {"id": worker.id, "type": "WB", "reason": "mistake"}
        )
        self.advance(0.2)
        self.assertIn(worker.id, manager.registry)

    def test_two_managers_have_the_same_list(self) -> None:
        managers = [SystemManager(), SystemManager()]
        for manager in managers:
            self.process(manager, config=ALIVE)
        sender, worker = Worker("WA"), Worker("WB", do_job=echo)
        self.process(sender)
        bus = self.process(worker)
        self.advance(5)
        self.assertEqual(managers[0].registry.counts(), managers[1].registry.counts())
        self.assertEqual(self.result(sender.send("WB:*", 1).when_done()), 1)
        self.stop(bus)
        for manager in managers:
            self.assertNotIn(worker.id, manager.registry)
        self.stop(self.buses[0])
        self.advance(5)
        self.assertIn(sender.id, managers[1].registry)

    def test_two_with_one_id(self) -> None:
        self.process(SystemManager(id="SystemManager:1"))
        second = SystemManager(id="SystemManager:1")
        self.process(second)
        self.failureResultOf(second.when_ready(), DuplicateWorker)

    def test_it_needs_a_bus(self) -> None:
        self.assertRaises(TypeError, SystemManager().startService)

    def test_the_list_on_request(self) -> None:
        manager, asker = SystemManager(), Worker("WA")
        self.process(manager)
        self.process(asker, Worker("WB", id="WB:1"))
        workers = self.result(asker.list_workers())
        self.assertEqual({entry["type"] for entry in workers}, {"WA", "WB"})
        self.assertEqual({entry["state"] for entry in workers}, {"alive"})

    def test_the_list_without_a_manager_times_out(self) -> None:
        asker = Worker("WA")
        self.process(asker)
        waiting = asker.list_workers(timeout=3.0)
        self.error(waiting, NoAnswer, 3.5)

    def test_jobs_work_without_a_manager(self) -> None:
        sender = Worker("WA")
        self.process(sender, Worker("WB", do_job=echo))
        bus = self.process(SystemManager(), config=ALIVE)
        self.stop(bus)
        self.assertEqual(self.result(sender.send("WB:*", 1).when_done()), 1)


class InquiryTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.manager = SystemManager()
        self.process(self.manager)
        self.errors: list[Any] = []

    def inquire(self, address: str, sender: Worker) -> None:
        sender._running_engine.channel.publisher.notify(
            "worker.next", {"address": address, "sender": sender.id}
        )

    @contextmanager
    def patched(self, thing: Any, name: str, value: Any) -> Iterator[None]:
        before = getattr(thing, name)
        setattr(thing, name, value)
        yield
        setattr(thing, name, before)

    def listen(self, worker: Worker) -> None:
        def told(kind: str, body: Any) -> None:
            self.errors.append((kind, body))

        self.patch(worker._running_engine._control, "told", told)

    def test_the_answer_has_its_documented_form_after_two_checks(self) -> None:
        sender = Worker("WA", id="WA:1")
        self.process(sender)
        self.listen(sender)
        self.inquire("WX:*", sender)
        self.advance(1.7)
        self.assertEqual(self.errors, [])
        self.advance(0.5)
        body = {
            "target": {"id": "WA:1", "type": "WA"},
            "error": "No worker available for this job",
            "address": "WX:*",
        }
        self.assertEqual(self.errors, [(messages.ERROR, body)])

    def test_all_senders_that_ask_in_the_meantime_are_answered(self) -> None:
        senders = [Worker("WA"), Worker("WA")]
        self.process(*senders)
        for sender in senders:
            self.listen(sender)
            self.inquire("WX:*", sender)
            self.inquire("WX:*", sender)
        self.advance(3)
        self.assertEqual(len(self.errors), 2)

    def test_a_worker_that_starts_between_the_checks_counts(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        self.listen(sender)
        self.inquire("WX:*", sender)
        self.advance(1)
        self.process(Worker("WX", do_job=echo))
        self.advance(3)
        self.assertEqual(self.errors, [])

    def test_after_an_outage_workers_may_reconnect_later_than_the_manager(self) -> None:
        way, late = self.endpoint, Endpoint(self.clock, self.broker)
        worker, sender = Worker("WB", do_job=echo), Worker("WA")
        self.endpoint = late
        self.process(worker)
        self.endpoint = way
        self.process(SystemManager())
        self.process(sender)
        late.broker = None
        self.restart_broker()
        waiting = sender.send("WB:*", 1).when_done()
        nobody = sender.send("WX:*", 1).when_done()
        self.advance(3)
        late.broker = self.broker
        self.assertEqual(self.result(waiting, 6), 1)
        self.error(nobody, NoWorkerAvailable, 4)

    def test_an_address_with_an_id_checks_the_workers_own_queue(self) -> None:
        sender = Worker("WA")
        self.process(sender, Worker("WB", do_job=echo, id="WB:1"))
        self.listen(sender)
        self.inquire("WB:1", sender)
        self.inquire("WB:2", sender)
        self.advance(3)
        self.assertEqual([body["address"] for _, body in self.errors], ["WB:2"])

    def test_a_check_that_fails_is_not_answered(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        self.listen(sender)

        async def broken(address: str) -> bool:
            raise ConnectionLost("gone")

        with self.patched(self.manager.channel, "nobody_takes", broken):
            self.inquire("WX:*", sender)
            self.advance(3)
        self.assertEqual(self.errors, [])
        self.inquire("WX:*", sender)
        self.advance(3)
        self.assertEqual(len(self.errors), 1)

    def test_a_check_without_an_answer_ends_and_the_next_one_succeeds(self) -> None:
        """As on RabbitMQ 4.3, which does not answer for a queue whose node is down."""
        sender = Worker("WA")
        self.process(sender)
        self.listen(sender)

        async def silent(address: str) -> bool:
            await Deferred()
            return True

        with self.patched(self.manager.channel, "nobody_takes", silent):
            self.inquire("WX:*", sender)
            self.advance(inquiries.CHECK_TIMEOUT + 0.5)
        self.assertEqual(self.errors, [])
        self.inquire("WX:*", sender)
        self.advance(3)
        self.assertEqual(len(self.errors), 1)

    def test_a_missing_right_to_check_is_logged_once(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        self.listen(sender)

        async def refused(address: str) -> bool:
            raise AccessRefused("ACCESS_REFUSED - access to queue 'txmicro.jobs.WX' refused", "write")

        with capturedLogs() as events, self.patched(self.manager.channel, "nobody_takes", refused):
            for _ in range(2):
                self.inquire("WX:*", sender)
                self.advance(3)
        self.assertEqual(self.errors, [])
        (said,) = [event for event in events if event["log_level"] is LogLevel.error]
        text = formatEvent(said)
        self.assertIn("cannot check for consumers of WX:*", text)
        self.assertIn("the user lacks the write permission", text)

    def test_more_addresses_than_it_checks_at_once_wait(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        self.listen(sender)
        self.patch(inquiries, "MAX_INQUIRIES", 1)
        for kind in ("WX", "WY"):
            self.inquire(f"{kind}:*", sender)
        self.advance(3)
        self.assertEqual([body["address"] for _, body in self.errors], ["WX:*"])

    def test_stopping_ends_the_checks(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        self.inquire("WX:*", sender)
        self.advance(0.1)
        self.stop(self.buses[0])


class BadInputTests(SystemTestCase):
    def test_an_invalid_notification_is_dropped_and_counted(self) -> None:
        manager, worker = SystemManager(), Worker("WA")
        bus = self.process(manager)
        self.process(worker)
        for topic, body in (
            ("worker.new.WB", {}),
            ("worker.new.WB", {"id": "WB", "type": "WB"}),
            ("worker.new.WB", {"id": "WB:1", "type": "WC"}),
            ("worker.new.WB", {"id": "WB:1", "type": "WB", "pid": "x"}),
            ("worker.new.WB", {"id": "WC:1", "type": "WC"}),
            ("worker.new.resend", {"id": "WB:1", "type": "WB"}),
            ("worker.new.resend.WB", {"id": "WC:1", "type": "WC"}),
            ("worker.del.WB", {"id": 5}),
            ("worker.del.WB", {"id": "WC:1"}),
            ("worker.next", {"address": "nowhere", "sender": "WA:1"}),
            ("worker.next", {"address": "WB:*", "sender": "WA:*"}),
            ("worker.list", {"sender": {}}),
            ("worker.list", {"sender": {"id": "?"}}),
        ):
            worker._running_engine.channel.publisher.notify(topic, body)
        self.advance(0.2)
        self.assertEqual(manager.registry.counts(), {"WA": 1})
        dropped = bus.metrics.registry.get_sample_value(
            "microservices_job_errors_total", {"service": "SystemManager", "error_type": "DecodeError"}
        )
        self.assertEqual(dropped, 12)

    def test_control_messages_are_dropped(self) -> None:
        manager, worker = SystemManager(), Worker("WA")
        bus = self.process(manager)
        self.process(worker)
        link = worker._running_engine.channel
        link.publisher.reply(manager.id, messages.RESULT, "", link.publisher.encode({}))
        self.advance(0.2)
        dropped = bus.metrics.registry.get_sample_value(
            "microservices_job_errors_total", {"service": "SystemManager", "error_type": "DecodeError"}
        )
        self.assertEqual(dropped, 1)
