"""The reference of the ``txmicro`` command has all commands and options."""

from __future__ import annotations

import re

import click
from twisted.trial.unittest import SynchronousTestCase

from docs.cli_reference import commands, full
from tests.support.documents import ROOT
from txmicro.cli import main as cli


class ReferenceTests(SynchronousTestCase):
    def test_each_command_and_option_is_there(self) -> None:
        text, found = full(), 0
        for command, context in commands():
            path = context.command_path
            _, title, rest = text.partition(f"{path}\n{'-' * len(path)}\n")
            self.assertTrue(title, path)
            section = re.split(r"\n-{4,}\n", rest)[0]
            self.assertTrue(command.help, path)
            for param in command.params:
                found += 1
                if isinstance(param, click.Argument):
                    self.assertIn(str(param.metavar), section, path)
                elif param.name != "version":
                    self.assertRegex(section, rf"\.\. option:: .*{param.opts[0]}\b.*\n\n   \S", path)
        self.assertGreater(found, 15)

    def test_each_status_is_there(self) -> None:
        page = (ROOT / "docs/reference/cli.rst").read_text("utf-8")
        statuses = {int(number) for number in re.findall(r"^(\d+)  ", page, re.MULTILINE)}
        self.assertEqual(statuses, {cli.DONE, cli.NOT_DONE, cli.WRONG, cli.UNREAD})
