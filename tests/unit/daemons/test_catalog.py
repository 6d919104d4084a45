"""The classes of worker types: found, unknown, not importable."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txmicro.daemons import catalog
from txmicro.daemons.catalog import GROUP, Catalog, load_class
from txmicro.errors import ConfigError
from txmicro.worker import Worker


class XWorker(Worker):
    type = "WX"


class YWorker(Worker):
    type = "WY"


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{value}", GROUP)


class CatalogTests(SynchronousTestCase):
    def test_a_configured_class(self) -> None:
        self.assertIs(Catalog({"WX": f"{__name__}:XWorker"}, []).find("WX"), XWorker)

    def test_an_installed_class(self) -> None:
        self.assertIs(Catalog({}, [entry("WY", "YWorker")]).find("WY"), YWorker)

    def test_the_configuration_takes_precedence(self) -> None:
        found = Catalog({"WX": f"{__name__}:XWorker"}, [entry("WX", "YWorker")]).find("WX")
        self.assertIs(found, XWorker)

    def test_installed_classes_are_the_entry_points_of_this_python(self) -> None:
        asked: list[str] = []

        def entry_points(*, group: str) -> list[EntryPoint]:
            asked.append(group)
            return [entry("WY", "YWorker")]

        self.patch(catalog, "entry_points", entry_points)
        self.assertIs(Catalog({}).find("WY"), YWorker)
        self.assertEqual(asked, ["txmicro.workers"])

    def test_an_unknown_type_lists_the_known_ones(self) -> None:
        known = Catalog({"WX": f"{__name__}:XWorker"}, [entry("WA", "YWorker")])
        error = self.assertRaises(ConfigError, known.find, "WZ")
        self.assertIn("WZ is unknown; expected one of WA, WX", str(error))
        error = self.assertRaises(ConfigError, Catalog({}, []).find, "WZ")
        self.assertIn("WZ is unknown; expected one of none", str(error))

    def test_only_the_classes_that_are_found_are_imported(self) -> None:
        found = Catalog({"WX": f"{__name__}:XWorker", "WZ": "no_such_module:Z"}, []).find_all(["WX", "WX"])
        self.assertEqual(found, {"WX": XWorker})


class LoadClassTests(SynchronousTestCase):
    def refused(self, place: str) -> str:
        (problem,) = self.assertRaises(ConfigError, load_class, place).problems
        self.assertTrue(problem.startswith(f"{place} "), problem)
        return str(problem)

    def test_a_failed_import_is_explained(self) -> None:
        for place in ("no_such_module:Z", "no_such_module.part:Z"):
            problem = self.refused(place)
            self.assertIn("No module named 'no_such_module'", problem)
            self.assertIn(
                f"start the daemon in the folder that has it, instead of {os.getcwd()}, or install it",
                problem,
            )
        self.assertNotIn("start the daemon", self.refused(f"{__name__}.part:Z"))
        self.assertIn("AttributeError", self.refused(f"{__name__}:ZWorker"))
        self.assertIn("ValueError", self.refused("no place at all"))

    def test_the_traceback_begins_in_the_imported_module(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.patch(sys, "path", [str(folder), *sys.path])
        for name, code, type_and_text, place in (
            ("missing_key", 'import os\n\nDSN = {}["dsn"]\n', "KeyError: 'dsn'", "line 3, in <module>"),
            ("bad_syntax", "\nclass\n", "SyntaxError: invalid syntax", "line 2\n"),
            ("leaves", "raise SystemExit(5)", "SystemExit: 5", "line 1, in <module>"),
            ("secret", "raise OSError('amqp://me:s3cret@h')", "OSError: amqp://me:***@h", "line 1, in"),
        ):
            (folder / f"{name}.py").write_text(code)
            first, _, rest = self.refused(f"{name}:Z").partition("\n")
            self.assertEqual(first, f"{name}:Z cannot be imported: {type_and_text}")
            self.assertTrue(rest.startswith(f'  File "{folder}/{name}.py", {place}'), rest)
            self.assertNotIn("importlib", rest)
            self.assertNotIn("s3cret", rest)

    def test_a_module_may_raise_any_exception(self) -> None:
        class Broken(ModuleType):
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError("broken today")

        with patch.dict(sys.modules, {"broken": Broken("broken")}):
            self.assertIn("RuntimeError: broken today", self.refused("broken:Worker"))

    def test_other_objects_are_refused(self) -> None:
        for name in ("Catalog", "entry", "GROUP"):
            self.assertIn("is not a subclass of txmicro.Worker", self.refused(f"{__name__}:{name}"))
