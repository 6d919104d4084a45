"""Tests of the fault suite's own logic: its evaluation of jobs, its proxy, its report."""

from __future__ import annotations

import io
import json
import os
import random
import re
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.faults import mechanisms, rows
from tests.faults.__main__ import acceptable
from tests.faults.mutations import InvalidMessages, bytes_mutated, frames
from tests.faults.page import HEAD, main, page
from tests.faults.proxy import Proxy
from tests.faults.records import Attempt, Evaluation, ExecutionLog, SentJob, SentJobs, evaluate
from tests.faults.report import Result, percentile, table, write
from tests.faults.row import ROWS
from tests.support.documents import ROOT
from tests.support.rabbitmq import HOST, REQUIRED, reactor
from txmicro.amqp.frames import HEARTBEAT, PROTOCOL_HEADER
from txmicro.errors import JobError, JobTimeout
from txmicro.protocol.job import Job
from txmicro.sending.future import JobFuture, JobPromise


def entry(token: str = "t", **about: Any) -> SentJob:
    """Return a job that has ended well, with the attributes in *about* changed."""
    about = {"durable": False, "hops": 1, "sent": 1.0, "ended": 2.0} | about
    return SentJob(token, **about)


class EvaluateTests(SynchronousTestCase):
    def evaluate(self, *entries: SentJob, attempts: Any = (), effects: Any = (("t", 0),)) -> Evaluation:
        return evaluate(entries, attempts, effects)

    def test_a_job_that_was_done_once_has_no_problem(self) -> None:
        evaluation = self.evaluate(entry(), attempts=[("t", 0)])
        self.assertEqual(evaluation, Evaluation(jobs=1))

    def test_a_job_with_a_result_and_no_effect_is_lost(self) -> None:
        self.assertEqual(self.evaluate(entry(), effects=()).lost, 1)

    def test_a_job_with_a_hop_without_effect_is_lost(self) -> None:
        self.assertEqual(self.evaluate(entry(hops=2)).lost, 1)

    def test_a_job_that_does_not_end_is_lost_and_a_problem(self) -> None:
        evaluation = self.evaluate(entry(ended=None))
        self.assertEqual(evaluation.lost, 1)
        self.assertIn("did not end", evaluation.problems[0])

    def test_a_job_that_fails_at_its_sender_is_not_lost(self) -> None:
        evaluation = self.evaluate(entry(error=JobTimeout("late")), effects=())
        self.assertEqual((evaluation.lost, evaluation.failed), (0, 1))

    def test_a_stored_job_that_was_not_done_is_lost_even_if_it_fails_at_its_sender(self) -> None:
        evaluation = self.evaluate(entry(durable=True, stored=True, error=JobTimeout("late")), effects=())
        self.assertEqual((evaluation.lost, evaluation.failed), (1, 0))

    def test_a_durable_job_that_was_not_stored_has_failed(self) -> None:
        evaluation = self.evaluate(entry(durable=True, error=JobTimeout("late")), effects=())
        self.assertEqual((evaluation.lost, evaluation.failed), (0, 1))

    def test_a_durable_job_that_is_done_after_its_timeout_is_unreported(self) -> None:
        evaluation = self.evaluate(entry(durable=True, stored=True, error=JobTimeout("late")))
        self.assertEqual((evaluation.lost, evaluation.failed, evaluation.unreported), (0, 0, 1))

    def test_a_job_in_a_deleted_queue_is_lost_only_if_its_sender_is_not_told(self) -> None:
        deleted = entry(durable=True, stored=True, deleted=True, error=JobTimeout("late"))
        evaluation = self.evaluate(deleted, effects=())
        self.assertEqual((evaluation.lost, evaluation.failed, evaluation.deleted), (0, 0, 1))
        self.assertEqual(self.evaluate(deleted).deleted, 0)
        self.assertEqual(self.evaluate(entry(durable=True, deleted=True, ended=None), effects=()).lost, 1)

    def test_a_job_that_kills_its_worker_needs_no_effect(self) -> None:
        kills_worker = entry(durable=True, stored=True, kills_worker=True, error=JobTimeout("late"))
        evaluation = self.evaluate(kills_worker, attempts=[("t", 0)] * 5, effects=())
        self.assertEqual(evaluation, Evaluation(jobs=1))

    def test_deliveries_and_effects_beyond_the_first_are_counted_by_hop(self) -> None:
        attempts, effects = [("t", 0)] * 3 + [("t", 1)], [("t", 0), ("t", 0), ("t", 1)]
        evaluation = self.evaluate(entry(hops=2), attempts=attempts, effects=effects)
        self.assertEqual((evaluation.duplicate_deliveries, evaluation.duplicate_effects), (2, 1))

    def test_a_job_that_was_never_sent_is_a_problem(self) -> None:
        self.assertIn("never sent", self.evaluate(entry(), effects=[("t", 0), ("u", 0)]).problems[0])

    def test_a_wrong_answer_is_a_problem(self) -> None:
        self.assertIn("wrong answer", self.evaluate(entry(wrong=True)).problems[0])


class SentJobsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sent_jobs = SentJobs()
        future = JobFuture("j", "WB:*", lambda: None, lambda error, job: None)
        self.promise = JobPromise(future, self, 0.0)
        self.entry = entry(ended=None, durable=True)
        self.sent_jobs.enter(self.entry, future)

    def trip_ended(self, job: JobFuture, began: float, error: JobError | None) -> None:
        pass

    def test_a_job_under_way_is_open(self) -> None:
        self.assertEqual((self.sent_jobs.open, self.entry.ended, self.entry.stored), (1, None, False))

    def test_a_stored_job_is_recorded_as_stored(self) -> None:
        self.promise.stored()
        self.assertTrue(self.entry.stored)

    def test_the_right_answer(self) -> None:
        self.promise.succeeded("WB:1", "t")
        self.assertFalse(self.entry.wrong)
        self.assertIsNotNone(self.entry.ended)
        self.assertEqual(self.sent_jobs.open, 0)

    def test_another_answer(self) -> None:
        self.promise.succeeded("WB:1", "u")
        self.assertTrue(self.entry.wrong)

    def test_a_typed_failure(self) -> None:
        self.promise.failed(JobTimeout("late"))
        self.assertIsInstance(self.entry.error, JobTimeout)
        self.assertFalse(self.entry.wrong)
        self.assertEqual(self.sent_jobs.open, 0)


class ExecutionLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.executions = ExecutionLog(self.path)
        self.addCleanup(self.executions.close)

    def job(self, id: str = "j", hop: int = 0) -> Job:
        return Job(id, {"token": "t"}, ["WB:*", "WC:*"], hop, "WA:1", "WA:1", 0.0)

    def test_it_keeps_attempts_in_the_order_of_their_times(self) -> None:
        for worker, at in (("WB:2", 2.0), ("WB:1", 1.0)):
            self.executions.attempt(self.job(), worker, at)
        attempts = [Attempt("t", 0, "WB:1", 1.0), Attempt("t", 0, "WB:2", 2.0)]
        self.assertEqual(self.executions.attempts(), attempts)

    def test_the_same_hop_twice_is_one_effect(self) -> None:
        for hop in (0, 0, 1):
            self.executions.effect(self.job(hop=hop))
        self.assertEqual(self.executions.effects(), [("t", 0), ("t", 1)])

    def test_a_job_under_two_keys_has_two_effects(self) -> None:
        for id in ("j", "k"):
            self.executions.effect(self.job(id))
        self.assertEqual(self.executions.effects(), [("t", 0), ("t", 0)])

    def test_it_counts_hops_that_a_worker_started_twice(self) -> None:
        for worker in ("WB:1", "WB:2"):
            self.executions.attempt(self.job(), worker, 1.0)
        self.assertEqual(self.executions.repeated(), 0)
        self.executions.attempt(self.job(), "WB:1", 2.0)
        self.assertEqual(self.executions.repeated(), 1)

    def test_processes_share_it(self) -> None:
        other = ExecutionLog(self.path)
        self.addCleanup(other.close)
        other.sends("a", 1.0)
        other.sends("b", 2.0)
        other.ends("b", 3.0, "late")
        going, ended = self.executions.sent()
        self.assertEqual((going.token, going.ended, going.error), ("a", None, None))
        self.assertEqual((ended.token, ended.ended), ("b", 3.0))
        self.assertIsInstance(ended.error, JobError)


