"""Tests the code, the commands, the tests and the files that the documentation names."""

from __future__ import annotations

import re
import shlex

from twisted.python.reflect import namedAny
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT, test_cases
from txmicro import errors
from txmicro.cli.command_line import read

PAGES = sorted((ROOT / "docs").rglob("*.rst"))
DOCUMENTS = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", *PAGES]

for page in PAGES:
    cases = test_cases(str(page.relative_to(ROOT)), __name__)
    if repeated := cases.keys() & globals().keys():
        raise ValueError(f"{page}: another page has tests of the same name: {repeated}")
    globals().update(cases)
del page, cases


def commands(name: str) -> list[tuple[str, list[str]]]:
    """Return the lines of the documents that run the program *name*: the document, and the arguments."""
    line = re.compile(rf"^ +{name} (-n .+?|[a-z].+?|-n)(?:  +#.*)?$", re.MULTILINE)
    blocks = re.compile(r"::\n\n((?:(?:    .*)?\n)+)")
    return [
        (document.name, shlex.split(found))
        for document in DOCUMENTS
        for block in blocks.findall(document.read_text("utf-8"))
        for found in line.findall(block)
    ]


class CommandTests(SynchronousTestCase):
    def test_twistd_understands_every_line(self) -> None:
        lines = commands("twistd")
        self.assertGreater(len(lines), 20)
        for document, words in lines:
            options = ServerOptions()
            options.parseOptions(words)
            self.assertTrue(str(options.subCommand).startswith("txmicro"), f"{document}: {words}")

    def test_txmicro_understands_every_line(self) -> None:
        lines = commands("txmicro")
        self.assertGreater(len(lines), 5)
        for _document, words in lines:
            read(words)


class FileTests(SynchronousTestCase):
    def test_every_file_that_is_named_exists(self) -> None:
        path = re.compile(r"``((?:docs|tests|etc|examples|benchmarks)/[\w./]+)``")
        for document in DOCUMENTS:
            for name in path.findall(document.read_text("utf-8")):
                self.assertTrue((ROOT / name).exists(), f"{document.name} names {name}")


class ErrorsTests(SynchronousTestCase):
    def test_the_table_has_every_error_that_ends_a_job(self) -> None:
        text = (ROOT / "docs/howto/errors.rst").read_text("utf-8")
        told = {
            name: word == "yes" for name, word in re.findall(r"^``(\w+)`` .+ (yes|no)$", text, re.MULTILINE)
        }
        classes = [each for each in vars(errors).values() if isinstance(each, type)]
        known = {each.__name__: each.retryable for each in classes if issubclass(each, errors.JobError)}
        del known["JobError"]
        self.assertEqual(told, known)


class PromisesTests(SynchronousTestCase):
    def test_every_test_that_is_named_exists(self) -> None:
        text = (ROOT / "docs/reference/promises.rst").read_text("utf-8")
        named = re.findall(r"``(tests(?:\.\w+){3,})``", text)
        self.assertGreater(len(named), 100)
        for name in named:
            self.assertTrue(callable(namedAny(name)), name)
