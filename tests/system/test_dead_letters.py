"""The commands for dead letters, in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from unittest.mock import ANY

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.system import SystemTestCase
from txmicro.amqp import uri
from txmicro.amqp.properties import Properties
from txmicro.broker.sessions import ModelChannel, ModelSession
from txmicro.bus.targets import Target, dial
from txmicro.cli import dead as dead_commands
from txmicro.cli import main as cli
from txmicro.cli.command_line import read
from txmicro.errors import JobError
from txmicro.operations import connecting
from txmicro.operations import dead_letter_queue as dead
from txmicro.operations.dead_letter import DeadLetter
from txmicro.operations.dead_letter_queue import BATCH
from txmicro.operations.operator_channel import BROKER_TIMEOUT
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.codec.messagepack import MESSAGEPACK
from txmicro.protocol.job import Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000


class Refused(JobError):
    """A failure that is not tried again."""


class Fickle(Worker):
    """Refuses jobs until ``works`` is set."""

    type = "WB"
    retry = RetryPolicy(attempts=3, steps=(1.0, 2.0))

    def __init__(self, *, works: bool = False) -> None:
        super().__init__()
        self.works = works
        self.retryable = False
        self.ran: list[Job] = []

    async def do_job(self, job: Job) -> Any:
        self.ran.append(job)
        if not self.works:
            raise Refused(f"no {job.data}", retryable=self.retryable)
        return job.data


class LetterTests(SystemTestCase):
    """A dead letter, read from a message that any program may have written."""

    def letter(self, body: bytes = b"{}", **properties: Any) -> DeadLetter:
        return DeadLetter(1, Properties(**properties), body)

    def test_a_letter_of_a_worker(self) -> None:
        headers = {
            durable_headers.STORED: NOON_MS,
            durable_headers.FAILED: NOON_MS + 60_000,
            durable_headers.ATTEMPT: 5,
            durable_headers.REASON: "attempts",
            durable_headers.FAILURE: {
                "type": "KeyError",
                "message": "'title'",
                "retryable": False,
                "worker": "WB:1",
            },
        }
        self.assertEqual(
            self.letter(message_id="7-1/0", headers=headers).summary(),
            {
                "id": "7-1/0",
                "stored": "2026-11-23T12:00:00Z",
                "failed": "2026-11-23T12:01:00Z",
                "attempt": 5,
                "reason": "attempts",
                "failure": {"type": "KeyError", "message": "'title'", "worker": "WB:1"},
            },
        )

    def test_a_letter_of_the_broker(self) -> None:
        deaths = [{"reason": "delivery_limit", "time": NOON}, {"reason": "expired", "time": None}]
        summary = self.letter(headers={"x-death": deaths}).summary()
        self.assertEqual((summary["reason"], summary["failed"]), ("delivery_limit", "2026-11-23T12:00:00Z"))
        self.assertIsNone(summary["failure"])

    def test_a_letter_without_headers(self) -> None:
        letter = self.letter(b"x", timestamp=NOON_MS // 1000)
        self.assertEqual(letter.id, letter.job)
        self.assertRegex(letter.id, r"^sha256:[0-9a-f]{16}$")
        self.assertEqual(letter.summary()["failed"], "2026-11-23T12:00:00Z")
        self.assertEqual(letter.summary()["reason"], "unknown")

    def test_invalid_headers_do_not_fail(self) -> None:
        strange: Any
        for strange in (None, -1, 2**62, "x", b"x", [], [1], {}, {"a": []}, True, NOON):
            names = (
                durable_headers.STORED,
                durable_headers.FAILED,
                durable_headers.ATTEMPT,
                durable_headers.REASON,
                durable_headers.FAILURE,
                "x-death",
            )
            for headers in (
                dict.fromkeys(names, strange),
                {"x-death": [{"reason": strange, "time": strange}]},
            ):
                letter = self.letter(headers=headers)
                json.dumps(letter.summary())
                letter.again(NOON_MS, NOON_MS)

    def test_a_body_that_cannot_be_read_is_shown_in_hex(self) -> None:
        contents = self.letter(b"\x01\xff", content_type="application/json").contents()
        self.assertEqual(contents["hex"], "01ff")
        self.assertIn("JSON", contents["unreadable"])
        self.assertNotIn("body", contents)

    def test_a_requeued_job_is_as_at_first_and_loses_unknown_headers(self) -> None:
        headers = {
            durable_headers.ATTEMPT: 5,
            durable_headers.REASON: "attempts",
            durable_headers.ATTEMPTS: 7,
            durable_headers.EXPIRES: NOON_MS + 5000,
            "traceparent": "00-1",
            "tracestate": "vendor=1",
            "CC": ["dead"],
            "BCC": ["dead"],
            "x-death": [],
        }
        given = self.letter(
            headers=headers, message_id="1/0", content_type="text/odd", user_id="guest", expiration="1"
        )
        again = Properties.decode(given.again(NOON_MS, NOON_MS - 1))
        self.assertEqual(
            again.headers,
            {
                durable_headers.ATTEMPT: 1,
                durable_headers.ATTEMPTS: 7,
                durable_headers.EXPIRES: NOON_MS + 5000,
                durable_headers.REQUEUED: NOON_MS - 1,
                "traceparent": "00-1",
                "tracestate": "vendor=1",
            },
        )
        self.assertEqual((again.message_id, again.content_type), ("1/0", "text/odd"))
        self.assertEqual((again.expiration, again.delivery_mode, again.user_id), ("5000", 2, None))

    def test_an_expiration_in_years_is_reduced_to_the_limit_of_rabbitmq(self) -> None:
        letter = self.letter(headers={durable_headers.EXPIRES: NOON_MS + 2**40})
        again = Properties.decode(letter.again(NOON_MS, NOON_MS))
        self.assertEqual(again.expiration, str(2**32 - 1))
        self.assertEqual((again.headers or {})[durable_headers.EXPIRES], NOON_MS + 2**40)


class CommandTestCase(SystemTestCase):
    """A sender, a worker that refuses jobs, and the commands."""

    def setUp(self) -> None:
        super().setUp()
        self.now = NOON.timestamp()
        self.sender = Worker("WA")
        self.worker = Fickle()
        self.bus = self.process(self.sender)
        self.workers = self.process(self.worker)
        self.out, self.err = StringIO(), StringIO()

    def send(self, *data: Any, **terms: Any) -> list[JobFuture]:
        jobs = [self.sender.send("WB:*", each, durable=True, **terms) for each in data]
        for job in jobs:
            job.when_done().addErrback(lambda _: None)
        self.advance(0.5)
        return jobs

    def command(self) -> cli.Command:
        self.out, self.err = StringIO(), StringIO()
        target = Target(self.endpoint, uri.parse("amqp://guest:guest@memory"))
        return cli.Command(self.clock, {}, self.out, self.err, lambda: self.now, targets=lambda *_: [target])

    def start(self, line: str, command: cli.Command | None = None) -> Deferred[int]:
        return (command or self.command()).run(["dead", *line.split()])

    def run_command(self, line: str, seconds: float = 1.0) -> str:
        """Run a command that succeeds, and return its output."""
        status = self.result(self.start(line), seconds)
        self.assertEqual((status, self.err.getvalue()), (cli.DONE, ""))
        return self.out.getvalue()

    def amid(self, act: Callable[[], Any]) -> None:
        """Call *act* when a command reads its twentieth letter."""
        take = ModelChannel.get
        taken = 0

        def get(channel: ModelChannel, queue: str, *, no_ack: bool) -> Any:
            nonlocal taken
            taken += 1
            if taken == BATCH + 4:
                self.clock.callLater(0, act)
            return take(channel, queue, no_ack=no_ack)

        self.patch(ModelChannel, "get", get)

    def refused(self, line: str, seconds: float = 1.0) -> str:
        """Run a command that fails, and return its errors."""
        self.assertEqual(self.result(self.start(line), seconds), cli.NOT_DONE)
        self.assertNotIn("guest:guest", self.err.getvalue())
        return self.err.getvalue()

    def listed(self, options: str = "") -> list[str]:
        """Return the ids of the listed letters."""
        letters = json.loads(self.run_command(f"list WB --json {options}"))["letters"]
        return sorted(letter["id"] for letter in letters)  # the listing is sorted by time first

    def ran(self) -> list[Any]:
        """Return the data of the jobs that have run since the last call."""
        ran, self.worker.ran[:] = [job.data for job in self.worker.ran], []
        return ran

    def check_settled(self) -> None:
        """Assert that no message is unacknowledged, and that only dead letters are queued."""
        for connection in self.broker.connections:
            for channel in connection.session.channels:
                self.assertEqual(channel.unacked, {})
        waiting = {name: len(queue.ready) for name, queue in self.broker.model.queues.items() if queue.ready}
        self.assertLessEqual(set(waiting), {"txmicro.dead.WB"})
        self.assertNotIn("txmicro.dead.WB.operator", self.broker.model.queues)

    def put(self, body: bytes, **properties: Any) -> None:
        """Publish a message as a dead letter."""
        self.broker.model.publish(
            topology.durable_exchange("WB"), topology.DEAD, Properties(**properties), body
        )


class ListTests(CommandTestCase):
    def test_a_listing_has_the_reasons_and_removes_nothing(self) -> None:
        jobs = self.send("one", "two")
        for _ in range(2):
            lines = self.run_command("list WB").splitlines()
            self.assertEqual(lines[0], "2 dead letters of WB")
            self.assertRegex(lines[1], r"^ID +STORED +FAILED +ATTEMPT +REASON +WORKER +LAST FAILURE$")
            for job, line in zip(sorted(jobs, key=lambda job: job.id), lines[2:], strict=True):
                self.assertRegex(line, rf"^{job.id}/0 +\S+Z +\S+Z +1 +failed +{self.worker.id} +Refused: no ")
        self.check_settled()

    def test_no_letter_and_one_letter(self) -> None:
        self.assertEqual(self.run_command("list WB"), "0 dead letters of WB\n")
        self.put(b"")
        answer = self.run_command("list WB")
        self.assertRegex(answer, r"^1 dead letter of WB\n.*\nsha256:.* - +\d* +1 +unknown +- +-\n$|-")

    def test_pages(self) -> None:
        jobs = sorted(f"{job.id}/0" for job in self.send(*range(2 * BATCH + 5)))
        self.assertEqual(self.listed(), jobs)
        self.assertEqual(len(self.listed("--limit 3")), 3)
        self.assertIn(
            "37 dead letters of WB; 36 of them are shown, --limit", self.run_command("list WB --limit 36")
        )
        self.assertEqual(self.listed(), jobs)
        self.check_settled()

    def test_the_json_of_a_page(self) -> None:
        self.send("é")
        self.assertEqual(
            json.loads(self.run_command("list WB --json")),
            {
                "type": "WB",
                "total": 1,
                "letters": [
                    {
                        "id": ANY,
                        "stored": ANY,
                        "failed": ANY,
                        "attempt": 1,
                        "reason": "failed",
                        "failure": {"type": "Refused", "message": "no é", "worker": self.worker.id},
                    }
                ],
            },
        )

    def test_control_characters_in_a_letter_are_escaped(self) -> None:
        failure = {"type": "\x1b[2J", "message": "a\nb\x85c\u202e" + "x" * 30_000}
        self.put(b"{}", message_id="\x1b]0;owned\x07", headers={durable_headers.FAILURE: failure})
        for answer in (self.run_command("list WB"), self.run_command("show WB \x1b]0;owned\x07")):
            self.assertTrue(all(line.isprintable() for line in answer.splitlines()), answer)
        self.assertLess(max(map(len, self.run_command("list WB").splitlines())), 400)
        self.assertLess(len(self.run_command("list WB --json")), 10_000)


class ShowTests(CommandTestCase):
    def test_it_shows_headers_and_body(self) -> None:
        job, _ = self.send({"title": "Métropolis"}, 2)
        for name in (job.id, f"{job.id}/0"):
            shown = json.loads(self.run_command(f"show WB {name}"))
            self.assertEqual(shown["body"]["data"], {"title": "Métropolis"})
            self.assertEqual(shown["headers"][durable_headers.REASON], "failed")
            self.assertEqual(shown["content_type"], "application/json")
        self.check_settled()

    def test_values_that_json_cannot_represent(self) -> None:
        self.put(
            MESSAGEPACK.encode({"a": b"\x00", "at": NOON}), content_type="application/msgpack", message_id="1"
        )
        self.assertEqual(
            json.loads(self.run_command("show WB 1"))["body"], {"a": "b'\\x00'", "at": NOON.isoformat()}
        )
        self.put(MESSAGEPACK.encode({"a": {(1, 2): 3}}), content_type="application/msgpack", message_id="2")
        self.assertEqual(json.loads(self.run_command("show WB 2"))["body"], "{'a': {(1, 2): 3}}")

    def test_an_unknown_id(self) -> None:
        job, *_ = self.send(1, 2)
        self.assertIn("WB has no dead letter with the ID nobody", self.refused(f"show WB {job.id} nobody"))
        self.check_settled()


class RequeueTests(CommandTestCase):
    def test_it_has_all_its_attempts_again(self) -> None:
        self.worker.retryable = True
        [job] = self.send("one", attempts=2)
        self.advance(2)
        self.assertEqual([ran.tries for ran in self.worker.ran], [0, 1])
        self.run_command(f"requeue WB {job.id}")
        self.advance(2)
        self.assertEqual([ran.tries for ran in self.worker.ran], [0, 1, 0, 1])
        self.assertEqual(self.listed(), [f"{job.id}/0"])

    def test_some_by_id_and_the_others_stay(self) -> None:
        jobs = self.send(*range(2 * BATCH))
        self.ran()
        self.worker.works = True
        chosen = [job.id for job in jobs[::2]]
        self.assertEqual(self.run_command(f"requeue WB {' '.join(chosen)}"), f"{BATCH} requeued\n")
        self.assertEqual(self.ran(), list(range(0, 2 * BATCH, 2)))
        self.assertEqual(self.listed(), sorted(f"{job.id}/0" for job in jobs[1::2]))
        self.check_settled()

    def test_all(self) -> None:
        self.send(*range(3 * BATCH + 1))
        self.ran()
        self.worker.works = True
        self.assertEqual(self.run_command("requeue --all WB"), f"{3 * BATCH + 1} requeued\n")
        self.assertEqual(self.ran(), list(range(3 * BATCH + 1)))
        self.assertEqual(self.listed(), [])
        self.check_settled()

    def test_all_means_the_letters_that_were_there_at_the_beginning(self) -> None:
        """The worker refuses the jobs again while the command runs."""
        self.send(*range(2 * BATCH))
        self.ran()
        self.assertEqual(self.run_command("requeue WB --all"), f"{2 * BATCH} requeued\n")
        self.assertEqual(self.ran(), list(range(2 * BATCH)))
        self.assertEqual(len(self.listed()), 2 * BATCH)

    def test_an_unknown_id_is_reported_before_anything_is_done(self) -> None:
        [job] = self.send(1)
        self.ran()
        self.assertIn("with the ID WB:x, nobody", self.refused(f"requeue WB {job.id} nobody WB:x"))
        self.assertEqual(self.ran(), [])
        self.assertEqual(self.listed(), [f"{job.id}/0"])

    def test_an_expired_letter_stays(self) -> None:
        self.send(1)
        self.put(b"{}", message_id="late/0", headers={durable_headers.EXPIRES: NOON_MS})
        self.assertEqual(self.run_command("requeue WB --all"), "1 requeued\n1 expired, left as they are\n")
        self.assertIn("late/0", self.listed())
        self.assertIn("late/0: expired", self.refused("requeue WB late"))
        self.assertEqual(self.run_command("discard WB late"), "1 discarded\n")

    def test_the_counts_as_json(self) -> None:
        self.send(1, 2)
        self.put(b"{}", message_id="late/0", headers={durable_headers.EXPIRES: NOON_MS})
        answer = json.loads(self.run_command("requeue WB --all --json"))
        self.assertEqual(answer, {"requeued": 2, "expired": 1})
        self.assertEqual(json.loads(self.run_command("discard WB late --json")), {"discarded": 1})

    def test_a_deleted_queue_loses_no_letter(self) -> None:
        jobs = self.send(1, 2)
        self.stop(self.workers)
        self.broker.model.delete_queue(ModelSession(self.broker.model), topology.durable_queue("WB"))
        self.assertIn("NO_ROUTE", self.refused("requeue WB --all"))
        self.assertEqual(self.out.getvalue(), "0 requeued\n")
        self.assertEqual(self.listed(), [f"{job.id}/0" for job in jobs])

    def test_a_deleted_exchange_loses_no_letter(self) -> None:
        [job] = self.send(1)
        self.stop(self.workers)
        self.broker.model.delete_exchange(topology.durable_exchange("WB"))
        self.assertIn("NOT_FOUND", self.refused("requeue WB --all"))
        self.assertEqual(self.listed(), [f"{job.id}/0"])

    def test_a_letter_that_the_queue_refuses_is_not_counted(self) -> None:
        """The queue is nearly full: some letters are requeued, the others stay, and none does both."""
        self.send(*range(5))
        self.stop(self.workers)
        model, session = self.broker.model, ModelSession(self.broker.model)
        name = topology.durable_queue("WB")
        model.delete_queue(session, name)
        arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}
        model.declare_queue(session, name, durable=True, arguments=arguments)
        model.bind(session, name, topology.durable_exchange("WB"), topology.DURABLE_KEY)
        self.assertIn("refused", self.refused("requeue WB --all"))
        self.assertEqual(self.out.getvalue(), "3 requeued\n")
        self.assertEqual(len(model.queues[name].ready), 3)
        self.assertEqual(len(self.listed()), 2)


class CopiesTests(CommandTestCase):
    """A letter exists twice if the connection ends between confirm and acknowledgement."""

    def setUp(self) -> None:
        super().setUp()
        self.jobs = self.send("one", "two", "three")
        self.ran()
        self.copy(0)

    def copy(self, number: int, later: int = 0) -> None:
        """Add a copy of a job's letter, which failed *later* seconds later, at the end of the queue."""
        queue = self.broker.model.queues[topology.dead_queue("WB")]
        key = f"{self.jobs[number].id}/0"
        [first] = [each for each in queue.ready if each.properties.message_id == key][:1]
        headers = dict(first.properties.headers or {})
        headers[durable_headers.FAILED] += later * 1000
        self.put(first.body, message_id=key, content_type=first.properties.content_type, headers=headers)

    def test_a_listing_has_one_and_counts_one(self) -> None:
        answer = self.run_command("list WB").splitlines()
        self.assertEqual(answer[0], "3 dead letters of WB")
        self.assertEqual(self.listed(), sorted(f"{job.id}/0" for job in self.jobs))
        self.assertIn("3 dead letters of WB; 2 of them", self.run_command("list WB --limit 2"))
        self.check_settled()

    def test_of_very_many_only_the_first_are_read(self) -> None:
        self.patch(dead, "SCANNED", 3)
        self.assertIn("4 dead letters of WB; 1 of them", self.run_command("list WB --limit 1"))
        self.assertIn("3 dead letters of WB\n", self.run_command("list WB --limit 4"))

    def test_the_latest_is_shown(self) -> None:
        self.copy(1, later=3600)
        for _ in range(2):
            listed = json.loads(self.run_command("list WB --json"))["letters"]
            shown = json.loads(self.run_command(f"show WB {self.jobs[1].id}"))
            [summary] = [each for each in listed if each["id"] == shown["id"]]
            self.assertEqual(summary["failed"], shown["failed"])
            self.assertEqual(
                shown["headers"][durable_headers.FAILED],
                max(int(h[durable_headers.FAILED]) for h in self.headers(1)),
            )

    def headers(self, number: int) -> list[dict[str, Any]]:
        ready = self.broker.model.queues[topology.dead_queue("WB")].ready
        key = f"{self.jobs[number].id}/0"
        return [each.properties.headers or {} for each in ready if each.properties.message_id == key]

    def test_by_id_it_is_requeued_once_and_all_copies_are_removed(self) -> None:
        self.copy(0)
        self.assertEqual(self.run_command(f"requeue WB {self.jobs[0].id}"), "1 requeued\n")
        self.assertEqual(self.ran(), ["one"])
        self.assertEqual(len(self.headers(0)), 1)
        self.check_settled()

    def test_all_are_requeued_once_wherever_their_copies_are(self) -> None:
        more = self.send(*range(2 * BATCH))
        self.copy(0)
        self.copy(1)
        self.ran()
        self.worker.works = True
        self.assertEqual(self.run_command("requeue WB --all"), f"{len(more) + 3} requeued\n")
        self.assertEqual(len(self.ran()), len(more) + 3)
        self.assertEqual(self.listed(), [])
        self.check_settled()

    def test_a_requeued_job_that_fails_again_is_not_a_copy(self) -> None:
        """Other letters are removed meanwhile, so that the command reads the letter again."""
        self.send(*range(3 * BATCH))
        queue = self.broker.model.queues[topology.dead_queue("WB")]

        def drop_the_others() -> None:
            for _ in range(len(queue.ready)):
                letter = queue.ready.popleft()
                if durable_headers.REQUEUED in (letter.properties.headers or {}):
                    queue.ready.append(letter)

        self.amid(drop_the_others)
        self.worker.ran.clear()
        self.run_command("requeue WB --all", 3.0)
        ran = {job.key for job in self.worker.ran}
        self.assertTrue(BATCH <= len(ran) < 3 * BATCH)
        self.assertLessEqual(ran, set(self.listed("--limit 100")))

    def test_those_that_expired_count_once(self) -> None:
        for _ in range(2):
            self.put(b"{}", message_id="late/0", headers={durable_headers.EXPIRES: NOON_MS})
        self.assertEqual(self.run_command("requeue WB --all"), "3 requeued\n1 expired, left as they are\n")
        self.assertIn("txmicro: late/0: expired", self.refused("requeue WB late"))

    def test_all_are_discarded(self) -> None:
        self.assertEqual(self.run_command(f"discard WB {self.jobs[0].id}"), "1 discarded\n")
        self.assertEqual(self.headers(0), [])
        self.copy(1)
        self.assertEqual(self.run_command("discard WB --all"), "2 discarded\n")
        self.assertEqual(self.listed(), [])
        self.check_settled()

    def test_only_the_same_bytes_are_copies_of_an_unreadable_letter(self) -> None:
        self.run_command("discard WB --all")
        for body in (b"\x00", b"\x01", b"\x00"):
            self.put(body, message_id="odd", headers={durable_headers.REASON: durable_headers.UNREADABLE})
        self.assertEqual(self.listed(), ["odd", "odd"])
        self.assertEqual(self.run_command("discard WB odd"), "2 discarded\n")


