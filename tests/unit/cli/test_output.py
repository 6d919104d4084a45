"""How commands write tables and progress."""

from __future__ import annotations

import os
from io import StringIO
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.output import show_json, write_json, write_table
from txmicro.cli.progress import progress_bar


class Terminal(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class TableTests(SynchronousTestCase):
    def test_nothing_is_wrapped_for_programs(self) -> None:
        out = StringIO()
        write_table(("ID", "TEXT"), [("1", "x" * 500), ("[bold]22[/]", "y z")], out)
        lines = out.getvalue().splitlines()
        self.assertEqual(lines[0].split(), ["ID", "TEXT"])
        self.assertEqual(lines[1].split(), ["1", "x" * 500])
        self.assertEqual(lines[2], "[bold]22[/]  y z")

    def test_no_cell_controls_a_terminal(self) -> None:
        out = Terminal()
        write_table(("ID",), [("\x1b[2Jowned\u202e\n",)], out)
        self.assertIn(r"\x1b[2Jowned\u202e\n", out.getvalue())
        self.assertNotIn("\x1b[2J", out.getvalue())

    def test_json_has_a_text_for_what_it_has_no_type_for(self) -> None:
        out = StringIO()
        write_json({"a": b"\x00"}, out)
        self.assertEqual(out.getvalue(), '{"a": "b\'\\\\x00\'"}\n')

    def test_json_for_people_shows_any_value(self) -> None:
        self.assertEqual(show_json({"é": 1}), '{\n  "é": 1\n}')
        self.assertEqual(show_json({(1, 2): 3}), '"{(1, 2): 3}"')


class ProgressTests(SynchronousTestCase):
    def test_a_bar_on_a_terminal_follows_the_clock(self) -> None:
        clock, err, done = Clock(), Terminal(), 0
        with patch.dict(os.environ, {"TERM": "xterm"}), progress_bar(10, lambda: done, err, clock):
            done = 7
            clock.advance(0.1)
            self.assertIn("7/10", err.getvalue())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_elsewhere_nothing_is_written(self) -> None:
        clock, err = Clock(), StringIO()
        with progress_bar(10, lambda: 1, err, clock):
            self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(err.getvalue(), "")
