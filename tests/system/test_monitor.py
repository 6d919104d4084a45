"""The monitor of a SystemManager: it sees jobs as they happened, and the numbers of all workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.system import Endpoint, SystemTestCase
from txmicro.bus.targets import Target
from txmicro.errors import JobError, NoWorkerAvailable
from txmicro.manager import SystemManager
from txmicro.monitoring import sampling
from txmicro.monitoring.fleet import FORGET, WorkerNumbers
from txmicro.monitoring.records import Record
from txmicro.page import monitor
from txmicro.page.monitor import LINGERING, Monitor
from txmicro.protocol.job import Forward, Job
from txmicro.protocol.notifications import Announcement
from txmicro.receiving.retry import RetryPolicy
from txmicro.runtime.reporter import WATCHED as WATCHED_FOR
from txmicro.worker import Worker

WATCHED = 3.0
"""Seconds after which all workers have heard a watch, and what happened before is reported."""


class ListMemory:
    """Remembers all records, in a list."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __len__(self) -> int:
        return len({record.job for record in self.records})

    def add(self, records: Iterable[Record]) -> None:
        self.records += records

    def life(self, job: str) -> list[tuple[Any, ...]]:
        """Return what happened to *job*, without times, in the order of hops and attempts."""
        found = [record for record in self.records if record.job == job]
        return [
            (each.kind, each.hop, each.address, each.worker.partition(":")[0], each.attempt, each.outcome)
            for each in found
        ]


class OutOfStock(JobError):
    """There is none left."""

    retryable = True


async def echo(job: Job) -> Any:
    return job.data


async def refuse(job: Job) -> Any:
    raise OutOfStock(f"no {job.data} left")


class MonitorCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.memory = ListMemory()
        self.manager = SystemManager()
        self.monitor = Monitor(self.manager, self.memory)
        bus = self.process(self.manager)
        self.monitor.setServiceParent(bus)
        self.advance(0.1)

    @property
    def now(self) -> float:
        """The Unix time of the manager's process."""
        return self.manager.bus.ids.time()

    def assert_near(self, value: float | None, expected: float, delta: float) -> None:
        assert value is not None
        self.assertLessEqual(abs(value - expected), delta, value)

    def watched(self, *workers: Worker) -> None:
        """Start processes with *workers*, and have them watched."""
        for worker in workers:
            self.process(worker)
        self.advance(WATCHED)