class DiscardTests(CommandTestCase):
    def test_some_and_all(self) -> None:
        jobs = self.send(*range(5))
        self.assertEqual(self.run_command(f"discard WB {jobs[1].id}/0 {jobs[3].id}"), "2 discarded\n")
        self.assertEqual(self.listed(), [f"{jobs[n].id}/0" for n in (0, 2, 4)])
        self.assertEqual(self.run_command("discard WB --all"), "3 discarded\n")
        self.assertEqual(self.listed(), [])
        self.assertIn("has no dead letter with the ID x", self.refused("discard WB x"))
        self.check_settled()


class TroubleTests(CommandTestCase):
    def test_one_operator_at_a_time(self) -> None:
        self.send(*range(10 * BATCH))
        self.worker.works = True
        self.ran()
        second, said = self.command(), self.err
        statuses: list[Deferred[int]] = []
        self.amid(lambda: statuses.append(self.start("requeue WB --all", second)))
        self.run_command("requeue WB --all", 2.0)
        self.assertEqual(self.successResultOf(statuses[0]), cli.NOT_DONE)
        self.assertIn("WB: another txmicro command is working", said.getvalue())
        self.assertEqual(sorted(self.ran()), list(range(10 * BATCH)))

    def test_another_consumer_that_returns_letters_delays_by_a_second(self) -> None:
        self.send(*range(3))
        self.patch(self.broker.model.queues["txmicro.dead.WB"], "requeue", lambda messages: list(messages))
        running = self.start("list WB")
        self.advance(0.5)
        self.assertNoResult(running)
        self.assertEqual(self.result(running, 8.0), cli.DONE)

    def test_letters_that_are_removed_in_the_meantime_are_not_waited_for(self) -> None:
        self.send(*range(4 * BATCH))
        self.amid(self.broker.model.queues["txmicro.dead.WB"].purge)
        self.assertEqual(self.run_command("discard WB --all"), f"{2 * BATCH} discarded\n")
        self.check_settled()

    def test_a_type_without_dead_letters(self) -> None:
        self.assertIn("WX has no dead letters", self.refused("list WX"))

    def test_another_refusal_of_the_broker(self) -> None:
        self.patch(self.broker.model, "queue", lambda *_: self.broker.model.declare_exchange("", ""))
        self.assertIn("403", self.refused("list WB"))

    def test_no_broker(self) -> None:
        self.endpoint.broker = None
        self.assertEqual(
            self.refused("list WB", 0.1),
            "txmicro: no connection to amqp://guest:***@memory:5672/%2F: "
            "Connection was refused by other side: connection refused.\n",
        )

    def test_a_broker_that_stops_answering(self) -> None:
        self.send(*range(2 * BATCH))
        self.patch(connecting, "dial", _dial_without_heartbeats)
        self.amid(lambda: [each.transport.pauseProducing() for each in self.broker.connections])
        running = self.start("discard WB --all")
        self.advance(2 * BROKER_TIMEOUT + 10, 1.0)
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertIn("not answered for 30 s", self.err.getvalue())

    def test_a_lost_connection_loses_no_letter(self) -> None:
        self.send(*range(4 * BATCH))
        self.worker.works = True
        self.ran()
        self.amid(lambda: [each.transport.abortConnection() for each in self.broker.connections])
        self.refused("requeue WB --all", 10.0)
        self.run_command("requeue WB --all", 10.0)
        self.assertEqual(sorted(self.ran()), list(range(4 * BATCH)))

    def test_an_interrupted_command_completes_the_current_letter(self) -> None:
        self.send(*range(10 * BATCH))
        self.worker.works = True
        self.ran()
        command = self.command()
        self.amid(command.interrupt)
        running = self.start("requeue WB --all", command)
        self.advance(1)
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertEqual(self.err.getvalue(), "txmicro: interrupted\n")
        ran = len(self.ran())
        self.assertEqual(self.out.getvalue(), f"{ran} requeued\n")
        self.assertTrue(0 < ran < 10 * BATCH)
        self.assertEqual(len(self.listed("--limit 1000")), 10 * BATCH - ran)

    def test_interrupted_before_it_is_connected(self) -> None:
        command = self.command()
        self.assertIsNone(command.interrupt())
        running = self.start("list WB", command)
        self.assertIsNone(self.result(command.interrupt() or Deferred()))
        self.assertEqual(self.successResultOf(running), cli.NOT_DONE)
        self.assertIsNone(self.successResultOf(command.interrupt() or Deferred()))

    def test_an_unexpected_error_is_not_turned_into_a_status(self) -> None:
        self.patch(dead_commands, "open_dead_letter_queue", lambda *_: 1 / 0)
        command = self.command()
        running = self.start("list WB", command)
        self.advance(1)
        self.failureResultOf(running, ZeroDivisionError)
        self.successResultOf(command.interrupt() or Deferred())


