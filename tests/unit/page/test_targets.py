from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txmicro.discovery.registry import Registry
from txmicro.page.site import Answer
from txmicro.page.targets import Targets
from txmicro.protocol.notifications import Announcement


class Manager:
    """A SystemManager that knows the workers that a test adds."""

    def __init__(self) -> None:
        self.registry = Registry(Clock())
        self.running = True


class TargetsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.manager = Manager()
        self.own = "here:9091"
        manager: Any = self.manager
        self.targets = Targets(manager, lambda: self.own, "here")

    def worker(self, id: str, metrics: str, host: str = "there") -> None:
        """Add a worker."""
        kind = id.partition(":")[0]
        self.manager.registry.add(Announcement(id, kind, host=host, metrics=metrics))

    def groups(self) -> dict[str, list[str]]:
        """Return the addresses by worker type."""
        return {group["labels"]["worker_type"]: group["targets"] for group in self.targets.groups()}

    def test_the_page_is_json_without_ids(self) -> None:
        self.worker("WB:1", "there:9092")
        request: Any = None
        answer = cast(Answer, self.targets.route.handler(request))
        self.assertEqual((answer.status, answer.content_type), (200, "application/json"))
        self.assertEqual(
            json.loads(answer.body),
            [
                {"targets": ["here:9091"], "labels": {"worker_type": "SystemManager"}},
                {"targets": ["there:9092"], "labels": {"worker_type": "WB"}},
            ],
        )

    def test_workers_of_a_type_are_a_group(self) -> None:
        self.worker("WB:2", "there:9093")
        self.worker("WB:1", "there:9092")
        self.assertEqual(self.groups()["WB"], ["there:9092", "there:9093"])

    def test_a_process_is_one_target_however_many_workers_it_has(self) -> None:
        for id in ("WD:1", "WB:1", "WB:2"):
            self.worker(id, "there:9092")
        self.worker("WA:1", "here:9091")
        self.assertEqual(self.groups(), {"SystemManager,WA": ["here:9091"], "WB,WD": ["there:9092"]})

    def test_workers_without_a_page_or_with_an_invalid_address_are_left_out(self) -> None:
        for number, metrics in enumerate(
            ("", "there", "there:", "a/b:1", "http://there:1", "a b:1", "[::1:1", "there:1\n", "there:x")
        ):
            self.worker(f"WB:{number}", metrics)
        self.worker("WC:1", "[2001:db8::1]:9091")
        self.assertEqual(self.groups(), {"SystemManager": ["here:9091"], "WC": ["[2001:db8::1]:9091"]})

    def test_a_loopback_address_of_another_host_is_left_out_and_logged_once(self) -> None:
        self.worker("WB:1", "127.0.0.1:1111")
        self.worker("WB:2", "[::1]:1111")
        self.worker("WC:1", "127.0.0.1:2222", host="here")
        with capturedLogs() as events:
            self.assertEqual(self.groups()["WC"], ["127.0.0.1:2222"])
            self.assertNotIn("WB", self.groups())
        (line,) = map(formatEvent, events)
        self.assertIn("only its own host, there, reaches its metrics at 127.0.0.1:1111", line)

    def test_a_worker_that_leaves_is_no_target_any_more(self) -> None:
        self.worker("WB:1", "there:9092")
        self.manager.registry.remove("WB:1")
        self.assertEqual(self.groups(), {"SystemManager": ["here:9091"]})

    def test_a_manager_that_is_not_started_and_has_no_page(self) -> None:
        self.manager.running, self.own = False, ""
        self.assertEqual(self.groups(), {})
