"""``txmicro config``: whether the configuration is valid, and where its values come from."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli import main as cli
from txmicro.config import describe


class ConfigTestCase(SynchronousTestCase):
    def file(self, content: Any) -> str:
        path = Path(self.mktemp()).absolute()
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return str(path)

    def run_command(self, *words: str, **environ: str) -> str:
        """Run ``txmicro config``, which succeeds, and return its output."""
        self.assertEqual(self.status(words, environ), cli.DONE, self.err.getvalue())
        return self.out.getvalue()

    def wrong(self, *words: str, **environ: str) -> str:
        """Run ``txmicro config``, which finds the configuration wrong, and return its output."""
        self.assertEqual(self.status(words, environ), cli.WRONG)
        return self.out.getvalue()

    def status(self, words: tuple[str, ...], environ: dict[str, str]) -> int:
        """Run ``txmicro config``, and return its status."""
        self.out, self.err = StringIO(), StringIO()
        command = cli.Command(Clock(), environ, self.out, self.err)
        return self.successResultOf(command.run(["config", *words]))

    def shown(self, *words: str, **environ: str) -> dict[str, Any]:
        """Return the values and origins that ``txmicro config show`` shows."""
        shown: dict[str, Any] = json.loads(self.run_command("show", "--json", *words, **environ))
        return shown


class ShowTests(ConfigTestCase):
    def test_defaults_file_and_environment(self) -> None:
        path = self.file({"keepalive": 5, "timeout": 7})
        shown = self.shown("--config", path, TXMICRO_TIMEOUT="8")
        self.assertEqual(set(shown), {option.key for option in describe()})
        self.assertEqual(shown["keepalive"], {"value": 5, "from": path})
        self.assertEqual(shown["timeout"], {"value": 8.0, "from": "TXMICRO_TIMEOUT"})
        self.assertEqual(shown["heartbeat"], {"value": 10, "from": "default"})

    def test_the_file_that_the_environment_names(self) -> None:
        path = self.file({"keepalive": 5})
        self.assertEqual(self.shown(TXMICRO_CONFIG=path)["keepalive"]["from"], path)

    def test_the_broker_url_from_a_file_of_its_own(self) -> None:
        path = self.file("amqp://me:s3cret@one")
        shown = self.shown(TXMICRO_BROKER_URL_FILE=path)
        self.assertEqual(shown["broker_url"], {"value": ["amqp://me:***@one"], "from": path})

    def test_no_password_is_shown(self) -> None:
        path = self.file(
            {
                "store_url": "mongodb://me:s3cret@h/d",
                "settings": {"dsn": "s3cret", "n": 1},
                "page_readers": ["ann:the-s3cret-of-ann"],
            }
        )
        environ = {
            "TXMICRO_BROKER_URL": "amqp://me:s3cret@h",
            "TXMICRO_SETTINGS_TOKEN": "s3cret",
            "TXMICRO_PAGE_OPERATORS": "bob:the-s3cret-of-bob",
        }
        for words in ([], ["--json"]):
            self.assertNotIn("s3cret", self.run_command("show", "--config", path, *words, **environ))
        shown = self.shown("--config", path, **environ)
        self.assertEqual(shown["store_url"]["value"], "mongodb://me:***@h/d")
        self.assertEqual(shown["page_readers"]["value"], ["ann:***"])
        self.assertEqual(shown["page_operators"]["value"], ["bob:***"])
        self.assertEqual(shown["settings.dsn"], {"value": "a str", "from": path})
        self.assertEqual(shown["settings.token"], {"value": "a str", "from": "TXMICRO_SETTINGS_TOKEN"})

    def test_the_table_has_a_row_for_each_key(self) -> None:
        header, *rows = self.run_command("show", TXMICRO_SERVICES="broker").splitlines()
        self.assertEqual(header.split(), ["KEY", "VALUE", "FROM"])
        self.assertEqual([row.split()[0] for row in rows], [option.key for option in describe()])
        self.assertIn('["broker"]', [row.split()[1] for row in rows if row.startswith("services ")])


class CheckTests(ConfigTestCase):
    def test_a_valid_one(self) -> None:
        path = self.file({"keepalive": 5})
        self.assertEqual(
            self.run_command("check", "--config", path, TXMICRO_TIMEOUT="8"),
            f"the configuration is valid: {path}, TXMICRO_TIMEOUT\n",
        )
        answer = json.loads(self.run_command("check", "--config", path, "--json"))
        self.assertEqual(answer, {"valid": True, "origin": path, "problems": []})

    def test_all_problems_are_reported(self) -> None:
        path = self.file({"heartbeat": -1, "keep_alive": 7})
        self.assertEqual(self.wrong("check", "--config", path), "")
        unknown, heartbeat, origin = self.err.getvalue().splitlines()
        self.assertIn("keep_alive: unknown key; did you mean keepalive?", unknown)
        self.assertIn("heartbeat: -1 is not valid", heartbeat)
        self.assertEqual(origin, f"txmicro: the configuration was read from {path}")
        answer = json.loads(self.wrong("check", "--config", path, "--json"))
        self.assertEqual((answer["valid"], len(answer["problems"])), (False, 2))

    def test_a_broker_url_that_cannot_be_used(self) -> None:
        self.wrong("check", TXMICRO_BROKER_URL="amqp://h/?heartbeat=x")
        self.assertIn("broker_url: ", self.err.getvalue())
