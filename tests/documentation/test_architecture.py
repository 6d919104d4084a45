"""The page on the architecture: its packages, its layers, its decisions and the files that it names."""

from __future__ import annotations

import re
import tomllib

from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT

_SOURCE = ROOT / "txmicro"


class ArchitectureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = (ROOT / "docs/explanation/architecture.rst").read_text("utf-8")

    def test_every_package_has_a_row(self) -> None:
        packages = {path.parent.name for path in _SOURCE.glob("*/__init__.py")}
        modules = {path.stem for path in _SOURCE.glob("*.py") if not path.stem.startswith("_")}
        table = self.page[self.page.index("The packages\n---") : self.page.index("The layers\n---")]
        named = [
            name for row in re.findall(r"^   \* - (``.+)$", table, re.M) for name in re.findall(r"\w+", row)
        ]
        self.assertEqual(sorted(named), sorted(packages | modules))

    def test_the_layers_are_those_that_lint_checks(self) -> None:
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
        self.assertIn("\n".join(f"    {layer}" for layer in layers), self.page)

    def test_every_file_that_is_named_exists(self) -> None:
        named = re.findall(r"``([\w/]+\.py|[\w/]+/)``", self.page)
        self.assertGreater(len(named), 30)
        missing = [name for name in named if not ((_SOURCE / name).exists() or (ROOT / name).exists())]
        self.assertEqual(missing, [])


class DecisionsTests(SynchronousTestCase):
    def test_they_are_numbered_without_gaps_and_alike_in_form(self) -> None:
        pages = sorted((ROOT / "docs/decisions").glob("0*.rst"))
        for number, page in enumerate(pages, 1):
            text = page.read_text("utf-8")
            self.assertTrue(page.name.startswith(f"{number:04d}_"), page.name)
            self.assertTrue(text.startswith(f"{number}. "), page.name)
            titles = re.findall(r"^(\w+)\n-+$", text, re.M)
            self.assertEqual(titles, ["Context", "Decision", "Consequences"], page.name)
