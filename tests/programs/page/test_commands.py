"""The commands that ask the page, as programs: ``txmicro top``, ``jobs`` and ``job``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import cache
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.programs.page.case import shared_system
from tests.programs.page.system import PageSystem
from tests.support.programs import BIN

TIMEOUT = 30
SECRET = "a-secret-of-a-reader"


@cache
def secret_system() -> PageSystem:
    """Return a running system whose page has a reader."""
    system = PageSystem(SECRET, page_data="", page_readers=[f"ada:{SECRET}"])
    system.start()
    return system


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.system = self.make_system()

    def make_system(self) -> PageSystem:
        return shared_system()

    def txmicro(self, *words: str, status: int = 0, **variables: str) -> str:
        """Return the output of a command, and of its errors if it fails."""
        done = subprocess.run(
            [str(BIN / "txmicro"), *words, "--page", self.system.origin],
            env=self.environ(**variables),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr if status else done.stdout

    def environ(self, **variables: str) -> dict[str, str]:
        rest = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        return {**rest, **variables}

    def json(self, *words: str) -> Any:
        return json.loads(self.txmicro(*words, "--json"))

    def test_the_types_and_their_load(self) -> None:
        head, names, *rows = self.txmicro("top").splitlines()
        self.assertIn(" of 4 types, ", head)
        self.assertTrue(names.startswith("TYPE"))
        self.assertEqual([row.split()[0] for row in rows], ["Bank", "Price", "Shop", "Stock"])
        self.assertEqual(
            [each["type"] for each in self.json("top")["types"]], ["Bank", "Price", "Shop", "Stock"]
        )

    def test_a_live_picture_on_a_terminal_until_ctrl_c(self) -> None:
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        command = [str(BIN / "txmicro"), "top", "--interval", "0.1", "--page", self.system.origin]
        environ = self.environ(TERM="xterm", COLUMNS="120", LINES="30")
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environ) as process:
            os.close(theirs)
            shown = ""
            while shown.count("Ctrl-C ends") < 3:
                shown += os.read(ours, 65_536).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            self.read_rest(ours)
            _, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertIn("Stock", shown)

    def read_rest(self, descriptor: int) -> None:
        """Read what is left, or the command waits for us before it ends."""
        try:
            while os.read(descriptor, 65_536):
                pass
        except OSError:  # the other end is closed
            pass

    def test_failed_jobs_and_the_life_of_one(self) -> None:
        jobs = self.json("jobs", "--type", "Bank", "--error", "BankClosed", "--limit", "2")["jobs"]
        self.assertEqual({(each["type"], each["error"]) for each in jobs}, {("Bank", "BankClosed")})
        life = self.txmicro("job", jobs[0]["id"])
        self.assertIn(f"{jobs[0]['id']}: durable job to Bank:*, dead", life)
        self.assertRegex(life, r"(?m)^\S+Z +sent +0 +Bank:\* ")
        self.assertRegex(life, r"(?m)^\S+Z +ran +0 +Bank:\* +Bank:\S+ .* BankClosed: ")
        self.assertIn(jobs[0]["id"], self.txmicro("jobs", "--outcome", "dead", "--since", "1h"))

    def test_a_job_that_is_not_remembered(self) -> None:
        self.assertIn("no job with this id is remembered", self.txmicro("job", "nothing-1", status=1))

    def test_without_a_manager_it_says_what_to_start(self) -> None:
        done = subprocess.run(
            [str(BIN / "txmicro"), "top", "--page", "http://127.0.0.1:1"],
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("no SystemManager's page answers at http://127.0.0.1:1", done.stderr)
        self.assertIn("start twistd txmicro-manager, or name the page's URL with --page", done.stderr)

    def test_another_program_is_no_page(self) -> None:
        done = subprocess.run(
            [str(BIN / "txmicro"), "job", "../../metrics", "--page", self.system.origin],
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual((done.returncode, "Traceback" in done.stderr), (1, False), done.stderr)


class SecretTests(CommandTests):
    """The same with a page that has accounts."""

    def make_system(self) -> PageSystem:
        return secret_system()

    def environ(self, **variables: str) -> dict[str, str]:
        return super().environ(**{"TXMICRO_PAGE_TOKEN": SECRET, **variables})

    def test_without_the_secret_it_says_how_to_give_it(self) -> None:
        for wrong in ("", "wrong-secret-wrong-secret"):
            refused = self.txmicro("top", status=1, TXMICRO_PAGE_TOKEN=wrong)
            self.assertIn("give a secret with --token or as TXMICRO_PAGE_TOKEN", refused)

    def test_the_option_precedes_the_variable(self) -> None:
        self.txmicro("jobs", "--token", SECRET, TXMICRO_PAGE_TOKEN="wrong-secret-wrong-secret")
