"""``make lint`` rejects imports that the contracts in ``pyproject.toml`` forbid."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.programs import BIN, ROOT

WRONG = [
    ("sending/outbox.py", "txmicro.bus.connections"),  # upwards
    ("receiving/intake.py", "txmicro.sending.outbox"),  # sideways
    ("bus/publisher.py", "txmicro.worker"),  # upwards, to a module
    ("worker.py", "txmicro.daemons.process"),  # upwards, from a module
    ("broker/topics.py", "txmicro.broker.exchanges"),  # a circle within a package
    ("daemons/tap.py", "click"),  # a library of the command line
]
"""A file of the package, and the module that it must not import."""


class ImportTests(SynchronousTestCase):
    """Runs the linter on a copy of the package."""

    def setUp(self) -> None:
        if find_spec("importlinter") is None:
            if "TXMICRO_REQUIRE_SERVICES" in os.environ:
                self.fail("import-linter is not installed")
            raise SkipTest("import-linter is not installed: make .venv/tools installs it")
        self.folder = Path(self.mktemp())
        self.package = copytree(
            ROOT / "txmicro", self.folder / "txmicro", ignore=ignore_patterns("__pycache__")
        )
        copy(ROOT / "pyproject.toml", self.folder)

    def lint(self) -> tuple[int, str]:
        """Return the linter's exit status and output."""
        command = [str(BIN / "lint-imports"), "--no-cache", "--no-logo"]
        environ = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_the_package_keeps_the_contracts(self) -> None:
        status, output = self.lint()
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"Contracts: [1-9]\d* kept, 0 broken")

    def test_a_wrong_import_fails_and_is_named(self) -> None:
        for file, imported in WRONG:
            path = self.package / file
            code = path.read_text("utf-8")
            path.write_text(f"{code}\nimport {imported}\n", "utf-8")
            status, output = self.lint()
            path.write_text(code, "utf-8")
            self.assertEqual(status, 1, f"{file} may import {imported}:\n{output}")
            ends = [path.stem, imported.rpartition(".")[2]]
            named = [
                line for line in output.splitlines() if all(re.search(rf"\b{end}\b", line) for end in ends)
            ]
            self.assertTrue(named, f"{file} imports {imported}, which is not named:\n{output}")
