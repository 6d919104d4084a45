"""The ``txmicro`` command as a process, on RabbitMQ and on the embedded broker over TCP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase

from tests.support.live import Embedded, Live, LiveBroker, LiveTestCase, RabbitMQ
from tests.support.programs import BIN
from tests.support.rabbitmq import free_port, reactor
from txmicro.cli import main as cli
from txmicro.cli.dead import ListDead
from txmicro.errors import JobError
from txmicro.protocol.job import Job
from txmicro.worker import Worker


class Refused(JobError):
    """A failure that is not tried again."""


class Fickle(Worker):
    """Refuses jobs until ``works`` is set. Its type is used by one test only: dead letters outlive tests."""

    def __init__(self) -> None:
        super().__init__(f"D{uuid4().hex[:12]}")
        self.works = False
        self.ran: Counter[Any] = Counter()

    async def do_job(self, job: Job) -> Any:
        if not self.works:
            raise Refused("not yet")
        self.ran[job.data] += 1
        return job.data


class DeadLettersMixin(Live):
    """Dead letters, and the commands for them."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.sender, self.worker = Worker("WA"), Fickle()
        await self.start(self.sender, self.worker)

    async def give_up(self, number: int) -> list[str]:
        """Send *number* jobs that become dead letters, and return their ids."""
        jobs = [self.sender.send(f"{self.worker.type}:*", n, durable=True) for n in range(number)]
        await gatherResults([job.when_done().addErrback(lambda error: error.trap(Refused)) for job in jobs])
        # The sender gets the failure before the broker has confirmed the dead letter.
        await self.until(lambda: not self.worker._running_engine.lane.intake, "all are dead letters")
        return [job.id for job in jobs]

    async def txmicro(self, line: str, **settings: str) -> tuple[str, str, int]:
        """Run the program, and return its stdout, its stderr and its status."""
        command, _, rest = line.partition(" ")
        words = ["dead", command, self.worker.type, *rest.split()]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        environ |= {"TXMICRO_BROKER_URL": self.url()} | settings
        out, err, status = await getProcessOutputAndValue(str(BIN / "txmicro"), words, env=environ)
        return out.decode(), err.decode(), status

    async def done(self, line: str) -> str:
        """Run a command that succeeds, and return its stdout."""
        out, err, status = await self.txmicro(line)
        self.assertEqual((err, status), ("", cli.DONE))
        return out

    async def listed(self) -> list[str]:
        """Return the ids of the listed jobs, sorted."""
        letters = json.loads(await self.done("list --limit 1000 --json"))["letters"]
        return sorted(letter["id"].removesuffix("/0") for letter in letters)

    async def test_list_show_requeue_discard(self) -> None:
        first, second, third, *rest = ids = await self.give_up(40)
        self.assertEqual(await self.listed(), sorted(ids))
        self.assertIn("not yet", await self.done("list --limit 1"))
        self.assertEqual(json.loads(await self.done(f"show {second}"))["body"]["data"], 1)
        self.worker.works = True
        self.assertEqual(await self.done(f"requeue {second} {third}/0"), "2 requeued\n")
        await self.until(lambda: self.worker.ran == {1: 1, 2: 1}, "both are done")
        self.assertEqual(await self.listed(), sorted([first, *rest]))
        self.assertEqual(await self.done(f"discard {first}"), "1 discarded\n")
        self.assertEqual(await self.done("discard --all"), "37 discarded\n")
        self.assertEqual(await self.listed(), [])
        self.assertEqual(self.worker.ran, {1: 1, 2: 1})

    async def test_two_commands_requeue_all_while_the_worker_runs(self) -> None:
        await self.give_up(200)
        self.worker.works = True
        ended = await gatherResults([Deferred.fromCoroutine(self.txmicro("requeue --all")) for _ in range(2)])
        counts = [int(out.split()[0]) for out, _, status in ended if status == cli.DONE]
        self.assertEqual(sum(counts), 200, ended)
        for _, err, status in ended:
            if status != cli.DONE:
                self.assertIn("another txmicro command is working", err)
        await self.until(lambda: len(self.worker.ran) == 200, "all are done")
        self.assertEqual(set(self.worker.ran.values()), {1})
        self.assertEqual(await self.listed(), [])

    async def test_letters_that_arrive_during_a_command(self) -> None:
        """Requeued jobs become dead letters again, and more arrive: none is lost, none exists twice."""
        ids = await self.give_up(100)
        requeuing = Deferred.fromCoroutine(self.done("requeue --all"))
        more = await self.give_up(50)
        requeued = await requeuing
        self.assertGreaterEqual(int(requeued.split()[0]), 100)
        for _ in range(20):  # the last ones may not have failed again yet
            listed = await self.listed()
            if len(listed) >= 150:
                break
        self.assertEqual(listed, sorted(ids + more))

    async def test_listing_often_loses_no_letter(self) -> None:
        ids = await self.give_up(3)
        for _ in range(
            25
        ):  # RabbitMQ 4 drops what comes back more than 20 times, unless it is told otherwise
            out = StringIO()
            command = cli.Command(reactor, {"TXMICRO_BROKER_URL": self.url()}, out, StringIO())
            self.assertEqual(await command.run(["dead", "list", self.worker.type]), cli.DONE)
        self.assertEqual(await self.listed(), sorted(ids))

    async def test_unknown_ids_and_types(self) -> None:
        out, err, status = await self.txmicro("requeue nobody")
        self.assertEqual((out, status), ("0 requeued\n", cli.NOT_DONE))
        self.assertIn("no dead letter with the ID nobody", err)
        self.worker.type = "Dnever"
        self.assertIn("Dnever has no dead letters", (await self.txmicro("list"))[1])

    async def test_no_broker(self) -> None:
        urls = f"amqp://guest:s3cret@127.0.0.1:{free_port()},{self.url(user='guest:s3cret')}"
        out, err, status = await self.txmicro("list", TXMICRO_BROKER_URL=urls)
        self.assertEqual((out, status), ("", cli.NOT_DONE))
        self.assertRegex(err, "(?s)refused.*\n.*ACCESS_REFUSED")
        self.assertNotIn("s3cret", err)

    async def test_a_wrong_command_line(self) -> None:
        out, err, status = await self.txmicro("requeue")
        self.assertEqual((out, status), ("", cli.WRONG))
        self.assertIn("give either the IDs", err)

    async def test_a_configuration_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text(json.dumps({"broker_url": self.url()}))
        out, err, status = await self.txmicro(
            f"list --config {path.absolute()}", TXMICRO_BROKER_URL=self.url()
        )
        self.assertIn(f"0 dead letters of {self.worker.type}", out)
        self.assertEqual((err, status), ("", cli.DONE))


