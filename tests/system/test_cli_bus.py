"""The commands that are on the bus as a worker, in memory."""

from __future__ import annotations

import json
import sys
from io import StringIO
from typing import Any
from unittest.mock import ANY

from click import UsageError
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.system import SystemTestCase
from txmicro.amqp import uri
from txmicro.bus.targets import Target
from txmicro.cli import main as cli
from txmicro.cli.bench import Echo
from txmicro.cli.command_line import read
from txmicro.cli.send import Send
from txmicro.errors import JobError
from txmicro.manager import SystemManager
from txmicro.protocol.job import Job
from txmicro.worker import Worker


class Refused(JobError):
    """Not worth another attempt."""


class Doubler(Worker):
    """Doubles numbers after a time; refuses other data."""

    type = "Double"
    seconds = 0.1

    def do_job(self, job: Job) -> Any:
        if not isinstance(job.data, int):
            raise Refused("expected a number")
        clock = self.reactor
        return deferLater(clock, self.seconds, lambda: 2 * job.data)


class OnBusTestCase(SystemTestCase):
    """A SystemManager, a worker, and commands."""

    def setUp(self) -> None:
        super().setUp()
        self.manager, self.worker = SystemManager(), Doubler(id="Double:1")
        self.managing = self.process(self.manager)
        self.process(self.worker)
        self.out, self.err = StringIO(), StringIO()

    def start(self, *words: str) -> Deferred[int]:
        self.out, self.err = StringIO(), StringIO()
        target = Target(self.endpoint, uri.parse("amqp://guest:guest@memory"))
        self.command = cli.Command(self.clock, {}, self.out, self.err, targets=lambda *_: [target])
        return self.command.run(words)

    def run_command(self, *words: str, seconds: float = 1.0) -> str:
        """Run a command that succeeds, and return its output."""
        status = self.result(self.start(*words), seconds)
        self.assertEqual((status, self.err.getvalue()), (cli.DONE, ""))
        self.check_left()
        return self.out.getvalue()

    def refused(self, *words: str, seconds: float = 1.0) -> str:
        """Run a command that fails, and return its errors."""
        self.assertEqual(self.result(self.start(*words), seconds), cli.NOT_DONE)
        self.check_left()
        return self.err.getvalue()

    def check_left(self) -> None:
        """The command is no longer on the bus."""
        self.advance(0.1)
        self.assertEqual(self.manager.registry.of_type("CLI"), [])
        self.assertFalse([name for name in self.broker.model.queues if ".CLI" in name])


class WorkersTests(OnBusTestCase):
    def test_a_table_of_all_but_the_command_itself(self) -> None:
        self.process(Worker("Asker", id="Asker:1"))
        count, header, asker, double = self.run_command("workers").splitlines()
        self.assertEqual(count, "2 workers")
        self.assertEqual(
            header.split(),
            ["ID", "STATE", "HOST", "PID", "VERSION", "CAPACITY", "STARTED", "HEARD", "METRICS"],
        )
        self.assertRegex(asker, r"^Asker:1 +alive +\S+ +\d+ +\S+ +0 +\S+Z +\d+\.\d s ago +-$")
        self.assertRegex(double, r"^Double:1 +alive +\S+ +\d+ +\S+ +100 +\S+Z +\d+\.\d s ago +-$")

    def test_one_type_as_json(self) -> None:
        self.process(Worker("Asker"))
        answer = json.loads(self.run_command("workers", "--type", "Double", "--json"))
        self.assertEqual([each["id"] for each in answer["workers"]], ["Double:1"])
        self.assertEqual((answer["total"], answer["workers"][0]["capacity"]), (1, 100))
        self.assertEqual(self.run_command("workers", "--type", "Nobody"), "0 workers\n")

    def test_without_a_manager_nobody_answers(self) -> None:
        self.stop(self.managing)
        self.assertIn(
            "no SystemManager answered within 2 s", self.refused("workers", "--timeout", "2", seconds=3)
        )

    def test_a_command_that_may_not_declare_its_queues_gives_up(self) -> None:
        self.patch(Worker, "when_ready", lambda _: Deferred())
        self.assertIn("connected, but not on the bus after 15 s; grant", self.refused("workers", seconds=16))

    def test_without_a_broker_each_is_tried_once(self) -> None:
        self.endpoint.broker = None
        self.assertEqual(self.result(self.start("workers")), cli.NOT_DONE)
        self.assertIn("no connection to amqp://guest:***@memory:5672", self.err.getvalue())
        self.endpoint.broker = self.broker


