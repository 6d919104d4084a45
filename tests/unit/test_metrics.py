"""The metrics: values, labels, limits."""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.metrics import Metrics
from txmicro.util.prometheus import BUCKETS, LIMIT


class MetricsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, self.clock.seconds)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"microservices_{name}", labels)

    def children(self, name: str, label: str) -> set[str]:
        samples = (sample for family in self.registry.collect() for sample in family.samples)
        return {sample.labels[label] for sample in samples if sample.name == f"microservices_{name}"}


class RecordTests(MetricsCase):
    def test_messages(self) -> None:
        service = self.metrics.service("WB")
        service.record_message_received("job")
        service.record_message_received("job")
        service.record_message_sent("result")
        self.assertEqual(self.value("messages_received_total", service="WB", type="job"), 2)
        self.assertEqual(self.value("messages_sent_total", service="WB", type="result"), 1)

    def test_errors(self) -> None:
        self.metrics.service("WB").record_error("OutOfStock")
        self.assertEqual(self.value("job_errors_total", service="WB", error_type="OutOfStock"), 1)

    def test_job_timer(self) -> None:
        stop = self.metrics.service("WB").start_job_timer("durable")
        self.clock.advance(0.75)
        self.assertEqual(stop(), 0.75)
        labels = {"service": "WB", "job_type": "durable"}
        self.assertEqual(self.value("job_processing_seconds_sum", **labels), 0.75)
        self.assertEqual(self.value("job_processing_seconds_bucket", **labels, le="0.5"), 0)
        self.assertEqual(self.value("job_processing_seconds_bucket", **labels, le="1.0"), 1)

    def test_runs_by_lane_and_outcome(self) -> None:
        lane = self.metrics.service("WB").lanes["durable"]
        lane.ran(0.75, 0.003)
        lane.ran(0.0005, -0.2)  # the sender's clock is ahead
        lane.ran(100, None)
        lane.outcomes["retried"].value += 1
        labels = {"service": "WB", "job_type": "durable"}
        self.assertEqual(self.value("jobs_total", **labels, outcome="retried"), 1)
        self.assertEqual(self.value("job_wait_seconds_sum", **labels), 0.003)
        self.assertEqual(self.value("job_wait_seconds_count", **labels), 2)
        self.assertEqual(self.value("job_wait_seconds_bucket", **labels, le="0.0025"), 1)
        self.assertEqual(self.value("job_processing_seconds_bucket", **labels, le="0.0005"), 1)
        self.assertEqual(self.value("job_processing_seconds_bucket", **labels, le="60.0"), 2)
        self.assertEqual(self.value("job_processing_seconds_bucket", **labels, le="+Inf"), 3)

    def test_trips_by_the_type_of_the_first_address(self) -> None:
        self.metrics.service("WA").trips["WB"].observe(0.2)
        self.assertEqual(self.value("job_trip_seconds_count", service="WA", target="WB"), 1)

    def test_a_snapshot_has_all_numbers_of_one_service_and_does_not_change(self) -> None:
        service = self.metrics.service("WB")
        service.record_message_received("job")
        service.record_message_sent("result")
        service.record_error("OutOfStock")
        service.record_resend("durable")
        service.record_dead_letter("failed")
        service.lanes["interactive"].ran(0.75, 0.003)
        service.lanes["interactive"].outcomes["succeeded"].value += 1
        service.trips["WC"].observe(100)
        self.metrics.service("WA").record_error("Other")
        counts = [0] * (len(BUCKETS) + 1)
        snapshot = service.snapshot()
        service.lanes["interactive"].ran(0.75, 0.003)
        self.assertEqual(
            snapshot,
            {
                "received": {"job": 1},
                "sent": {"result": 1},
                "errors": {"OutOfStock": 1},
                "resends": {"durable": 1},
                "dead": {"failed": 1},
                "jobs": {"interactive": {"succeeded": 1}},
                "wait": {"interactive": {"counts": [*counts[:3], 1, *counts[4:]], "sum": 0.003}},
                "run": {"interactive": {"counts": [*counts[:10], 1, *counts[11:]], "sum": 0.75}},
                "trip": {"WC": {"counts": [*counts[:-1], 1], "sum": 100.0}},
            },
        )

    def test_what_went_wrong(self) -> None:
        service = self.metrics.service("WB")
        service.record_redelivery("durable")
        service.record_probe()
        service.record_undecodable()
        service.record_undecodable()
        self.assertEqual(self.value("job_redeliveries_total", service="WB", job_type="durable"), 1)
        self.assertEqual(self.value("probes_total", service="WB"), 1)
        self.assertEqual(self.value("undecodable_messages_total", service="WB"), 2)

    def test_the_bus(self) -> None:
        names = ("broker_blocked", "bus_connected", "bus_reconnects_total")
        self.assertEqual([self.value(name) for name in names], [0, None, None])
        bus = self.metrics.bus
        bus.set_connected(False)
        self.assertEqual([self.value(name) for name in names], [0, 0, 0])
        for connected in (True, False, True):
            bus.set_connected(connected)
        bus.blocked = True
        self.assertEqual([self.value(name) for name in names], [1, 1, 1])

    def test_times_of_the_process(self) -> None:
        self.metrics.lag.durations.observe(0.002)
        self.metrics.bus.confirms.durations.observe(0.2)
        self.assertEqual(self.value("reactor_lag_seconds_bucket", le="0.0025"), 1)
        self.assertEqual(self.value("confirm_seconds_sum"), 0.2)

    def test_operations_of_stores(self) -> None:
        service = self.metrics.service("DB")
        service.record_store_operation("sqlite", "insert", "succeeded", 0.2)
        service.record_store_operation("sqlite", "insert", "StoreTimeout", 30.0)
        labels = {"store": "sqlite", "operation": "insert"}
        self.assertEqual(self.value("store_operations_total", **labels, outcome="StoreTimeout"), 1)
        self.assertEqual(self.value("store_operation_seconds_sum", **labels), 30.2)

    def test_http_requests(self) -> None:
        service = self.metrics.service("REST")
        service.record_request("GET", "/movies/<id>", "200", 0.2)
        service.record_request("GET", "/movies/<id>", "404", 0.1)
        labels = {"service": "REST", "method": "GET", "path": "/movies/<id>"}
        self.assertEqual(self.value("http_requests_total", **labels, status="404"), 1)
        self.assertEqual(self.value("http_request_seconds_bucket", **labels, le="0.1"), 1)

    def test_queues(self) -> None:
        service = self.metrics.service("SM")
        self.assertEqual(self.children("queue_jobs", "type"), set())
        service.set_queue("WB", "durable", 7, 2, 1.5)
        service.set_queue("WB", "dead", None, None, None)
        service.set_queue("WC", "durable", 0, 0, 0)
        labels = {"type": "WB", "queue": "durable"}
        names = ("queue_jobs", "queue_consumers", "queue_oldest_seconds")
        self.assertEqual([self.value(name, **labels) for name in names], [7, 2, 1.5])
        self.assertIsNone(self.value("queue_jobs", type="WB", queue="dead"))
        service.keep_queues({"WC"})
        self.assertEqual(self.children("queue_jobs", "type"), {"WC"})

    def test_several_timers_at_once(self) -> None:
        service = self.metrics.service("WB")
        one = service.start_job_timer("a")
        self.clock.advance(1)
        two = service.start_job_timer("a")
        self.clock.advance(1)
        self.assertEqual((one(), two()), (2, 1))

    def test_observed_jobs(self) -> None:
        self.metrics.service("WB").observe_job("interactive", 0.002)
        self.assertEqual(self.value("job_processing_seconds_count", service="WB", job_type="interactive"), 1)

    def test_jobs_of_all_workers_of_a_service(self) -> None:
        class Counts:
            pending_jobs, running_jobs, held_jobs = 3, 2, 1
            job_capacity, pending_bytes = 10, 500

        one, other = Counts(), Counts()
        service = self.metrics.service("WB")
        self.assertIsNone(self.value("pending_jobs", service="WB"))
        for worker in (one, other):
            service.add_job_counts(worker)
        names = ("pending_jobs", "running_jobs", "held_jobs", "job_capacity", "outbox_bytes")
        self.assertEqual([self.value(name, service="WB") for name in names], [6, 4, 2, 20, 1000])
        service.remove_job_counts(one)
        self.assertEqual([self.value(name, service="WB") for name in names], [3, 2, 1, 10, 500])
        service.remove_job_counts(other)
        self.assertEqual([self.value(name, service="WB") for name in names], [0, 0, 0, 0, 0])

    def test_workers(self) -> None:
        service = self.metrics.service("SM")
        service.set_worker_count("WB", 3)
        service.set_connected_workers(5)
        service.set_worker_count("WB", 2)
        self.assertEqual(self.value("workers_total", type="WB"), 2)
        self.assertEqual(self.value("connected_workers"), 5)

    def test_services_in_one_process_share_the_families(self) -> None:
        for name in ("WA", "WB", "WA"):
            self.metrics.service(name).record_message_sent("job")
        self.assertEqual(self.value("messages_sent_total", service="WA", type="job"), 2)
        self.assertEqual(self.value("messages_sent_total", service="WB", type="job"), 1)

    def test_a_service_is_created_once(self) -> None:
        self.assertIs(self.metrics.service("WB"), self.metrics.service("WB"))

    def test_workers_share_a_metric_of_their_program(self) -> None:
        for service in ("WA", "WB"):
            self.metrics.service(service).counter("films", "Films", ["year"]).labels(1979).inc(2)
            self.metrics.service(service).gauge("screens", "Screens").inc()
            self.metrics.service(service).histogram("film_seconds", "Lengths of films").observe(7020)
        self.assertEqual(self.registry.get_sample_value("films_total", {"year": "1979"}), 4)
        self.assertEqual(self.registry.get_sample_value("screens"), 2)
        self.assertEqual(self.registry.get_sample_value("film_seconds_bucket", {"le": "60.0"}), 0)

    def test_a_name_that_is_in_use_is_refused(self) -> None:
        service = self.metrics.service("WB")
        service.counter("films", "Films")
        error = self.assertRaises(ValueError, service.gauge, "films", "Films")
        self.assertEqual(str(error), "the metric films is a Counter, not a Gauge: use another name")
        self.assertRaises(ValueError, service.counter, "microservices_jobs", "Jobs")

    def test_metrics_of_the_users_own(self) -> None:
        service = self.metrics.service("WB")
        self.assertIs(service.registry, self.registry)
        Counter("films", "Films", registry=service.registry).inc()
        self.assertEqual(self.registry.get_sample_value("films_total"), 1)


