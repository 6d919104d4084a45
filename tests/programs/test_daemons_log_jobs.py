"""A job of three hops in two processes: all of its lines have its id and trace, and ``txmicro logs`` shows them."""

from __future__ import annotations

import json
import signal
from typing import Any

from twisted.internet.task import deferLater

from tests.support.programs import ProgramTestCase, reactor
from tests.support.rabbitmq import free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

MODULE = f"""
import logging
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txmicro import Forward, Worker

standard, plain = logging.getLogger("a.library"), Logger("a.module")

class First(Worker):
    type = "W1"

    def opened(self):
        self.reactor.callLater(1.5, self.begin)

    def begin(self):
        for number in range(2):
            self.send(["W1:*", "W2:*", "W3:*"], number, traceparent="00-{TRACE}-00f067aa0ba902b7-01")
        self.log.info("a line of no job")

    async def do_job(self, job):
        self.log.info("first, by self.log")
        await deferLater(self.reactor, 0.01)
        standard.warning("first, by logging")
        return job.data

class Second(Worker):
    type = "W2"
    threads = True

    def do_job(self, job):
        plain.info("second, by a plain logger in a thread")
        standard.error("second, by logging in a thread")
        return job.data

class Third(Worker):
    type = "W3"

    @inlineCallbacks
    def do_job(self, job):
        yield deferLater(self.reactor, 0.01)
        plain.info("third, by a plain logger")
        raise ValueError("the third one fails")
"""

SAID = {
    0: {"first, by self.log", "first, by logging"},
    1: {"second, by a plain logger in a thread", "second, by logging in a thread"},
    2: {"third, by a plain logger"},
}


class JobLinesTests(ProgramTestCase):
    async def test_all_lines_of_a_job_have_its_id_and_trace(self) -> None:
        (self.directory / "chain.py").write_text(MODULE)
        types = {"W1": "chain:First", "W2": "chain:Second", "W3": "chain:Third"}
        port = free_port()
        self.settings = {
            "TXMICRO_WORKER_TYPES": json.dumps(types),
            "TXMICRO_BROKER_LISTEN_PORT": str(port),
            "TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{port}",
            "TXMICRO_SERVICES": "broker W1 W3",
            "TXMICRO_METRICS_PORT": "0",
            "TXMICRO_LOG_FORMAT": "json",
        }
        self.run_program("twistd", "-n", "--logfile", "one.log", "--pidfile", "one.pid", "txmicro")
        self.run_program(
            *("twistd", "-n", "--logfile", "two.log", "--pidfile", "two.pid"), *("txmicro-worker", "-t", "W2")
        )
        await self.until(lambda: sum("nobody awaits it" in line["message"] for line in self.lines()) == 2)
        lines = [line for line in self.lines() if line.get("trace") == TRACE]
        jobs = {line["job"] for line in lines}
        self.assertEqual(len(jobs), 2)
        for job in jobs:
            own = [line for line in lines if line["job"] == job]
            for hop, said in SAID.items():
                at = [line for line in own if line.get("hop") == hop]
                self.assertLessEqual(said, {line["message"] for line in at})
                self.assertEqual({line["worker"].partition(":")[0] for line in at}, {f"W{hop + 1}"})
            self.assertEqual(len({line["pid"] for line in own}), 2)
            (failed,) = [line for line in own if line.get("error") == "ValueError"]
            self.assertEqual(
                (failed["hop"], failed["traceback"].splitlines()[-1]),
                (2, "builtins.ValueError: the third one fails"),
            )
            (unawaited,) = [line for line in own if "nobody awaits it" in line["message"]]
            self.assertEqual(unawaited["worker"].partition(":")[0], "W1")
        (unrelated,) = [line for line in self.lines() if "a line of no job" in line["message"]]
        self.assertNotIn("job", unrelated)

        job = min(jobs)
        shown = self.run_program("txmicro", "logs", "one.log", "two.log", "--job", job, "--json")
        self.assertEqual(await shown.ended(), 0, shown.output)
        found = [json.loads(line) for line in shown.output.splitlines()]
        hops = [line["hop"] for line in found if "hop" in line]
        self.assertEqual((hops, set(hops)), (sorted(hops), {0, 1, 2}))

    async def test_a_signal_logs_all_lines_until_the_next_one(self) -> None:
        daemon = self.twistd(
            "txmicro-broker", TXMICRO_BROKER_LISTEN_PORT=str(free_port()), TXMICRO_METRICS_PORT="0"
        )
        await daemon.says("The embedded broker keeps everything")
        pid: Any = daemon.transport
        pid.signalProcess(signal.SIGUSR2)
        await daemon.says("SIGUSR2: all lines are logged, whatever the levels are, until the next SIGUSR2")
        pid.signalProcess(signal.SIGUSR2)
        await daemon.says("SIGUSR2: lines are logged by their levels again")
        await daemon.signal(signal.SIGTERM)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of both logs so far."""
        paths = [self.directory / name for name in ("one.log", "two.log")]
        texts = [path.read_text() for path in paths if path.exists()]
        return [
            json.loads(line)
            for text in texts
            for line in text.splitlines(keepends=True)
            if line.endswith("\n")
        ]

    async def until(self, condition: Any) -> None:
        """Wait until another process has written to a file."""
        while not condition():
            await deferLater(reactor, 0.05)
