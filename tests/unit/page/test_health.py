from __future__ import annotations

import json
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from txmicro.page.health import Health
from txmicro.page.site import Answer


class Part:
    """A bus, a member or a broker with problems that the test sets."""

    outage = obstacle = defect = ""
    listening = True

    def __init__(self, id: str = "") -> None:
        self.id = id


def parts() -> tuple[Any, Any]:
    """Return a bus and a broker."""
    return Part(), Part()


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus, self.broker = parts()
        self.member = Part("WB:1")
        self.health = Health([Part("SystemManager:1"), self.member], self.bus, self.broker)

    def ask(self, page: str) -> tuple[int, dict[str, Any]]:
        request: Any = None
        (handler,) = (route.handler for route in self.health.routes if route.path == f"/{page}")
        answer = cast(Answer, handler(request))
        self.assertEqual(answer.content_type, "application/json")
        self.assertEqual(answer.headers, {"cache-control": "no-store"})
        return answer.status, json.loads(answer.body)

    def check(self, live: list[tuple[str, str]], ready: list[tuple[str, str]]) -> None:
        """Check that both pages have these parts and problems."""
        for name, expected in (("live", live), ("ready", ready)):
            problems = [{"part": part, "problem": problem} for part, problem in expected]
            status = f"not {name}" if problems else name
            self.assertEqual(
                self.ask(f"health/{name}"),
                (503 if problems else 200, {"status": status, "problems": problems}),
            )

    def test_no_problems(self) -> None:
        self.check([], [])

    def test_a_broker_that_is_down_makes_it_not_ready_and_leaves_it_live(self) -> None:
        self.bus.outage = "there is no connection to the broker"
        self.check([], [("bus", "there is no connection to the broker")])

    def test_every_problem_is_listed(self) -> None:
        self.broker.listening = False
        self.bus.outage, self.member.obstacle = "no connection", "it is starting"
        self.check(
            [], [("broker", "it does not listen"), ("bus", "no connection"), ("WB:1", "it is starting")]
        )

    def test_problems_that_need_a_restart(self) -> None:
        self.bus.defect, self.member.defect = "it does not connect", "its queues are not declared"
        self.check([("bus", "it does not connect"), ("WB:1", "its queues are not declared")], [])

    def test_a_process_with_only_a_broker(self) -> None:
        self.health = Health([], None, self.broker)
        self.check([], [])
        self.broker.listening = False
        self.check([], [("broker", "it does not listen")])