class PageTests(MetricsCase):
    def test_the_published_names_kinds_and_labels(self) -> None:
        service = self.metrics.service("WB")
        service.record_message_received("a")
        service.record_message_sent("a")
        service.record_error("a")
        service.observe_job("a", 1)
        service.set_worker_count("a", 1)
        service.set_connected_workers(0)
        page = generate_latest(self.registry).decode()
        for line in (
            "# TYPE microservices_messages_received_total counter",
            'microservices_messages_received_total{service="WB",type="a"} 1.0',
            "# TYPE microservices_messages_sent_total counter",
            'microservices_messages_sent_total{service="WB",type="a"} 1.0',
            "# TYPE microservices_job_errors_total counter",
            'microservices_job_errors_total{error_type="a",service="WB"} 1.0',
            "# TYPE microservices_workers_total gauge",
            'microservices_workers_total{type="a"} 1.0',
            "# TYPE microservices_connected_workers gauge",
            "microservices_connected_workers 0.0",
            "# TYPE microservices_job_processing_seconds histogram",
            'microservices_job_processing_seconds_count{job_type="a",service="WB"} 1.0',
        ):
            self.assertIn(line + "\n", page)

    def test_only_a_managers_page_has_the_number_of_workers(self) -> None:
        self.metrics.service("WB").record_message_sent("a")
        self.assertNotIn("connected_workers", generate_latest(self.registry).decode())

    def test_the_page_has_metrics_of_the_process(self) -> None:
        for name in (
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ):
            self.assertGreater(self.registry.get_sample_value(name) or 0, 0, name)
        page = generate_latest(self.registry).decode()
        self.assertIn("python_info", page)
        self.assertIn("python_gc_", page)

    def test_open_files_are_those_of_now(self) -> None:
        before = self.registry.get_sample_value("process_open_fds") or 0
        with open(os.devnull), open(os.devnull):
            self.assertEqual(self.registry.get_sample_value("process_open_fds"), before + 2)

    def test_the_global_registry_is_not_used(self) -> None:
        self.metrics.service("WB").record_error("a")
        self.assertNotIn(b"microservices_", generate_latest(REGISTRY))

    def test_the_openmetrics_format(self) -> None:
        self.metrics.service("WB").set_worker_count("WB", 1)
        self.assertIn(b'microservices_workers_total{type="WB"} 1.0', generate_openmetrics(self.registry))