class LifeTests(MonitorCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = Worker("CLIENT")

    def test_a_job_is_seen_from_its_send_to_its_end(self) -> None:
        self.watched(self.client, Worker("WB", echo))
        job = self.client.send("WB:*", 1)
        self.assertEqual(self.result(job.when_done()), 1)
        self.assert_life(
            job.id,
            ("sent", 0, "WB:*", "CLIENT", 1, ""),
            ("ran", 0, "WB:*", "WB", 1, "succeeded"),
            ("ended", 0, "WB:*", "CLIENT", 0, "succeeded"),
        )
        self.assertEqual(self.monitor.overview()["remembered_jobs"], 1)

    def assert_life(self, job: str, *life: tuple[Any, ...]) -> None:
        self.advance(2)
        self.assertCountEqual(self.memory.life(job), life)

    def test_a_job_that_is_passed_on(self) -> None:
        async def pass_on(job: Job) -> Forward:
            return Forward("WC:*", job.data)

        for durable in (False, True):
            workers = (Worker("WA", echo), Worker("WB", pass_on), Worker("WC", echo))
            self.watched(self.client, *workers) if not durable else None
            job = self.client.send(["WA:*", "WB:*"], 1, durable=durable)
            self.assertEqual(self.result(job.when_done(), 2), 1)
            self.assert_life(
                job.id,
                ("sent", 0, "WA:*", "CLIENT", 1, ""),
                ("ran", 0, "WA:*", "WA", 1, "forwarded"),
                ("sent", 1, "WB:*", "WA", 1, ""),
                ("ran", 1, "WB:*", "WB", 1, "forwarded"),
                ("sent", 2, "WC:*", "WB", 1, ""),
                ("ran", 2, "WC:*", "WC", 1, "succeeded"),
                ("ended", 0, "WA:*", "CLIENT", 0, "succeeded"),
            )
        edges = [(edge["source"], edge["target"]) for edge in self.monitor.flow()["edges"]]
        self.assertEqual(edges, [("CLIENT", "WA"), ("WA", "WB"), ("WB", "WC")])

    def test_a_job_that_fails(self) -> None:
        self.watched(self.client, Worker("WB", refuse))
        job = self.client.send("WB:*", "tea")
        self.error(job.when_done(), OutOfStock)
        self.assert_life(
            job.id,
            ("sent", 0, "WB:*", "CLIENT", 1, ""),
            ("ran", 0, "WB:*", "WB", 1, "failed"),
            ("ended", 0, "WB:*", "CLIENT", 0, "failed"),
        )
        failed = [record for record in self.memory.records if record.outcome == "failed"]
        self.assertEqual({(each.error, each.message) for each in failed}, {("OutOfStock", "no tea left")})
        (edge,) = self.monitor.flow()["edges"]
        self.assertGreater(edge["errors_per_second"], 0)

    def test_a_durable_job_that_is_tried_again_and_becomes_a_dead_letter(self) -> None:
        worker = Worker("WB", refuse)
        worker.retry = RetryPolicy(attempts=2, steps=(1.0,))
        self.watched(self.client, worker)
        job = self.client.send("WB:*", "tea", durable=True)
        self.error(job.when_done(), OutOfStock, 3)
        self.assert_life(
            job.id,
            ("sent", 0, "WB:*", "CLIENT", 1, ""),
            ("ran", 0, "WB:*", "WB", 1, "retried"),
            ("ran", 0, "WB:*", "WB", 2, "dead"),
            ("dead", 0, "WB:*", "WB", 2, ""),
            ("ended", 0, "WB:*", "CLIENT", 0, "failed"),
        )
        (dead,) = (record for record in self.memory.records if record.kind == "dead")
        self.assertEqual((dead.text, dead.error, dead.message), ("attempts", "OutOfStock", "no tea left"))
        self.advance(5)
        (kind,) = (each for each in self.monitor.overview()["types"] if each["type"] == "WB")
        self.assertEqual(kind["queues"]["dead"]["jobs"], 1)

    def test_a_job_that_nobody_runs(self) -> None:
        self.watched(self.client)
        job = self.client.send("WB:*", 1)
        self.error(job.when_done(), NoWorkerAvailable, 10)
        self.advance(2)
        self.assertEqual(
            self.memory.life(job.id),
            [
                ("sent", 0, "WB:*", "CLIENT", 1, ""),
                ("ended", 0, "WB:*", "CLIENT", 0, "failed"),
            ],
        )
        (edge,) = self.monitor.flow()["edges"]
        self.assertEqual((edge["source"], edge["target"]), ("CLIENT", "WB"))

    def test_a_job_that_is_sent_again(self) -> None:
        async def never(job: Job) -> None:
            await Deferred()

        first, second = Worker("WB", never, id="WB:1"), Worker("WB", echo, id="WB:2")
        self.watched(self.client, first)
        job = self.client.send("WB:*", 1)
        self.advance(0.5)
        self.process(second)
        session = first.bus.session
        assert session is not None
        first.bus._targets[0] = Target(Endpoint(self.clock, None), first.bus._targets[0].broker)
        for client in (session.publishing, session.consuming):
            client.transport.abortConnection()
        self.assertEqual(self.result(job.when_done(), 10), 1)
        self.advance(2)
        self.assertIn(("resent", 0, "WB:*", "CLIENT", 2, ""), self.memory.life(job.id))
        (again,) = (record for record in self.memory.records if record.kind == "resent")
        self.assertEqual(again.text, "WB:1 is missing")

    def test_times_are_seconds_and_unix_time(self) -> None:
        async def slow(job: Job) -> None:
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(2, waiting.callback, None)
            await waiting

        self.watched(self.client, Worker("WB", slow))
        sent = self.now
        self.result(self.client.send("WB:*", 1).when_done(), 3)
        self.advance(2)
        ran, ended = (
            next(each for each in self.memory.records if each.kind == kind) for kind in ("ran", "ended")
        )
        self.assert_near(ran.seconds, 2, 0.1)
        self.assert_near(ran.wait, 0, 0.1)
        self.assert_near(ended.seconds, 2, 0.2)
        self.assert_near(ran.time, sent + 2, 0.2)


class NumbersTests(MonitorCase):
    def kind(self, name: str) -> dict[str, Any]:
        found: dict[str, Any]
        (found,) = (each for each in self.monitor.overview()["types"] if each["type"] == name)
        return found

    def test_the_overview(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        worker.capacity = 7
        self.watched(client, worker)
        for _ in range(10):
            for _ in range(4):
                self.result(client.send("WB:*", 1).when_done(), 0.05)
            self.advance(0.8)
        overview = self.monitor.overview()
        self.assertEqual([each["type"] for each in overview["types"]], ["CLIENT", "WB"])
        self.assertEqual((overview["workers"], overview["share"]), (2, 1.0))
        self.assertEqual(overview["bus"], {"connected": True, "obstacle": ""})
        self.assertGreater(overview["records_per_second"], 5)
        kind = self.kind("WB")
        self.assertEqual((kind["workers"], kind["suspect"], kind["capacity"]), (1, 0, 7))
        self.assertEqual((kind["running"], kind["held"], kind["pending"]), (0, 0, 0))
        self.assert_near(kind["jobs_per_second"], 4, 0.5)
        self.assertEqual(kind["errors_per_second"], 0)
        for name in ("wait", "run", "trip"):
            self.assertGreater(kind[name]["p99"], 0, name)
        self.assertEqual(kind["queues"]["interactive"], {"jobs": 0, "consumers": 1, "oldest": 0.0})
        series = self.monitor.series("WB", 5)
        assert series is not None
        self.assertEqual(len(series["jobs"]), 5)
        self.assert_near(sum(series["jobs"]) / 5, 4, 1)
        self.assertEqual(series["depth"], [0] * 5)
        self.assert_near(series["start"] + 4, self.now, 1.1)

    def test_a_worker_that_joins_is_watched_soon(self) -> None:
        self.process(Worker("WB", echo))
        self.advance(2.6)
        self.assertEqual(len(self.monitor.fleet.workers), 1)

    def test_many_workers_that_join_are_not_watched_for_each_of_them(self) -> None:
        watches: list[float] = []
        self.patch(self.manager, "watch", lambda *values: watches.append(self.now))
        for number in range(40):
            self.monitor.joined(Announcement(f"WB:{number}", "WB"))
            self.advance(0.1)
        self.assertLessEqual(len(watches), 3)
        self.assertGreaterEqual(len(watches), 2)

    def test_a_worker_that_does_not_report_is_seen_all_the_same(self) -> None:
        """As one of MicroServices.js, or of an earlier version."""
        client = Worker("CLIENT")
        self.watched(client)
        publisher = client._running_engine.channel.publisher
        publisher.notify("worker.new.WX", {"id": "WX:1", "type": "WX"})
        self.advance(6)
        kind = self.kind("WX")
        self.assertEqual((kind["workers"], kind["jobs_per_second"], kind["running"]), (1, None, None))
        self.assertEqual(kind["queues"]["interactive"], {"jobs": None, "consumers": None, "oldest": None})
        (worker,) = self.monitor.workers(type="WX")["workers"]
        self.assertEqual((worker["id"], worker["started"], worker["running"]), ("WX:1", None, None))
        series = self.monitor.series("WX")
        assert series is not None
        self.assertEqual(set(series["jobs"]), {None})
        self.assertIsNone(self.monitor.series("NOBODY"))

    def test_a_worker_that_reports_no_more_is_suspect(self) -> None:
        """A worker that was killed does not say that it leaves."""
        silent, other = Worker("WB", echo, id="WB:silent"), Worker("WB", echo, id="WB:other")
        self.watched(silent, other)
        assert silent._engine is not None
        self.patch(silent._engine._reporter, "watched", lambda watch: None)
        silent._engine._reporter.close()
        self.advance(FORGET + 15.0, step=0.5)
        states = {each["id"]: each["state"] for each in self.monitor.workers()["workers"]}
        self.assertEqual(states, {"WB:silent": "suspect", "WB:other": "alive"})
        (kind,) = self.monitor.overview()["types"]
        self.assertEqual((kind["workers"], kind["suspect"]), (2, 1))

    def test_the_list_of_workers(self) -> None:
        workers = [Worker("WB", echo, id=f"WB:{number}") for number in range(5)]
        self.watched(Worker("CLIENT", id="CLIENT:1"), *workers)
        listed = self.monitor.workers(limit=4)
        self.assertEqual(listed["total"], 6)
        self.assertEqual([each["id"] for each in listed["workers"]], ["CLIENT:1", "WB:0", "WB:1", "WB:2"])
        rest = self.monitor.workers(limit=4, after=listed["next"])
        self.assertEqual(([each["id"] for each in rest["workers"]], rest["next"]), (["WB:3", "WB:4"], None))
        self.assertEqual(self.monitor.workers(type="WB")["total"], 5)
        self.assertEqual(self.monitor.workers(search="wb:3")["workers"][0]["id"], "WB:3")
        self.assertEqual(self.monitor.workers(state="suspect")["total"], 0)
        self.assertEqual(self.monitor.workers(state="alive")["total"], 6)
        worker = rest["workers"][0]
        self.assertEqual((worker["type"], worker["state"], worker["jobs_per_second"]), ("WB", "alive", 0))
        self.assert_near(worker["heard"], self.now, WATCHED + 1)
        self.assertGreaterEqual(worker["uptime"], 0)

    def test_jobs_that_wait_for_a_worker(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        self.stop(worker.bus)
        self.advance(6)
        for _ in range(3):
            client.send("WB:*", 1, durable=True, timeout=1000)
        self.advance(20)
        durable = self.kind("WB")["queues"]["durable"]
        self.assertEqual((durable["jobs"], durable["consumers"]), (3, 0))
        self.assert_near(durable["oldest"], 20, 6)
        value = self.manager.bus.metrics.registry.get_sample_value
        labels = {"type": "WB", "queue": "durable"}
        self.assertEqual(value("microservices_queue_jobs", labels), 3)
        self.assertEqual(value("microservices_queue_consumers", labels), 0)
        self.assertEqual(value("microservices_queue_oldest_seconds", labels), durable["oldest"])
        series = self.monitor.series("WB", 1)
        assert series is not None
        self.assertEqual(series["depth"], [3])

    def test_an_empty_queue_has_no_oldest_job(self) -> None:
        self.watched(Worker("CLIENT"), Worker("WB", echo))
        self.advance(20)
        series = self.monitor.series("WB", 1)
        assert series is not None
        self.assertEqual((series["depth"], series["oldest"]), ([0], [None]))

    def test_a_type_without_workers_leaves_after_a_while(self) -> None:
        worker = Worker("WB", echo)
        self.watched(Worker("CLIENT"), worker)
        self.stop(worker.bus)
        self.advance(LINGERING / 2)
        self.assertEqual(self.kind("WB")["workers"], 0)
        self.advance(LINGERING)
        self.assertEqual([each["type"] for each in self.monitor.overview()["types"]], ["CLIENT"])

    def test_a_type_without_workers_stays_as_long_as_jobs_wait_for_it(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        self.stop(worker.bus)
        client.send("WB:*", 1, durable=True, timeout=1000)
        self.advance(2 * LINGERING)
        self.assertEqual(self.kind("WB")["queues"]["durable"]["jobs"], 1)


class WatchTests(MonitorCase):
    def notifications(self, worker: Worker) -> list[str]:
        """Return the topics that *worker* publishes notifications to, from now on."""
        topics: list[str] = []
        publisher = worker._running_engine.channel.publisher
        notify = publisher.notify

        def noted(topic: str, body: dict[str, Any]) -> None:
            topics.append(topic)
            notify(topic, body)

        self.patch(publisher, "notify", noted)
        return topics

    def test_without_a_manager_that_watches_nothing_is_recorded(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        self.stop(self.manager.bus)
        self.advance(WATCHED_FOR + 2)
        topics = self.notifications(worker)
        self.result(client.send("WB:*", 1).when_done())
        self.advance(30)
        self.assertEqual(topics, [])
        self.assertIsNone(worker._running_engine._recorder)
        self.assertIsNone(worker._running_engine.lane.recorder)

    def test_a_manager_without_a_monitor_hears_nothing(self) -> None:
        self.stop(self.manager.bus)
        worker = Worker("WB", echo)
        self.process(SystemManager())
        self.process(worker)
        topics = self.notifications(worker)
        self.advance(10)
        self.assertEqual(topics, [])

    def test_several_managers_hear_the_same(self) -> None:
        memory, manager = ListMemory(), SystemManager()
        monitor = Monitor(manager, memory)
        bus = self.process(manager)
        monitor.setServiceParent(bus)
        client = Worker("CLIENT")
        self.watched(client, Worker("WB", echo))
        job = client.send("WB:*", 1)
        self.result(job.when_done())
        self.advance(2)
        self.assertEqual(len(self.memory.life(job.id)), 3)
        self.assertCountEqual(memory.life(job.id), self.memory.life(job.id))

    def test_very_many_workers_report_less_often(self) -> None:
        self.patch(monitor, "REPORTS", 1.0)
        watches: list[float] = []
        self.patch(self.manager, "watch", lambda interval, *values: watches.append(interval))
        for count in (0, 1, 4, 100):
            numbers = {f"WB:{number}": WorkerNumbers() for number in range(count)}
            self.patch(self.monitor.fleet, "workers", numbers)
            self.monitor._watch()
        self.assertEqual(watches, [1.0, 1.0, 4.0, 10.0])

    def test_a_worker_that_stops_reports_what_is_left(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        job = client.send("WB:*", 1)
        self.result(job.when_done(), 0.05)
        self.stop(worker.bus)
        self.assertIn(("ran", 0, "WB:*", "WB", 1, "succeeded"), self.memory.life(job.id))

    def test_it_goes_on_after_the_broker_was_restarted(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        self.restart_broker()
        self.advance(10)
        job = client.send("WB:*", 1)
        self.assertEqual(self.result(job.when_done()), 1)
        self.advance(2)
        self.assertEqual(len(self.memory.life(job.id)), 3)

    def undecodable(self) -> float:
        """Return how many messages nobody could read."""
        metrics = {bus.metrics.registry: None for bus in self.buses}
        samples = (sample for each in metrics for family in each.collect() for sample in family.samples)
        return sum(each.value for each in samples if each.labels.get("error_type") == "DecodeError")

    def test_a_bad_report_harms_nobody(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        publisher = client._running_engine.channel.publisher
        about = {"worker": worker.id, "running": 1000}
        for topic, body in (
            ("monitor.report.CLIENT", about),
            ("monitor.report.WB.WB", about),
            ("monitor.report.CLIENT", {"worker": client.id, "records": [[]]}),
            ("monitor.report.CLIENT", {"worker": client.id, "numbers": {"run": {"durable": [1]}}}),
            ("monitor.watch", {"manager": "nobody"}),
            ("monitor.watch", {"manager": "SystemManager:1", "share": 7}),
        ):
            before = self.undecodable()
            publisher.notify(topic, body)
            self.advance(0.1)
            self.assertGreater(self.undecodable(), before, (topic, body))
        self.assertEqual(self.monitor.fleet.workers[worker.id].running, 0)
        job = client.send("WB:*", 1)
        self.assertEqual(self.result(job.when_done()), 1)
        self.advance(2)
        self.assertEqual(len(self.memory.life(job.id)), 3)

    def test_too_many_records_lower_the_share_and_it_rises_again(self) -> None:
        self.patch(sampling, "RECORDS", 3.0)
        client = Worker("CLIENT")
        self.watched(client, Worker("WB", echo))
        for _ in range(80):
            self.result(client.send("WB:*", 1).when_done(), 0.1)
        self.assertLess(self.monitor.overview()["share"], 0.5)
        heard = len(self.memory.records)
        self.advance(1.5)
        for _ in range(20):
            self.result(client.send("WB:*", 1).when_done(), 0.1)
        self.advance(1)
        self.assertLess(len(self.memory.records) - heard, 60)
        self.advance(60)
        self.assertEqual(self.monitor.overview()["share"], 1.0)


class LinesTests(MonitorCase):
    LINE = {"time": 1.5, "worker": "WB:1", "job": "00ff-1", "service": "WB", "message": "a\nline"}

    def setUp(self) -> None:
        super().setUp()
        self.client = Worker("CLIENT")
        self.watched(self.client)

    def publish(self, topic: str, data: Any) -> None:
        self.client.publish(topic, data)
        self.advance(0.1)

    def test_warnings_and_errors_of_all_processes_are_heard(self) -> None:
        told: list[dict[str, Any]] = []
        stop = self.monitor.when_line(told.append)
        for level in ("debug", "info", "warn", "error", "critical"):
            self.publish(f"log.{level}.WB", {**self.LINE, "level": level})
        levels = [line["level"] for line in self.monitor.errors()["lines"]]
        self.assertEqual(levels, ["critical", "error", "warn"])
        self.assertEqual([line["level"] for line in self.monitor.errors(limit=1)["lines"]], ["critical"])
        self.assertEqual(len(told), 3)
        self.assertEqual(told[0], {**self.LINE, "level": "warn", "message": "a\\nline"})
        stop()
        self.publish("log.warn.WB", self.LINE)
        self.assertEqual(len(told), 3)

    def test_a_line_about_a_job_belongs_to_its_life(self) -> None:
        self.publish("log.warn.WB", {**self.LINE, "hop": 2, "trace": "00ff"})
        self.publish("log.warn.WB", {**self.LINE, "job": None})
        (record,) = self.memory.records
        self.assertEqual(
            record,
            Record("log", 1.5, "00ff-1", 2, worker="WB:1", outcome="warn", trace="00ff", text="a\\nline"),
        )

    def test_a_line_that_is_none_is_ignored(self) -> None:
        lines: tuple[Any, ...] = (None, [], "text", {}, {"message": 1})
        for data in lines:
            self.publish("log.warn.WB", data)
        self.publish("log.warn.WB", {"message": "text", "time": "now", "worker": 1, "job": [], "hop": "x"})
        (line,) = self.monitor.lines
        self.assertEqual((line["worker"], line["job"], line["message"]), ("", "", "text"))
        self.assert_near(line["time"], self.now, 1)

    def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(self) -> None:
        told: list[Any] = []

        def broken(*line: Any) -> None:
            raise OSError

        self.monitor.when_line(broken)
        self.monitor.when_line(told.append)
        self.monitor.when_changed(broken)
        self.monitor.when_changed(lambda: told.append("changed"))
        self.publish("log.warn.WB", self.LINE)
        self.advance(1)
        self.assertEqual(len(told), 2)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
