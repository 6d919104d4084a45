"""The metrics of running workers and managers; :mod:`txmicro.metrics` describes the labels."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.support.system import SystemTestCase
from txmicro.errors import JobCancelled, JobError, JobTimeout, NotStored, NoWorkerAvailable
from txmicro.manager import SystemManager
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker


class Silent(Worker):
    """A worker whose jobs end as the test says."""

    def treat_error(self, error: JobError, job: JobFuture) -> None:
        """Do nothing: the test reads the metrics."""


async def work(job: Job) -> Any:
    if job.data == "fail":
        raise JobError("as told")
    if job.data == "never":
        await Deferred()
    if job.data == "forward":
        return Forward("WX:*")
    return job.data


class Counting(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Silent("WA")
        self.worker = Silent("WB", do_job=work)

        self.manager = SystemManager()
        for member in (self.sender, self.worker, self.manager):
            self.process(member)

    def value(self, member: Worker | SystemManager, name: str, **labels: str) -> float | None:
        return member.bus.metrics.registry.get_sample_value(f"microservices_{name}", labels)

    def errors(self, member: Worker | SystemManager) -> dict[str, float]:
        """Return the errors that the process of *member* has counted, by type."""
        return {
            sample.labels["error_type"]: sample.value
            for family in member.bus.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "microservices_job_errors_total"
        }


class GaugeTests(Counting):
    def gauges(self, member: Worker) -> tuple[float | None, ...]:
        names = ("pending_jobs", "running_jobs", "held_jobs")
        return tuple(self.value(member, name, service=member.type) for name in names)

    def test_pending_running_and_held_jobs(self) -> None:
        few = Worker("WF", do_job=work)
        few.capacity = 1
        self.process(few)
        first = self.sender.send("WF:*", "never")
        self.result(first.when_accepted())
        other = self.sender.send("WF:*", 1, durable=True)
        self.advance(0.2)
        self.assertEqual(
            (self.sender.pending_jobs, self.sender.running_jobs, self.sender.held_jobs), (2, 0, 0)
        )
        self.assertEqual((few.pending_jobs, few.running_jobs, few.held_jobs), (0, 1, 1))
        self.assertEqual(self.gauges(self.sender), (2, 0, 0))
        self.assertGreater(self.value(self.sender, "outbox_bytes", service="WA") or 0, 100)
        self.assertEqual(self.value(self.sender, "job_capacity", service="WA"), 0)
        self.assertEqual(self.value(few, "job_capacity", service="WF"), 1)
        self.assertEqual(self.gauges(few), (0, 1, 1))
        first.cancel()
        self.assertEqual(self.result(other.when_done(), 2.0), 1)
        self.assertEqual(self.gauges(self.sender), (0, 0, 0))
        self.assertEqual(self.gauges(few), (0, 0, 0))
        self.assertEqual(self.value(self.sender, "outbox_bytes", service="WA"), 0)

    def test_a_stopped_worker_is_not_counted(self) -> None:
        self.sender.send("WB:*", "never")
        self.advance(0.2)
        self.assertEqual(self.gauges(self.sender), (1, 0, 0))
        stopped = self.sender.stopService()
        self.result(stopped, 2.0)
        self.assertEqual(self.gauges(self.sender), (0, 0, 0))
        self.assertEqual(self.sender.pending_jobs, 0)


class SixTests(Counting):
    """The six metrics of MicroServices.js, at a worker and at a manager."""

    def test_messages(self) -> None:
        self.result(self.sender.send("WB:*", 1).when_done())
        self.result(self.sender.list_workers())
        for member, name, kind in (
            (self.sender, "sent", "job"),
            (self.sender, "received", "result"),
            (self.worker, "received", "job"),
            (self.worker, "sent", "result"),
        ):
            count = self.value(member, f"messages_{name}_total", service=member.type, type=kind)
            self.assertEqual(count, 1, (member, name))
        for name, kind in (("received", "worker.list"), ("sent", "list")):
            count = self.value(self.manager, f"messages_{name}_total", service="SystemManager", type=kind)
            self.assertGreaterEqual(count or 0, 1, name)

    def test_job_processing_time(self) -> None:
        for durable in (False, False, True):
            self.result(self.sender.send("WB:*", 1, durable=durable).when_done(), 0.5)
        for kind, jobs in (("interactive", 2), ("durable", 1)):
            labels = {"service": "WB", "job_type": kind}
            self.assertEqual(self.value(self.worker, "job_processing_seconds_count", **labels), jobs)

    def test_errors(self) -> None:
        self.error(self.sender.send("WB:*", "fail").when_done(), JobError)
        self.error(self.sender.send("WX:*").when_done(), NoWorkerAvailable, 10)
        self.assertEqual(self.errors(self.worker), {"JobError": 1})
        labels = {"service": "SystemManager", "error_type": "NoWorkerAvailable"}
        self.assertGreaterEqual(self.value(self.manager, "job_errors_total", **labels) or 0, 1)

    def test_workers(self) -> None:
        self.assertEqual(self.value(self.manager, "connected_workers"), 2)
        self.assertEqual(self.value(self.manager, "workers_total", type="WB"), 1)


class WhereTests(Counting):
    """An error is counted once, where it happens, even if nobody awaits the job."""

    def test_a_failure_of_a_handler_is_counted_at_its_worker(self) -> None:
        self.error(self.sender.send("WB:*", "fail").when_done(), JobError)
        self.sender.send("WB:*", "fail")  # it is not awaited
        self.advance(0.5)
        self.assertEqual(self.errors(self.worker), {"JobError": 2})
        self.assertEqual(self.errors(self.sender), {})

    def test_a_timeout_is_counted_at_its_sender(self) -> None:
        self.error(self.sender.send("WB:*", "never", timeout=1).when_done(), JobTimeout, 2)
        self.sender.send("WB:*", "never", timeout=1)
        self.advance(2)
        self.assertEqual(self.errors(self.sender), {"JobTimeout": 2})

    def test_a_job_without_a_worker_is_counted_at_its_sender(self) -> None:
        self.error(self.sender.send("WX:*").when_done(), NoWorkerAvailable, 10)
        self.sender.send("WX:*")
        self.advance(10)
        self.assertEqual(self.errors(self.sender), {"NoWorkerAvailable": 2})

    def test_a_forward_without_a_worker_is_counted_where_it_was_forwarded(self) -> None:
        self.error(self.sender.send("WB:*", "forward").when_done(), NoWorkerAvailable, 10)
        self.assertEqual(self.errors(self.worker), {"NoWorkerAvailable": 1})
        self.assertEqual(self.errors(self.sender), {})

    def test_a_lost_job_is_counted_at_its_sender(self) -> None:
        job = self.sender.send("WB:*", "never", redeliver=False, timeout=60)
        self.advance(1)
        assert self.worker.bus.session is not None
        self.endpoint.broker = None  # it cannot reconnect
        for client in (self.worker.bus.session.publishing, self.worker.bus.session.consuming):
            client.transport.abortConnection()
        self.error(job.when_done(), JobError, 20)
        self.assertEqual(self.errors(self.sender), {"WorkerLost": 1})

    def test_a_job_that_is_not_stored_is_counted_at_its_sender(self) -> None:
        self.error(self.sender.send("WX:*", durable=True).when_done(), NotStored, 10)
        self.assertEqual(self.errors(self.sender), {"NotStored": 1})

    def test_a_canceled_job_is_not_counted_as_an_error(self) -> None:
        job = self.sender.send("WB:*", "never")
        ended = job.when_done()
        self.advance(0.5)
        job.cancel()
        self.error(ended, JobCancelled)
        self.assertEqual(self.errors(self.sender), {})


class BusTests(Counting):
    def test_a_connection_that_is_lost_and_made_again(self) -> None:
        names = ("bus_connected", "bus_reconnects_total")
        self.assertEqual([self.value(self.sender, name) for name in names], [1, 0])
        self.endpoint.broker = None
        self.broker.close()
        self.advance(0.1)
        self.assertEqual([self.value(self.sender, name) for name in names], [0, 0])
        self.restart_broker()
        self.advance(5)
        self.assertEqual([self.value(self.sender, name) for name in names], [1, 1])
        self.stop(self.sender.bus)
        self.assertEqual([self.value(self.sender, name) for name in names], [0, 1])

    def test_confirms(self) -> None:
        self.assertEqual(self.value(self.sender, "confirm_seconds_count"), 0)
        self.result(self.sender.send("WB:*", 1, durable=True).when_done(), 0.5)
        self.assertEqual(self.value(self.sender, "confirm_seconds_count"), 1)

    def test_probes(self) -> None:
        self.sender.send("WB:*", "never")
        self.advance(5)
        self.assertEqual(self.value(self.sender, "probes_total", service="WA"), 2)

    def test_jobs_that_are_delivered_again(self) -> None:
        self.sender.send("WB:*", "never")
        self.sender.send("WB:*", "never", durable=True)
        self.advance(0.5)
        other = Silent("WB", do_job=work)
        self.process(other)
        session: Any = self.worker.bus.session
        self.endpoint.broker = None  # it cannot reconnect
        session.consuming.transport.abortConnection()
        self.advance(0.5)
        for job_type in ("interactive", "durable"):
            labels = {"service": "WB", "job_type": job_type}
            self.assertEqual(self.value(other, "job_redeliveries_total", **labels), 1, job_type)

    def test_messages_that_cannot_be_decoded(self) -> None:
        publisher = self.sender._running_engine.channel.publisher
        self.patch(publisher, "encode", lambda body: b"{")
        self.sender.send("WB:*", timeout=1)
        self.advance(2)
        self.assertEqual(self.value(self.worker, "undecodable_messages_total", service="WB"), 1)


class OutcomeTests(Counting):
    """How runs of handlers end, how long their jobs wait before, and how long their trips are."""

    def outcomes(self, member: Worker) -> dict[tuple[str, str], float]:
        return {
            (sample.labels["job_type"], sample.labels["outcome"]): sample.value
            for family in member.bus.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "microservices_jobs_total"
        }

    def test_interactive_jobs(self) -> None:
        forwarding = Silent("WX", do_job=work)
        self.process(forwarding)
        self.result(self.sender.send("WB:*", 1).when_done())
        self.error(self.sender.send("WB:*", "fail").when_done(), JobError)
        self.result(self.sender.send("WB:*", "forward").when_done())
        job = self.sender.send("WB:*", "never")
        self.result(job.when_accepted())
        job.cancel()
        self.advance(0.5)
        outcomes = ("succeeded", "failed", "forwarded", "canceled")
        self.assertEqual(self.outcomes(self.worker), {("interactive", outcome): 1 for outcome in outcomes})
        self.assertEqual(self.outcomes(forwarding), {("interactive", "succeeded"): 1})

    def test_durable_jobs(self) -> None:
        forwarding = Silent("WX", do_job=work)
        self.process(forwarding)
        self.result(self.sender.send("WB:*", 1, durable=True).when_done(), 0.5)
        self.error(self.sender.send("WB:*", "fail", durable=True).when_done(), JobError, 5)
        self.result(self.sender.send("WB:*", "forward", durable=True).when_done(), 1)
        self.result(self.sender.send("WB:*", "never", durable=True).when_accepted())
        self.stop(self.worker.bus)
        outcomes = ("succeeded", "dead", "forwarded", "returned")
        self.assertEqual(self.outcomes(self.worker), {("durable", outcome): 1 for outcome in outcomes})

    def test_a_durable_job_that_is_tried_again_waited_once(self) -> None:
        def fail(_job: Job) -> None:
            raise OSError

        worker = Silent("WR", do_job=fail)
        worker.retry = RetryPolicy(attempts=2)
        self.process(worker)
        self.error(self.sender.send("WR:*", durable=True).when_done(), JobError, 10)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
        self.assertEqual(self.outcomes(worker), {("durable", "retried"): 1, ("durable", "dead"): 1})
        labels = {"service": "WR", "job_type": "durable"}
        self.assertEqual(self.value(worker, "job_processing_seconds_count", **labels), 2)
        self.assertEqual(self.value(worker, "job_wait_seconds_count", **labels), 1)

    def test_waits_and_trips(self) -> None:
        few = Worker("WF", do_job=work)
        few.capacity = 1
        self.process(few)
        first = self.sender.send("WF:*", "never")
        self.result(first.when_accepted())
        second = self.sender.send("WF:*", 1)
        self.advance(0.7)
        first.cancel()
        self.result(second.when_done())
        labels = {"service": "WF", "job_type": "interactive"}
        self.assertEqual(self.value(few, "job_wait_seconds_bucket", **labels, le="0.5"), 1)
        self.assertEqual(self.value(few, "job_wait_seconds_bucket", **labels, le="1.0"), 2)
        trips = {"service": "WA", "target": "WF"}
        self.assertEqual(self.value(self.sender, "job_trip_seconds_bucket", **trips, le="0.5"), 0)
        self.assertEqual(self.value(self.sender, "job_trip_seconds_bucket", **trips, le="1.0"), 2)

    def test_a_job_of_an_older_sender_has_no_wait(self) -> None:
        self.patch(self.sender._engine, "_time", lambda: 0)
        self.result(self.sender.send("WB:*", 1).when_done())
        labels = {"service": "WB", "job_type": "interactive"}
        self.assertEqual(self.value(self.worker, "job_processing_seconds_count", **labels), 1)
        self.assertEqual(self.value(self.worker, "job_wait_seconds_count", **labels), 0)


class LaneTests(Counting):
    def test_jobs_that_are_sent_again(self) -> None:
        self.stop(self.manager.bus)  # otherwise it would report that there is no such worker
        self.sender.send("WX:*", timeout=10)
        self.advance(1)
        labels = {"service": "WA", "job_type": "interactive"}
        self.assertIsNone(self.value(self.sender, "job_resends_total", **labels))
        self.advance(1.5)
        self.assertEqual(self.value(self.sender, "job_resends_total", **labels), 1)

    def test_durable_jobs_that_are_stored_again(self) -> None:
        self.sender.send("WX:*", durable=True)  # its queue may be declared later
        self.advance(1.5)
        labels = {"service": "WA", "job_type": "durable"}
        self.assertEqual(self.value(self.sender, "job_resends_total", **labels), 1)

    def test_durable_jobs_that_become_dead_letters(self) -> None:
        self.error(self.sender.send("WB:*", "fail", durable=True).when_done(), JobError, 5)
        self.assertEqual(self.value(self.worker, "dead_letters_total", service="WB", reason="failed"), 1)