class LimitTests(MetricsCase):
    """Label values come from other programs."""

    def test_values_beyond_the_limit_are_other(self) -> None:
        service = self.metrics.service("WB")
        for number in range(1_000):
            service.record_error(f"Error{number}")
        service.record_error("Error0")
        self.assertEqual(len(self.children("job_errors_total", "error_type")), LIMIT + 1)
        self.assertEqual(self.value("job_errors_total", service="WB", error_type="Error0"), 2)
        self.assertEqual(self.value("job_errors_total", service="WB", error_type="other"), 1_000 - LIMIT)

    def test_each_service_has_its_own_limit(self) -> None:
        for number in range(1_000):
            self.metrics.service("WA").record_error(f"Error{number}")
        self.metrics.service("WB").record_error("Late")
        self.assertEqual(self.value("job_errors_total", service="WB", error_type="Late"), 1)

    def test_worker_types_beyond_the_limit_are_added_up(self) -> None:
        service = self.metrics.service("SM")
        for number in range(LIMIT + 3):
            service.set_worker_count(f"W{number}", 2)
        self.assertEqual(self.value("workers_total", type="other"), 6)
        service.set_worker_count(f"W{LIMIT}", 5)
        service.set_worker_count(f"W{LIMIT + 1}", 0)
        service.set_worker_count("W0", 7)
        self.assertEqual(self.value("workers_total", type="other"), 7)
        self.assertEqual(self.value("workers_total", type="W0"), 7)

    def test_queues_of_types_beyond_the_limit_are_added_up(self) -> None:
        service = self.metrics.service("SM")
        for number in range(LIMIT + 3):
            service.set_queue(f"W{number}", "dead", 2, 1, number)
        labels = {"type": "other", "queue": "dead"}
        names = ("queue_jobs", "queue_consumers", "queue_oldest_seconds")
        self.assertEqual([self.value(name, **labels) for name in names], [6, 3, LIMIT + 2])
        self.assertEqual(len(self.children("queue_jobs", "type")), LIMIT + 1)

    def test_a_type_with_the_name_other(self) -> None:
        self.metrics.service("SM").set_worker_count("other", 2)
        self.assertEqual(self.value("workers_total", type="other"), 2)

    def test_long_values_are_cut(self) -> None:
        service = self.metrics.service("WB")
        service.record_error("x" * 10_000)
        service.record_error("x" * 20_000)
        self.assertEqual(self.value("job_errors_total", service="WB", error_type="x" * 100), 2)

    def test_values_that_utf_8_cannot_encode_are_escaped(self) -> None:
        self.metrics.service("WB").record_error('a\ud800"\n\\')
        page = generate_latest(self.registry).decode()
        self.assertIn(r'error_type="a\\ud800\"\n\\"', page)