class ReportTests(SynchronousTestCase):
    def test_a_percentile_is_one_of_the_values(self) -> None:
        values = [float(n) for n in range(1, 101)]
        self.assertEqual([percentile(values, share) for share in (0.5, 0.99, 1.0)], [50, 99, 100])
        self.assertEqual(percentile([7.0], 0.5), 7)

    def test_a_result_passes_when_there_is_no_problem(self) -> None:
        result = Result(1, "kill", False, recovery=[0.5, 1.0])
        self.assertTrue(result.passed)
        self.assertEqual(result.summary(), {"p50": 0.5, "p99": 1.0, "max": 1.0})
        result.problems.append("lost")
        self.assertFalse(result.passed)

    def test_the_written_results_have_the_keys_that_others_read(self) -> None:
        path = Path(self.mktemp()) / "results.json"
        write([Result(1, "kill", False, Evaluation(jobs=3))], path)
        (written,) = json.loads(path.read_text())
        expected = {"fault": "kill", "jobs": 3, "lost": 0, "failed": 0, "duplicate_deliveries": 0}
        expected |= {"duplicate_effects": 0, "passed": True}
        self.assertEqual({name: written[name] for name in expected}, expected)

    def test_the_columns_of_the_table_are_as_wide_as_their_cells(self) -> None:
        text = table(
            [Result(1, "kill", False, problems=["lost"]), Result(12, "stop all", True, recovery=[1.0])]
        )
        rule, head, *_ = lines = text.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("fault", head)
        self.assertEqual(lines[2], rule)
        self.assertTrue(lines[3].endswith("NO"))
        self.assertIn("1.00 / 1.00 / 1.00", lines[4])

    def test_the_page_contains_the_run_and_its_results(self) -> None:
        results = [
            Result(
                1, "kill", False, Evaluation(jobs=1234), promise="They run.", broker="RabbitMQ 4", seconds=90
            ),
            Result(2, "stop", False, problems=["lost"], promise="They go on.", seconds=90),
        ]
        text = page([result.as_dict() for result in results], date(2026, 11, 3))
        self.assertIn("3 November 2026: a full run of 3 minutes, with RabbitMQ 4", text)
        self.assertIn("1 of 2 rows passed", text)
        self.assertIn("     - They run.\n     - 1,234\n", text)
        self.assertIn("     - **Not passed.** They go on.\n", text)

    def test_every_line_of_the_page_has_as_many_cells_as_the_heading(self) -> None:
        lines = page([Result(1, "kill", False).as_dict()], date(2026, 11, 3)).splitlines()
        head, row = (number for number, line in enumerate(lines) if line.startswith("   * - "))
        self.assertEqual(row - head, len(lines) - row)
        self.assertEqual(len(HEAD[2].split()) - 1, row - head)

    def test_the_last_run_of_a_row_counts(self) -> None:
        paths = [Path(self.mktemp()) for _ in range(2)]
        write([Result(1, "kill", False, problems=["lost"]), Result(2, "stop", False)], paths[0])
        again = {"kills": 2000, "each": [1, 2], "the first time": ["it took 5 s"]}
        write([Result(1, "kill", False, measured=again)], paths[1])
        said = io.StringIO()
        with redirect_stdout(said):
            main([str(path) for path in paths])
        self.assertIn("2 of 2 rows passed", said.getvalue())
        self.assertIn("- row 1: kills: 2,000; each: 1, 2; the first time: it took 5 s\n", said.getvalue())

    def test_a_row_that_cannot_be_run_has_not_passed_and_fails_where_it_must_be_run(self) -> None:
        result = Result(5, "part", False, unavailable="no nft")
        self.assertFalse(result.passed)
        self.patch(os, "environ", {})
        self.assertTrue(acceptable(result))
        os.environ[REQUIRED] = "1"
        self.assertFalse(acceptable(result))

    def test_a_row_with_a_problem_is_never_acceptable(self) -> None:
        self.patch(os, "environ", {})
        self.assertFalse(acceptable(Result(5, "part", False, problems=["lost"])))
        self.assertTrue(acceptable(Result(5, "part", False)))

    def test_only_a_late_row_without_losses_may_be_run_again(self) -> None:
        late = Result(2, "kill", True, problems=["it took 20 s"])
        self.assertTrue(late.only_late)
        self.assertFalse(Result(2, "kill", True).only_late)
        for evaluation in (Evaluation(lost=1), Evaluation(failed=1), Evaluation(duplicate_effects=1)):
            self.assertFalse(Result(2, "kill", True, evaluation, problems=["it took 20 s"]).only_late)


class DocumentationTests(SynchronousTestCase):
    text = (ROOT / "docs/explanation/reliability.rst").read_text("utf-8")

    def test_every_test_that_it_names_exists(self) -> None:
        named = re.findall(r"``(tests(?:\.\w+){3,})``", self.text)
        self.assertGreater(len(named), len(ROWS))
        for name in named:
            self.assertTrue(callable(namedAny(name)), name)

    def test_every_row_and_mechanism_is_documented(self) -> None:
        rows.load()
        for number in ROWS:
            self.assertIn(f"\n{number}. ", self.text)
        disabled = re.findall(r"^     - ``([a-z]+)``$", self.text, re.MULTILINE)
        self.assertEqual(set(disabled), mechanisms.MECHANISMS.keys())