class SendTests(OnBusTestCase):
    def test_the_result_of_one_job(self) -> None:
        self.assertEqual(self.run_command("send", "Double:*", "21"), "42\n")
        self.assertEqual(self.run_command("send", "Double:1", "21"), "42\n")

    def test_the_result_and_its_latency_as_json(self) -> None:
        answer = json.loads(self.run_command("send", "Double:*", "21", "--json"))
        self.assertEqual(answer["result"], 42)
        self.assertTrue(100 <= answer["latency_ms"] <= 500, answer)

    def test_a_durable_job(self) -> None:
        self.assertEqual(self.run_command("send", "Double:*", "21", "--durable"), "42\n")

    def test_data_from_stdin(self) -> None:
        self.patch(sys, "stdin", StringIO("21\n"))
        self.assertEqual(self.run_command("send", "Double:*", "-"), "42\n")

    def test_a_failure_has_its_type_and_text(self) -> None:
        self.assertEqual(self.refused("send", "Double:*", '"x"'), "txmicro: Refused: expected a number\n")
        self.assertEqual(self.out.getvalue(), "")

    def test_a_timeout(self) -> None:
        self.worker.seconds = 60
        self.assertIn("txmicro: JobTimeout: ", self.refused("send", "Double:*", "1", "--timeout", "0.5"))

    def test_many_jobs_so_many_at_once(self) -> None:
        running = self.start("send", "Double:*", "1", "--count", "10", "--concurrency", "5")
        self.advance(0.2)
        self.assertEqual(self.worker.running_jobs, 5)
        self.assertEqual(self.result(running, 1.0), cli.DONE)
        summary, latency = self.out.getvalue().splitlines()
        self.assertRegex(summary, r"^10 done, 0 failed in 0\.\d\d s; \d+ jobs/s$")
        self.assertRegex(
            latency, r"^latency: p50 \d+\.\d ms, p90 \d+\.\d ms, p99 \d+\.\d ms, max \d+\.\d ms$"
        )
        self.check_left()

    def test_the_summary_as_json(self) -> None:
        summary = json.loads(self.run_command("send", "Double:*", "1", "--count", "3", "--json", seconds=2))
        self.assertEqual((summary["done"], summary["failed"], summary["failures"]), (3, 0, []))
        self.assertEqual(set(summary["latency_ms"]), {"p50", "p90", "p99", "max"})

    def test_failures_are_counted(self) -> None:
        self.assertEqual(
            self.refused("send", "Double:*", "--count", "3"),
            "txmicro: 3 jobs failed: Refused: expected a number\n",
        )
        self.assertRegex(self.out.getvalue(), "^0 done, 3 failed in ")

    def test_interrupted_it_cancels_what_is_under_way_and_says_what_is_done(self) -> None:
        self.worker.seconds = 0.3
        running = self.start("send", "Double:*", "1", "--count", "1000", "--concurrency", "4")
        self.advance(0.3)
        self.worker.seconds = 60
        self.advance(0.3)
        self.assertEqual(self.worker.running_jobs, 4)
        ended = self.command.interrupt() or Deferred()
        self.advance(0.5)
        self.successResultOf(ended)
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertEqual(self.err.getvalue(), "txmicro: interrupted\n")
        self.assertRegex(self.out.getvalue(), r"^[1-9]\d* done, 0 failed in ")
        self.assertEqual(self.worker.running_jobs, 0)
        self.check_left()

    def test_interrupted_before_the_first_job(self) -> None:
        running = self.start("send", "Double:*", "1")
        ended = self.command.interrupt() or Deferred()
        self.advance(0.5)
        self.successResultOf(ended)
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertEqual(self.err.getvalue(), "txmicro: interrupted\n")