def _dial_without_heartbeats(target: Target, clock: Any, _heartbeat: int, name: str) -> Any:
    return dial(target, clock, 0, name)


class CommandLineTests(SystemTestCase):
    def wrong(self, line: str, **environ: str) -> str:
        """Return the errors of a wrong command line or configuration."""
        err = StringIO()
        command = cli.Command(Clock(), environ, StringIO(), err)
        self.assertEqual(self.successResultOf(command.run(line.split())), cli.WRONG)
        return err.getvalue()

    def test_options_may_have_any_place(self) -> None:
        for line in (
            "--limit 3 -c f.json WB --json",
            "WB --limit=3 --json -c f.json",
            "--json WB -cf.json --limit 3",
        ):
            self.assertEqual(
                read(["dead", "list", *line.split()]),
                dead_commands.ListDead(kind="WB", limit=3, as_json=True, config="f.json"),
            )
        self.assertEqual(
            read(["dead", "list", "WB", "--config", ""]),
            dead_commands.ListDead(kind="WB", limit=dead_commands.PAGE, as_json=False, config=""),
        )
        self.assertEqual(
            read(["dead", "show", "WB", "--", "--odd"]), dead_commands.ShowDead(kind="WB", ids=("--odd",))
        )

    def test_a_wrong_command_line_is_explained(self) -> None:
        for line, complaint in (
            ("", "the command is missing; expected one of workers, top, .*, dead, .*, completion"),
            ("dead", "expected one of list, show, requeue, discard"),
            ("bury", "No such command 'bury'"),
            ("dead list", "TYPE is missing"),
            ("dead list W.B", "TYPE: "),
            ("dead list WB 1", r"unexpected extra argument \(1\)"),
            ("dead list WB --limit 0", "from 1 to 10000"),
            ("dead list WB --limit 10001", "from 1 to 10000"),
            ("dead list WB --limit 1²", "from 1 to 10000"),
            ("dead list WB --odd", "No such option.*--odd"),
            ("dead show WB", "ID is missing"),
            ("dead requeue WB", "give either the IDs"),
            ("dead requeue WB 1 --all", "give either the IDs"),
            ("dead discard WB", "give either the IDs"),
        ):
            self.assertRegex(self.wrong(line), f"^txmicro: .*{complaint}.*; txmicro --help")

    def test_a_wrong_configuration(self) -> None:
        self.assertIn("'no.json': cannot be read", self.wrong("dead list WB --config no.json"))
        self.assertIn("TXMICRO_ODD: unknown key", self.wrong("dead list WB", TXMICRO_ODD="1"))
        said = self.wrong("dead list WB", TXMICRO_BROKER_URL="amqp://me:sec%ret@h")
        self.assertIn("broker_url", said)
        self.assertNotIn("ret", said)

    def test_help_and_version_are_no_errors(self) -> None:
        for line in ("--help", "--version", "dead --help", "dead list --help", "dead list --version"):
            out = StringIO()
            self.patch(sys, "stdout", out)
            left = self.assertRaises(SystemExit, read, line.split())
            self.assertIn(left.code, (None, 0))
            self.assertIn("txmicro", out.getvalue())