class EmbeddedTests(DeadLettersMixin, LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return Embedded()


class RabbitMQTests(DeadLettersMixin, LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return RabbitMQ()

    async def test_the_documented_rights_are_enough(self) -> None:
        broker: Any = self.broker
        kind = self.worker.type
        rights = (
            rf"^txmicro\.dead\.{kind}\.operator$",
            rf"^txmicro\.durable\.{kind}$",
            rf"^txmicro\.dead\.{kind}$",
        )
        await broker.node.add_user("operator", *rights)
        one, two = await self.give_up(2)
        self.worker.works = True
        for line in (f"show {one}", f"requeue {one}", "discard --all", "list"):
            _, err, status = await self.txmicro(line, TXMICRO_BROKER_URL=self.url(user="operator:operator"))
            self.assertEqual((err, status), ("", cli.DONE), line)
        await self.until(lambda: self.worker.ran == {0: 1}, f"{one} is done, {two} is not")


class LaunchTests(SynchronousTestCase):
    def test_it_exits_with_the_commands_status(self) -> None:
        reactor = MemoryReactorClock()
        err = StringIO()
        self.patch(sys, "stderr", err)
        left = self.failureResultOf(cli.launch(reactor, ["dead"]), SystemExit)
        self.assertEqual(left.value.code, cli.WRONG)
        self.assertIn("the command is missing", err.getvalue())
        [(interrupt, _, _)] = reactor.triggers["before"]["shutdown"]
        self.assertIsNone(interrupt())

    def test_its_configuration_is_searched_as_the_daemons_is(self) -> None:
        path = self.mktemp()
        Path(path).write_text("no JSON")
        self.patch(os, "environ", {"TXMICRO_CONFIG": path})
        self.patch(sys, "stderr", err := StringIO())
        self.failureResultOf(cli.launch(MemoryReactorClock(), ["dead", "list", "WB"]), SystemExit)
        self.assertIn(repr(path), err.getvalue())

    def test_the_console_script(self) -> None:
        calls: list[Any] = []
        self.patch(cli, "react", lambda *call: calls.append(call))
        self.patch(sys, "argv", ["txmicro", "dead"])
        for name in ("stdout", "stderr"):
            self.patch(sys, name, _Stream())
        cli.main()
        self.assertEqual(calls, [(cli.launch, [["dead"]])])


class PipeTests(SynchronousTestCase):
    """Nobody reads the output, as behind ``| head``."""

    def leave(self, *words: str) -> tuple[int, bytes]:
        """Run the program without a reader of its stdout, and return its status and its stderr."""
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as out:
            done = subprocess.run([BIN / "txmicro", *words], stdout=out, stderr=subprocess.PIPE)
        return done.returncode, done.stderr

    def test_it_exits_without_an_error_as_after_the_signal(self) -> None:
        for words in (["--version"], ["--help"]):
            self.assertEqual(self.leave(*words), (cli.UNREAD, b""))

    def test_a_broken_pipe_during_the_answer(self) -> None:
        async def answer(*_: Any) -> None:
            raise BrokenPipeError

        self.patch(ListDead, "run", answer)
        launched = cli.launch(MemoryReactorClock(), ["dead", "list", "WB"])
        self.assertEqual(self.failureResultOf(launched, SystemExit).value.code, cli.UNREAD)


class _Stream(StringIO):
    def reconfigure(self, *, errors: str) -> None:
        assert errors == "backslashreplace"
