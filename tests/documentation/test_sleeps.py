"""Checks that tests in memory wait for events or move a Clock. None of them sleeps in real time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT

FOLDERS = ("contract", "documentation", "system", "unit")
"""Folders of ``tests``. The others run real programs and servers, whose timing a test cannot control."""


def _sleeps(source: str) -> Iterator[int]:
    """Yield the lines that sleep in real time: ``sleep``, and calls of the reactor that are delayed."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, arguments = ast.unparse(node.func), [ast.unparse(argument) for argument in node.args]
        of_reactor = name.endswith("reactor.callLater") or (
            name.endswith("deferLater") and arguments.pop(0).endswith("reactor")
        )
        if name.endswith("sleep") or (of_reactor and arguments[0] != "0"):
            yield node.lineno


class SleepTests(SynchronousTestCase):
    def test_no_test_in_memory_sleeps(self) -> None:
        files = [path for folder in FOLDERS for path in (ROOT / "tests" / folder).rglob("*.py")]
        self.assertGreater(len(files), 50)
        found = [f"{path}:{line}" for path in files for line in _sleeps(path.read_text("utf-8"))]
        self.assertEqual(found, [], "use a Clock, or wait for a Deferred")

    def test_the_check_finds_each_way_to_sleep(self) -> None:
        for line in ("time.sleep(1)", "sleep(0.1)", "deferLater(reactor, 0.5)", "reactor.callLater(0.3, f)"):
            self.assertEqual(list(_sleeps(line)), [1], line)

    def test_a_turn_of_the_reactor_and_a_clock_are_not_sleeps(self) -> None:
        for line in (
            "deferLater(reactor, 0)",
            "deferLater(clock, 2)",
            "clock.callLater(3, f)",
            "self.wait(4)",
        ):
            self.assertEqual(list(_sleeps(line)), [], line)
