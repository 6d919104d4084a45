"""``txmicro logs``: files, the bus, and both."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.logs import TIME
from tests.support.system import SystemTestCase
from txmicro.amqp import uri
from txmicro.bus.targets import Target
from txmicro.cli import main as cli
from txmicro.worker import Worker
from txmicro.workers.logger import format_json, format_line


def body(message: str, **fields: Any) -> dict[str, Any]:
    return {
        "time": TIME,
        "level": "info",
        "service": "WB",
        "worker": "WB:1",
        "job": "7c3e-1",
        "message": message,
        **fields,
    }


class LogsTestCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()).absolute()
        self.out, self.err = StringIO(), StringIO()

    def start(self, *words: str) -> Deferred[int]:
        target = Target(self.endpoint, uri.parse("amqp://memory"))
        self.command = cli.Command(
            self.clock,
            {"TXMICRO_LOG_FILE": str(self.file)},
            self.out,
            self.err,
            time=lambda: TIME + 100,
            targets=lambda *_: [target],
        )
        return self.command.run(("logs", *words))

    def shown(self, *words: str) -> list[str]:
        """Return the messages that a command without ``--follow`` shows."""
        self.out, self.err = StringIO(), StringIO()
        status = self.result(self.start(*words, "--json"), 1.0)
        self.assertEqual((status, self.err.getvalue()), (cli.DONE, ""))
        return self.messages()

    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.out.getvalue().splitlines()]

    def failed(self, *words: str) -> str:
        status = self.result(self.start(*words), 1.0)
        self.assertNotEqual(status, cli.DONE)
        return self.err.getvalue()


class FileTests(LogsTestCase):
    def setUp(self) -> None:
        super().setUp()
        lines = [
            format_line(body("first")),
            format_json(body("second", time=TIME + 50, level="warn", worker="WC:1", job=None)),
            format_json(body("third", time=TIME + 99, level="error", job="9f-2")),
        ]
        self.file.write_bytes(b"".join(lines))

    def test_the_configured_file(self) -> None:
        self.assertEqual(self.shown(), ["first", "second", "third"])

    def test_each_selection(self) -> None:
        for words, messages in (
            (["--job", "9f-2"], ["third"]),
            (["--worker", "WB:1"], ["first", "third"]),
            (["--type", "WC"], ["second"]),
            (["--level", "warn"], ["second", "third"]),
            (["--since", "1m"], ["second", "third"]),
            (["--since", "2026-11-23T15:59:50+00:00"], ["second", "third"]),
            (["--last", "1"], ["third"]),
            (["--last", "1", "--type", "WC"], ["second"]),
            (["--job", "unknown"], []),
        ):
            self.assertEqual(self.shown(*words), messages, words)

    def test_text_has_time_level_worker_message_and_job(self) -> None:
        self.assertEqual(self.result(self.start("--job", "9f-2"), 1.0), cli.DONE)
        self.assertRegex(self.out.getvalue(), r"^2026-11-2\dT\S+ error    WB:1 third \(job 9f-2\)\n$")

    def test_files_of_the_command_line(self) -> None:
        other = Path(self.mktemp()).absolute()
        other.write_bytes(format_line(body("other")))
        self.assertEqual(self.shown(str(other)), ["other"])
        self.assertEqual(self.shown(str(other), str(self.file)), ["other", "first", "second", "third"])

    def test_what_is_missing_is_said(self) -> None:
        self.file.unlink()
        self.assertIn(
            f"log_file: {self.file} does not exist; run a logger worker, which writes it", self.failed()
        )
        self.assertIn("/no/such: cannot be read: No such file or directory", self.failed("/no/such"))

    def test_wrong_values_say_what_is_expected(self) -> None:
        for words, expected in (
            (("--level", "loud"), "expected one of debug, info"),
            (("--since", "yesterday"), "expected an age, such as 30s"),
            (("--worker", "WB"), "--worker: "),
            (("--type", "a b"), "--type: "),
        ):
            self.assertIn(expected, self.failed(*words))


class FollowTests(LogsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WB", id="WB:1")
        self.process(self.sender)

    def publish(self, *bodies: Any, level: str = "info") -> None:
        for each in bodies:
            self.sender.publish(f"log.{level}.WB", each)
        self.advance(0.1)

    def end(self, ended: Deferred[int]) -> None:
        self.command.interrupt()
        self.assertEqual(self.result(ended, 1.0), cli.DONE)
        self.assertEqual(self.err.getvalue(), "")
        self.advance(0.1)
        self.assertFalse([name for name in self.broker.model.queues if ".CLI" in name])

    def test_lines_of_the_bus_as_they_come_until_it_is_interrupted(self) -> None:
        ended = self.start("--follow", "--json")
        self.advance(0.5)
        self.publish(body("one"))
        self.assertEqual(self.messages(), ["one"])
        self.publish(body("two"))
        self.assertEqual(self.messages(), ["one", "two"])
        self.end(ended)

    def test_the_lines_of_one_job(self) -> None:
        ended = self.start("--job", "7c3e-1", "-f", "--json")
        self.advance(0.5)
        self.publish(body("one"), body("other", job="9f-2"), body("two", worker="WC:1", hop=1))
        self.assertEqual(self.messages(), ["one", "two"])
        self.end(ended)

    def test_lower_levels_are_not_even_received(self) -> None:
        ended = self.start("--follow", "--level", "warn", "--json")
        self.advance(0.5)
        self.publish(body("info"))
        self.publish(body("error", level="error"), level="error")
        self.assertEqual(self.messages(), ["error"])
        self.end(ended)

    def test_files_come_before_the_bus_and_no_line_comes_twice(self) -> None:
        self.file.write_bytes(format_line(body("past")) + format_line(body("both")))
        ended = self.start("--follow", "--json")
        self.advance(0.5)
        self.publish(body("both"), body("new"))
        self.assertEqual(self.messages(), ["past", "both", "new"])
        self.end(ended)

    def test_events_that_are_not_log_lines_are_ignored(self) -> None:
        ended = self.start("--follow", "--json")
        self.advance(0.5)
        self.publish(None, [], {"time": "now"}, body("one"))
        self.assertEqual(self.messages(), ["one"])
        self.end(ended)
