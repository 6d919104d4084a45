"""Tests that the page about metrics lists those that exist, with their kinds and labels."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT
from txmicro.daemons.log_counter import LogCounter
from txmicro.metrics import Metrics
from txmicro.util.prometheus import BUCKETS

_ROW = re.compile(r"^   \* - ``(\w+)``\n     - (\w+)\n     -(.*)\n     - ", re.MULTILINE)
_PREFIX = "microservices_"


class Counts:
    """A worker for the gauges of jobs."""

    pending_jobs = running_jobs = held_jobs = job_capacity = pending_bytes = 0


def existing() -> set[tuple[str, str, frozenset[str]]]:
    """Return name, kind and labels of each metric of a process that has recorded something of everything."""
    metrics = Metrics(CollectorRegistry())
    LogCounter(metrics.registry)
    service = metrics.service("WB")
    service.add_job_counts(Counts())
    service.record_message_sent("job")
    service.record_message_received("job")
    service.record_undecodable()
    service.record_error("JobError")
    service.record_resend("durable")
    service.record_redelivery("durable")
    service.record_probe()
    service.record_dead_letter("failed")
    service.record_store_operation("sqlite", "find", "succeeded", 0.1)
    service.record_request("GET", "/", "200", 0.1)
    service.lanes["durable"].ran(1, 1)
    service.lanes["durable"].outcomes["succeeded"].value += 1
    service.trips["WB"].observe(1)
    service.set_queue("WB", "durable", 1, 1, 1)
    service.set_worker_count("WB", 1)
    service.set_connected_workers(1)
    metrics.bus.set_connected(True)
    found = set()
    for family in metrics.registry.collect():
        if family.name.startswith(_PREFIX):
            total = "_total" if family.type == "counter" else ""
            labels = frozenset(family.samples[0].labels) - {"le"}
            found.add((family.name.removeprefix(_PREFIX) + total, family.type, labels))
    return found


class MetricsTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = (ROOT / "docs/howto/metrics.rst").read_text("utf-8")

    def test_the_page_lists_every_metric_with_its_kind_and_labels(self) -> None:
        rows = _ROW.findall(self.page)
        listed = {(name, kind, frozenset(re.findall(r"``(\w+)``", labels))) for name, kind, labels in rows}
        self.assertEqual(listed, existing())
        self.assertEqual(len(listed), len(rows))

    def test_the_page_has_the_bounds_of_the_buckets(self) -> None:
        self.assertEqual((BUCKETS[0], BUCKETS[-1]), (0.0005, 60))
        self.assertIn("from 0.5 milliseconds to 60 seconds", self.page)