class BenchTests(OnBusTestCase):
    def setUp(self) -> None:
        super().setUp()

        clock: Any = self.clock

        def answer(job: Job) -> Deferred[Any]:
            """Take as long as a job does on a real bus, where time passes by itself."""
            return deferLater(clock, 0.05, lambda: job.data)

        self.patch(Echo, "do_job", staticmethod(answer))

    def test_one_job_at_a_time_and_many(self) -> None:
        connected, header, one, many = self.run_command(
            "bench", "--seconds", "1", "--concurrency", "5", "--size", "1000", seconds=5
        ).splitlines()
        self.assertRegex(connected, r"^connected in \d+ ms; 1,000 bytes of data in each job$")
        self.assertEqual(header.split()[:4], ["LANE", "AT", "ONCE", "JOBS"])
        self.assertRegex(one, r"^interactive +1 +\d+ +\d+( +\d+\.\d\d){4}$")
        jobs = [int(line.split()[2]) for line in (one, many)]
        self.assertEqual(jobs[1], 5 * jobs[0])
        self.assertFalse([name for name in self.broker.model.queues if "BENCH" in name])

    def test_durable_jobs_leave_no_queues(self) -> None:
        answer = json.loads(self.run_command("bench", "--durable", "--seconds", "1", "--json", seconds=9))
        self.assertEqual(
            [(each["lane"], each["at_once"], each["failed"]) for each in answer["measured"]],
            [(lane, at_once, 0) for lane in ("interactive", "durable") for at_once in (1, 100)],
        )
        self.assertTrue(all(each["done"] for each in answer["measured"]))
        self.assertFalse([name for name in self.broker.model.queues if "BENCH" in name])

    def test_a_failure_ends_it(self) -> None:
        def refuse(job: Job) -> Any:
            raise Refused("expected nothing")

        self.patch(Echo, "do_job", staticmethod(refuse))
        self.assertIn(
            "txmicro: Refused: expected nothing", self.refused("bench", "--seconds", "1", seconds=3)
        )

    def test_interrupted_it_ends_what_it_has_begun(self) -> None:
        running = self.start("bench", "--durable", "--seconds", "60")
        self.advance(1.0)
        ended = self.command.interrupt() or Deferred()
        self.advance(3.0)
        self.successResultOf(ended)
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertEqual(self.err.getvalue(), "txmicro: interrupted\n")
        self.assertRegex(self.out.getvalue().splitlines()[2], r"^interactive +1 +[1-9]")
        self.assertFalse([name for name in self.broker.model.queues if "BENCH" in name])


class SendLineTests(SystemTestCase):
    def test_its_defaults(self) -> None:
        self.assertEqual(read(["send", "WB:*"]), Send(address="WB:*", outcomes=ANY))

    def test_a_wrong_line_is_explained(self) -> None:
        for line, complaint in (
            ("send", "ADDRESS is missing; give TYPE:\\* or a worker id"),
            ("send WB", "ADDRESS: 'WB' "),
            ("send WB:* {a:1}", "DATA: '{a:1}' is not valid; expected JSON, such as"),
            ("send WB:* --count 0", "--count: '0' is not valid; expected a whole number from 1 to"),
            ("send WB:* --concurrency 10001", "from 1 to 10000"),
            ("send WB:* --timeout nan", "--timeout: 'nan' is not valid; expected seconds"),
            ("workers --timeout 0", "--timeout: '0' is not valid; expected seconds"),
            ("workers --type W.B", "--type: 'W.B' "),
        ):
            error = self.assertRaises(UsageError, read, line.split())
            self.assertRegex(error.format_message(), complaint, line)
