"""The troubleshooting page names every error, and nothing that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

from twisted.trial.unittest import SynchronousTestCase

import txmicro
from tests.support.documents import ROOT
from txmicro.errors import JobError, TxmicroError

_PAGE = "docs/howto/troubleshooting.rst"
_TERM = re.compile(r"^``(\w+)``\n   \*\*Meaning:\*\* ", re.MULTILINE)
_LINE = re.compile(r"^ +\* - ``(.+)``$", re.MULTILINE)


def _errors(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Yield *kind* and its subclasses in txmicro, without the examples' own."""
    if kind.__module__.startswith("txmicro.") and not kind.__module__.startswith("txmicro.examples."):
        yield kind
    for subclass in kind.__subclasses__():
        yield from _errors(subclass)


def _texts() -> Iterator[str]:
    """Yield the constant texts in the source of txmicro."""
    for path in (ROOT / "txmicro").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


class TroubleshootingTests(SynchronousTestCase):
    def setUp(self) -> None:
        for module in walk_packages(txmicro.__path__, "txmicro."):
            if not module.name.startswith("txmicro.examples"):
                import_module(module.name)
        page = (ROOT / _PAGE).read_text("utf-8")
        self.explained = _TERM.findall(page)
        self.lines = _LINE.findall(page)

    def test_every_error_has_an_entry(self) -> None:
        names = {error.__name__ for error in _errors(TxmicroError) if not error.__name__.startswith("_")}
        self.assertIn(JobError.__name__, names)
        self.assertEqual(names - set(self.explained), set())

    def test_every_entry_is_an_error_and_occurs_once(self) -> None:
        names = {error.__name__ for error in _errors(TxmicroError)} | {"CannotStart"}
        self.assertEqual(set(self.explained) - names, set())
        self.assertEqual(len(self.explained), len(set(self.explained)))

    def test_every_log_line_exists(self) -> None:
        self.assertGreater(len(self.lines), 30)
        source = "\n".join(_texts())
        unknown = [line for line in self.lines if not all(part.strip() in source for part in line.split("…"))]
        self.assertEqual(unknown, [])
