"""Tests the README's code, its table of the configuration, and its commands."""

from __future__ import annotations

import re

from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from docs.config_table import short
from tests.support.documents import ROOT, python_files, test_cases

README = (ROOT / "README.rst").read_text("utf-8")

globals().update(test_cases("README.rst", __name__))


class ReadmeTests(SynchronousTestCase):
    def test_its_first_screen_has_a_program_and_the_commands(self) -> None:
        screen = "\n".join(README.splitlines()[:50])
        for part in ("make demo", "make test", "class Greeter(Worker)", "running(Greeter())"):
            self.assertIn(part, screen)
        files = python_files("README.rst")
        self.assertLessEqual(len(files["greeter"].splitlines()), 10)

    def test_its_table_is_the_configuration(self) -> None:
        self.assertIn(short(), README, "python docs/config_table.py prints the table as it should be")

    def test_twistd_understands_every_line(self) -> None:
        lines = re.findall(r"^    twistd (.+?)(?:  +#.*)?$", README, re.MULTILINE)
        self.assertEqual(len(lines), 9)
        for line in lines:
            options = ServerOptions()
            options.parseOptions(line.split())
            self.assertTrue(str(options.subCommand).startswith("txmicro"), line)

    def test_make_has_every_target(self) -> None:
        makefile = (ROOT / "Makefile").read_text("utf-8")
        for target in re.findall(r"\bmake (\w+)(?:``| )", README):
            self.assertIn(f"\n{target}:", makefile)
