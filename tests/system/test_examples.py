"""Tests each example in this process, to measure its coverage. ``tests.programs.test_examples`` checks its output."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from io import StringIO
from runpy import run_module

from twisted.internet import reactor, task
from twisted.trial.unittest import TestCase

Main = Callable[[object], Awaitable[None]]


class ExampleTests(TestCase):
    async def printed(self, name: str) -> list[str]:
        """Run an example to its end on the tests' reactor; return the lines that it prints."""
        mains: list[Main] = []
        self.patch(task, "react", mains.append)
        run_module(f"txmicro.examples.{name}", run_name="__main__")
        output = StringIO()
        self.patch(sys, "stdout", output)
        (main,) = mains
        await main(reactor)
        return output.getvalue().splitlines()

    async def test_hello(self) -> None:
        self.assertEqual(len(await self.printed("hello")), 1)

    async def test_pipeline(self) -> None:
        self.assertEqual(len(await self.printed("pipeline")), 3)

    async def test_durable(self) -> None:
        self.assertEqual(len(await self.printed("durable")), 3)

    async def test_events(self) -> None:
        self.assertEqual(len(await self.printed("events")), 6)

    async def test_rest(self) -> None:
        self.assertEqual(len(await self.printed("rest")), 2)
