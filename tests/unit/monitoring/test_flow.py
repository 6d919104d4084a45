"""The flow of jobs between the types."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring import flow as flow_module
from txmicro.monitoring.flow import KEPT, SECONDS, Edge, JobFlow
from txmicro.monitoring.report import Report


class FlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.flow = JobFlow()

    def test_what_is_sent_and_what_fails_per_second(self) -> None:
        for _ in range(4):
            self.flow.add(Report("WA:1", "WA", "", sent={"WB": 10, "WC": 1}, lost={"WC": 1}))
            self.flow.add(Report("WB:1", "WB", "", failed={"WA": 2}))
            self.flow.tick()
        self.assertEqual(list(self.flow.edges()), [Edge("WA", "WB", 10, 2), Edge("WA", "WC", 1, 1)])

    def test_rates_are_of_the_last_seconds(self) -> None:
        self.flow.add(Report("WA:1", "WA", "", sent={"WB": 100}))
        self.assertEqual(list(self.flow.edges()), [Edge("WA", "WB", 0, 0)])
        for _ in range(SECONDS):
            self.flow.tick()
        self.assertEqual(list(self.flow.edges()), [Edge("WA", "WB", 100 / SECONDS, 0)])
        self.flow.tick()
        self.assertEqual(list(self.flow.edges()), [Edge("WA", "WB", 0, 0)])

    def test_an_edge_without_jobs_is_forgotten(self) -> None:
        self.flow.add(Report("WA:1", "WA", "", sent={"WB": 1}))
        for _ in range(KEPT + 2):
            self.flow.tick()
        self.assertEqual(list(self.flow.edges()), [])

    def test_there_are_not_too_many_edges(self) -> None:
        self.patch(flow_module, "EDGES_MAX", 3)
        self.flow.add(Report("WA:1", "WA", "", sent={f"T{number}": 1 for number in range(10)}))
        self.assertEqual(len(list(self.flow.edges())), 3)
