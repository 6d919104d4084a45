"""``txmicro top``: tables and live pictures of what the API answers."""

from __future__ import annotations

import json
import os
from io import StringIO
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.answers import overview, summary
from txmicro.cli.page_client import PageRefused, PageUnreachable
from txmicro.cli.task import Context
from txmicro.cli.top import Top

BUSY = summary(
    "WB",
    workers=3,
    suspect=1,
    running=7,
    jobs_per_second=1234.5,
    errors_per_second=0.5,
    wait={"p50": 0.0012, "p99": 0.25},
    run={"p50": 0.01, "p99": 3.0},
    queues={"interactive": {"jobs": 5, "oldest": 2.0}, "durable": {"jobs": 10, "oldest": 130.0}},
)
WAITING = summary("WX", workers=0, capacity=0, running=None, jobs_per_second=None)
WAITING["queues"]["durable"]["jobs"] = 4
WAITS = ("1.20", "ms", "250", "ms", "10", "ms", "3.00", "s")
UNKNOWN = summary("Old", queues={name: {"jobs": None} for name in ("interactive", "durable", "quarantine")})


class Terminal(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Page:
    """Answers each request with the next of *answers*, and raises those that are exceptions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def get(self, _path: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class TopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.out = StringIO()

    def set_environment(self, **variables: str) -> None:
        changed = patch.dict(os.environ, variables)
        changed.start()
        self.addCleanup(changed.stop)

    def ask(self, task: Top, *answers: Any) -> Deferred[None]:
        context = Context(
            reactor=self.clock,
            environ={},
            out=self.out,
            err=StringIO(),
            time=self.clock.seconds,
            targets=lambda *_: [],
        )
        page: Any = Page(*answers)
        return Deferred.fromCoroutine(task.ask(page, context))

    def written(self, task: Top, *answers: Any) -> list[str]:
        self.successResultOf(self.ask(task, *answers))
        return self.out.getvalue().splitlines()

    def test_without_a_terminal_the_numbers_of_now(self) -> None:
        head, names, *rows = self.written(Top(), overview(BUSY, WAITING, UNKNOWN))
        self.assertEqual(head, "2026-11-24T16:09:58.750Z  4 workers of 3 types, 1,234 jobs/s, 0.5 errors/s")
        self.assertEqual(names.split()[:3], ["TYPE", "WORKERS", "RUNNING"])
        self.assertEqual(
            [row.split() for row in rows],
            [
                ["Old", "1", "0/100", "0", "0", *"-----", "-", "0"],
                ["WB", "3", "(1", "suspect)", "7/100", "1,234", "0.5", *WAITS, "15", "2", "min", "0"],
                ["WX", "0", "-/0", "-", "0", *"----", "4", "-", "0"],
            ],
        )

    def test_one_worker_of_one_type(self) -> None:
        head, *_ = self.written(Top(), overview(summary("WB")))
        self.assertIn("  1 worker of 1 type, ", head)

    def test_an_empty_queue_has_no_oldest_job(self) -> None:
        empty = summary("WB", queues={"interactive": {"jobs": 0, "oldest": 0.0}})
        _, _, row = self.written(Top(), overview(empty))
        self.assertEqual(row.split()[-2:], ["-", "0"])

    def test_the_order(self) -> None:
        for sort, expected in (
            ("type", "Old"),
            ("jobs", "WB"),
            ("queued", "WB"),
            ("run", "WB"),
            ("dead", "Old"),
        ):
            self.out = StringIO()
            _, _, first, *_ = self.written(Top(sort=sort), overview(WAITING, UNKNOWN, BUSY))
            self.assertEqual(first.split()[0], expected, sort)

    def test_as_json(self) -> None:
        (line,) = self.written(Top(as_json=True), overview(BUSY))
        self.assertEqual(json.loads(line), overview(BUSY))

    def test_a_bus_that_is_not_connected_is_named(self) -> None:
        head, *_ = self.written(Top(once=True), overview(obstacle="there is no connection"))
        self.assertTrue(head.endswith("; the bus is not connected: there is no connection"), head)

    def test_on_a_terminal_it_goes_on_until_it_is_interrupted(self) -> None:
        self.set_environment(COLUMNS="160", TERM="xterm")
        self.out = Terminal()
        task = Top(interval=2.0)
        self.assertFalse(task.interrupt())
        running = self.ask(
            task,
            overview(BUSY),
            PageUnreachable("no SystemManager's page answers"),
            overview(summary("Later", jobs_per_second=77.0)),
        )
        self.assertIn("WB", self.out.getvalue())
        self.clock.advance(2.0)
        self.assertIn("no SystemManager's page answers", self.out.getvalue())
        self.clock.advance(2.0)
        self.assertIn("Later", self.out.getvalue())
        self.assertTrue(task.interrupt())
        self.successResultOf(running)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_narrow_terminal_has_fewer_columns_and_no_cut_ones(self) -> None:
        for width, last, without in (
            (160, "DEAD", ()),
            (80, "DEAD", ("RUN P50", "WAIT P50")),
            (50, "QUEUED", ("RUN P99", "OLDEST", "DEAD")),
        ):
            self.out = Terminal()
            self.set_environment(COLUMNS=str(width), TERM="xterm")
            task = Top()
            running = self.ask(task, overview(BUSY))
            task.interrupt()
            self.successResultOf(running)
            shown = self.out.getvalue()
            self.assertIn(last, shown)
            self.assertEqual([name for name in without if name in shown], [], width)
            self.assertNotIn("…", shown)

    def test_a_dumb_terminal_gets_the_numbers_of_now(self) -> None:
        self.set_environment(TERM="dumb")
        self.out = Terminal()
        self.assertEqual(len(self.written(Top(), overview(BUSY))), 3)

    def test_a_refusal_ends_it(self) -> None:
        self.set_environment(TERM="xterm")
        self.out = Terminal()
        running = self.ask(Top(), overview(BUSY), PageRefused("the secret was changed"))
        self.clock.advance(1.0)
        self.failureResultOf(running, PageRefused)
