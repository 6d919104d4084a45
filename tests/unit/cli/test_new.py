"""``txmicro new worker``: names, and folders that exist."""

from __future__ import annotations

import ast
import json
import tomllib
from io import StringIO
from pathlib import Path

from click import UsageError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli import main as cli
from txmicro.cli.command_line import read
from txmicro.cli.new import class_name, module_name
from txmicro.cli.worker_files import worker_files


class NameTests(SynchronousTestCase):
    def test_a_types_package_and_class(self) -> None:
        for kind, module, name in (
            ("Greeter", "greeter", "Greeter"),
            ("InvoicePrinter", "invoice_printer", "InvoicePrinter"),
            ("invoice-printer", "invoice_printer", "InvoicePrinter"),
            ("WB", "wb", "WB"),
            ("a_1", "a_1", "A1"),
        ):
            self.assertEqual((module_name(kind), class_name(kind)), (module, name))

    def test_names_that_hide_others_are_refused(self) -> None:
        for name in ("Json", "class", "Txmicro", "tests", "Worker", "job", "a.b", "1"):
            error = self.assertRaises(UsageError, read, ["new", "worker", name])
            self.assertRegex(error.format_message(), f"^NAME: '{name}' is ", name)

    def test_the_files_of_any_name_are_valid(self) -> None:
        for kind in ("Greeter", "invoice-printer", "a_1"):
            files = worker_files(kind, class_name(kind), module_name(kind), "0.1")
            for path, text in files.items():
                self.assertNotIn("$", path + text)
                if path.endswith(".py"):
                    ast.parse(text)
            entries = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]["txmicro.workers"]
            self.assertEqual(entries, {kind: f"{module_name(kind)}.worker:{class_name(kind)}"})


class FolderTests(SynchronousTestCase):
    def run_command(self, *words: str) -> tuple[int, str, str]:
        """Return the status, the output and the errors of ``txmicro new worker``."""
        out, err = StringIO(), StringIO()
        status = self.successResultOf(cli.Command(Clock(), {}, out, err).run(["new", "worker", *words]))
        return status, out.getvalue(), err.getvalue()

    def test_the_files_as_json(self) -> None:
        folder = self.mktemp()
        status, out, _ = self.run_command("Greeter", "--folder", folder, "--json")
        answer = json.loads(out)
        self.assertEqual((status, answer["type"], answer["folder"]), (cli.DONE, "Greeter", folder))
        files = [str(path) for path in Path(folder).rglob("*") if path.is_file()]
        self.assertEqual(sorted(answer["files"]), sorted(files))

    def test_a_folder_that_exists_is_not_changed(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        status, out, err = self.run_command("Greeter", "--folder", str(folder))
        self.assertEqual((status, out), (cli.NOT_DONE, ""))
        self.assertEqual(err, f"txmicro: {folder}: cannot be created: File exists\n")
        self.assertEqual(list(folder.iterdir()), [])
