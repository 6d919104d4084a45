"""A new worker's package passes its tests and runs; and what a shell completes."""

from __future__ import annotations

import os
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import BIN, ProgramTestCase
from tests.support.rabbitmq import free_port
from txmicro.cli import main as cli
from txmicro.cli.completion import SHELLS


class NewWorkerTests(ProgramTestCase):
    folders = ()

    async def test_it_passes_its_tests_starts_and_answers(self) -> None:
        made = self.run_program("txmicro", "new", "worker", "InvoicePrinter")
        self.assertEqual(await made.ended(), cli.DONE, made.output)
        self.assertIn("invoice_printer/README.rst says how", made.output)
        self.directory = self.directory / "invoice_printer"
        tested = self.run_program("python", "-m", "twisted.trial", "tests")
        self.assertEqual(await tested.ended(), 0, tested.output)
        self.assertIn("Ran 2 tests", tested.output)
        port = free_port()
        self.settings = {
            "TXMICRO_BROKER_LISTEN_PORT": str(port),
            "TXMICRO_BROKER_URL": f"amqp://localhost:{port}",
        }
        await self.twistd("txmicro-broker").says("listens on")
        worker = self.twistd("txmicro-worker --class invoice_printer.worker:InvoicePrinter")
        await worker.says("InvoicePrinter:.* is ready")
        sent = self.run_program("txmicro", "send", "InvoicePrinter:*", '{"name": "Ada"}')
        self.assertEqual((await sent.ended(), sent.output), (cli.DONE, '"Hello, Ada!"\n'))


class CompletionTests(SynchronousTestCase):
    def run_command(self, *words: str, **environ: str) -> str:
        """Return the output of the program, which succeeds."""
        done = subprocess.run(
            [BIN / "txmicro", *words], env=os.environ | environ, capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (cli.DONE, ""))
        return done.stdout

    def complete(self, line: str) -> list[str]:
        """Return how bash may complete *line*."""
        words = line.split(" ")
        environ = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        found = self.run_command(_TXMICRO_COMPLETE="bash_complete", **environ)
        return [each.partition(",")[2] for each in found.splitlines()]

    def test_commands_and_options(self) -> None:
        self.assertEqual(self.complete("txmicro d"), ["dead"])
        self.assertEqual(self.complete("txmicro dead l"), ["list"])
        self.assertEqual(self.complete("txmicro dead list Invoices --li"), ["--limit"])

    def test_each_shell_has_a_script(self) -> None:
        for shell in SHELLS:
            self.assertIn(f"_TXMICRO_COMPLETE={shell}_complete", self.run_command("completion", shell))
        script = self.run_command("completion", "bash")
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