class MechanismTests(SynchronousTestCase):
    """Tests that each mechanism exists under the name that is disabled. Otherwise it would stay enabled."""

    def test_every_disabled_mechanism_exists(self) -> None:
        for name in mechanisms.MECHANISMS:
            self.patch(os, "environ", {mechanisms.WITHOUT: name})
            replaced: list[tuple[type, str]] = []
            mechanisms.disable(lambda owner, what, by: replaced.append((owner, what)))  # noqa: B023
            self.assertTrue(replaced)
            for owner, what in replaced:
                self.assertIn(what, vars(owner))

    def test_nothing_is_disabled_by_default(self) -> None:
        self.patch(os, "environ", {})
        mechanisms.disable(lambda owner, what, by: self.fail(what))


class MutationTests(SynchronousTestCase):
    def test_a_stream_is_split_into_its_frames(self) -> None:
        stream = PROTOCOL_HEADER + HEARTBEAT * 3
        self.assertEqual(list(frames(stream)), [PROTOCOL_HEADER + HEARTBEAT, HEARTBEAT, HEARTBEAT])

    def test_mutated_bytes_differ(self) -> None:
        chance = random.Random(1)
        for data in (b"", b"a" * 100):
            self.assertNotIn(data, [bytes_mutated(chance, data) for _ in range(1000)])

    def test_the_same_seed_gives_the_same_messages(self) -> None:
        one, other = (InvalidMessages(7, "WB:1", "SystemManager:1") for _ in range(2))
        self.assertEqual([one.next() for _ in range(500)], [other.next() for _ in range(500)])


class End(Protocol):
    """One end of a connection: it stores the received bytes, and whether the connection is closed."""

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed = True


class ProxyTests(TestCase):
    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        self.far: list[End] = []
        listening = reactor.listenTCP(0, Factory.forProtocol(self.accept), interface=HOST)
        self.addCleanup(listening.stopListening)
        self.proxy = Proxy(listening.getHost().port)
        self.addCleanup(self.end)

    def accept(self) -> End:
        self.far.append(End())
        return self.far[-1]

    async def end(self) -> None:
        self.proxy.thaw()
        await self.proxy.close()
        await self.until(lambda: all(end.closed for end in self.far))

    async def connect(self) -> Any:
        near = await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.proxy.port), End())
        self.addCleanup(self.until_closed, near)
        return near

    async def until_closed(self, near: Any) -> None:
        near.transport.abortConnection()
        await self.until(lambda: near.closed)

    async def until(self, holds: Any) -> None:
        while not holds():
            await deferLater(reactor, 0.001)

    async def connected(self) -> tuple[Any, Any]:
        near = await self.connect()
        near.transport.write(b"hello")
        await self.until(lambda: self.far and self.far[-1].heard == b"hello")
        return near, self.far[-1]

    async def test_bytes_are_forwarded_in_both_directions(self) -> None:
        near, far = await self.connected()
        far.transport.write(b"welcome")
        await self.until(lambda: near.heard == b"welcome")

    async def test_a_frozen_proxy_forwards_neither_bytes_nor_a_close(self) -> None:
        near, far = await self.connected()
        self.proxy.freeze()
        near.transport.write(b", again")
        near.transport.loseConnection()
        await self.until(lambda: near.closed and self.proxy.lost)
        self.assertEqual((far.heard, far.closed), (b"hello", False))
        self.proxy.thaw()
        await self.until(lambda: far.closed)

    async def test_a_proxy_that_is_no_longer_frozen_forwards_the_bytes(self) -> None:
        near, far = await self.connected()
        self.proxy.freeze()
        near.transport.write(b", again")
        await deferLater(reactor, 0)
        self.proxy.thaw()
        await self.until(lambda: far.heard == b"hello, again")

    async def test_tear_after_closes_a_connection_within_the_bytes(self) -> None:
        near, far = await self.connected()
        self.proxy.tear_after = 8
        near.transport.write(b", again")
        await self.until(lambda: far.closed and near.closed)
        self.assertEqual(far.heard, b"hello, a")

    async def test_delayed_bytes_arrive_in_order(self) -> None:
        near, far = await self.connected()
        self.proxy.delay = 0.01
        for piece in (b",", b" again"):
            near.transport.write(piece)
        await self.until(lambda: far.heard == b"hello, again")

    async def test_a_reset_closes_both_ends(self) -> None:
        near, far = await self.connected()
        self.proxy.reset()
        await self.until(lambda: near.closed and far.closed)

    async def test_a_refused_connection_is_closed_at_once(self) -> None:
        self.proxy.refuse = True
        near = await self.connect()
        await self.until(lambda: near.closed)
        self.assertEqual(self.far, [])
