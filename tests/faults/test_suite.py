"""The fault suite's own logic: what its ledger calls lost, what its proxy does to bytes, what its table says."""

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

from tests.faults import rows, sabotage
from tests.faults.__main__ import acceptable
from tests.faults.ledger import Attempt, Book, Entry, Ledger, Verdict, judge
from tests.faults.mutations import Letters, bytes_mutated, frames
from tests.faults.page import HEAD, main, page
from tests.faults.proxy import Proxy
from tests.faults.report import Result, percentile, table, write
from tests.faults.row import ROWS
from tests.support.documents import ROOT
from tests.support.rabbitmq import HOST, REQUIRED, reactor
from txmicro.amqp.frames import HEARTBEAT, PROTOCOL_HEADER
from txmicro.errors import JobError, JobTimeout
from txmicro.protocol.job import Job
from txmicro.sending.future import JobFuture, JobPromise


def entry(token: str = "t", **about: Any) -> Entry:
    """A job that has ended well, unless *about* says otherwise."""
    about = {"durable": False, "hops": 1, "sent": 1.0, "ended": 2.0} | about
    return Entry(token, **about)


class JudgeTests(SynchronousTestCase):
    def judge(self, *entries: Entry, attempts: Any = (), effects: Any = (("t", 0),)) -> Verdict:
        return judge(entries, attempts, effects)

    def test_a_job_that_was_done_once_is_well(self) -> None:
        verdict = self.judge(entry(), attempts=[("t", 0)])
        self.assertEqual(verdict, Verdict(jobs=1))

    def test_a_job_that_is_done_says_its_sender_but_has_no_effect_is_lost(self) -> None:
        self.assertEqual(self.judge(entry(), effects=()).lost, 1)

    def test_a_hop_without_effect_loses_the_job(self) -> None:
        self.assertEqual(self.judge(entry(hops=2)).lost, 1)

    def test_a_send_that_does_not_end_is_lost_and_a_problem(self) -> None:
        verdict = self.judge(entry(ended=None))
        self.assertEqual(verdict.lost, 1)
        self.assertIn("did not end", verdict.problems[0])

    def test_a_failure_that_its_sender_was_told_is_no_loss(self) -> None:
        verdict = self.judge(entry(error=JobTimeout("late")), effects=())
        self.assertEqual((verdict.lost, verdict.failed), (0, 1))

    def test_a_stored_job_that_was_not_done_is_lost_whatever_its_sender_was_told(self) -> None:
        verdict = self.judge(entry(durable=True, stored=True, error=JobTimeout("late")), effects=())
        self.assertEqual((verdict.lost, verdict.failed), (1, 0))

    def test_a_durable_job_that_was_not_stored_has_failed(self) -> None:
        verdict = self.judge(entry(durable=True, error=JobTimeout("late")), effects=())
        self.assertEqual((verdict.lost, verdict.failed), (0, 1))

    def test_a_durable_job_that_is_done_after_its_sender_left_is_unheard(self) -> None:
        verdict = self.judge(entry(durable=True, stored=True, error=JobTimeout("late")))
        self.assertEqual((verdict.lost, verdict.failed, verdict.unheard), (0, 0, 1))

    def test_a_stored_job_that_was_in_a_deleted_queue_is_not_lost_but_one_without_a_word_is(self) -> None:
        gone = entry(durable=True, stored=True, deleted=True, error=JobTimeout("late"))
        verdict = self.judge(gone, effects=())
        self.assertEqual((verdict.lost, verdict.failed, verdict.deleted), (0, 0, 1))
        self.assertEqual(self.judge(gone).deleted, 0)
        self.assertEqual(self.judge(entry(durable=True, deleted=True, ended=None), effects=()).lost, 1)

    def test_a_doomed_job_has_no_effect_to_miss(self) -> None:
        doomed = entry(durable=True, stored=True, doomed=True, error=JobTimeout("late"))
        verdict = self.judge(doomed, attempts=[("t", 0)] * 5, effects=())
        self.assertEqual(verdict, Verdict(jobs=1))

    def test_deliveries_and_effects_beyond_the_first_are_counted_by_hop(self) -> None:
        attempts, effects = [("t", 0)] * 3 + [("t", 1)], [("t", 0), ("t", 0), ("t", 1)]
        verdict = self.judge(entry(hops=2), attempts=attempts, effects=effects)
        self.assertEqual((verdict.duplicate_deliveries, verdict.duplicate_effects), (2, 1))

    def test_what_nobody_sent_is_a_problem(self) -> None:
        self.assertIn("nobody sent", self.judge(entry(), effects=[("t", 0), ("u", 0)]).problems[0])

    def test_a_wrong_answer_is_a_problem(self) -> None:
        self.assertIn("wrong answer", self.judge(entry(wrong=True)).problems[0])


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()
        future = JobFuture("j", "WB:*", lambda: None, lambda error: None)
        self.promise = JobPromise(future)
        self.entry = entry(ended=None, durable=True)
        self.ledger.enter(self.entry, future)

    def test_a_job_under_way_is_open(self) -> None:
        self.assertEqual((self.ledger.open, self.entry.ended, self.entry.stored), (1, None, False))

    def test_a_stored_job_says_so(self) -> None:
        self.promise.stored()
        self.assertTrue(self.entry.stored)

    def test_the_right_answer(self) -> None:
        self.promise.succeeded("WB:1", "t")
        self.assertFalse(self.entry.wrong)
        self.assertIsNotNone(self.entry.ended)
        self.assertEqual(self.ledger.open, 0)

    def test_another_answer(self) -> None:
        self.promise.succeeded("WB:1", "u")
        self.assertTrue(self.entry.wrong)

    def test_a_typed_failure(self) -> None:
        self.promise.failed(JobTimeout("late"))
        self.assertIsInstance(self.entry.error, JobTimeout)
        self.assertFalse(self.entry.wrong)
        self.assertEqual(self.ledger.open, 0)


class BookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.book = Book(self.path)
        self.addCleanup(self.book.close)

    def job(self, id: str = "j", hop: int = 0) -> Job:
        return Job(id, {"token": "t"}, ["WB:*", "WC:*"], hop, "WA:1", "WA:1", 0.0)

    def test_it_keeps_attempts_in_the_order_of_their_times(self) -> None:
        for worker, at in (("WB:2", 2.0), ("WB:1", 1.0)):
            self.book.attempt(self.job(), worker, at)
        attempts = [Attempt("t", 0, "WB:1", 1.0), Attempt("t", 0, "WB:2", 2.0)]
        self.assertEqual(self.book.attempts(), attempts)

    def test_the_same_hop_twice_is_one_effect(self) -> None:
        for hop in (0, 0, 1):
            self.book.effect(self.job(hop=hop))
        self.assertEqual(self.book.effects(), [("t", 0), ("t", 1)])

    def test_a_job_under_two_keys_has_two_effects(self) -> None:
        for id in ("j", "k"):
            self.book.effect(self.job(id))
        self.assertEqual(self.book.effects(), [("t", 0), ("t", 0)])

    def test_it_counts_what_a_worker_ran_twice(self) -> None:
        for worker in ("WB:1", "WB:2"):
            self.book.attempt(self.job(), worker, 1.0)
        self.assertEqual(self.book.repeated(), 0)
        self.book.attempt(self.job(), "WB:1", 2.0)
        self.assertEqual(self.book.repeated(), 1)

    def test_processes_share_it(self) -> None:
        other = Book(self.path)
        self.addCleanup(other.close)
        other.sends("a", 1.0)
        other.sends("b", 2.0)
        other.ends("b", 3.0, "late")
        going, ended = self.book.sent()
        self.assertEqual((going.token, going.ended, going.error), ("a", None, None))
        self.assertEqual((ended.token, ended.ended), ("b", 3.0))
        self.assertIsInstance(ended.error, JobError)


class ReportTests(SynchronousTestCase):
    def test_percentiles_are_values_that_came(self) -> None:
        values = [float(n) for n in range(1, 101)]
        self.assertEqual([percentile(values, share) for share in (0.5, 0.99, 1.0)], [50, 99, 100])
        self.assertEqual(percentile([7.0], 0.5), 7)

    def test_a_result_passes_when_there_is_no_problem(self) -> None:
        result = Result(1, "kill", False, recovery=[0.5, 1.0])
        self.assertTrue(result.passed)
        self.assertEqual(result.summary(), {"p50": 0.5, "p99": 1.0, "max": 1.0})
        result.problems.append("lost")
        self.assertFalse(result.passed)

    def test_what_is_written_has_what_others_read(self) -> None:
        path = Path(self.mktemp()) / "results.json"
        write([Result(1, "kill", False, Verdict(jobs=3))], path)
        (written,) = json.loads(path.read_text())
        expected = {"fault": "kill", "jobs": 3, "lost": 0, "failed": 0, "duplicate_deliveries": 0}
        expected |= {"duplicate_effects": 0, "passed": True}
        self.assertEqual({name: written[name] for name in expected}, expected)

    def test_the_table_is_as_wide_as_its_cells(self) -> None:
        text = table(
            [Result(1, "kill", False, problems=["lost"]), Result(12, "stop all", True, recovery=[1.0])]
        )
        rule, head, *_ = lines = text.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn("fault", head)
        self.assertEqual(lines[2], rule)
        self.assertTrue(lines[3].endswith("NO"))
        self.assertIn("1.00 / 1.00 / 1.00", lines[4])

    def test_the_page_says_what_was_run_and_what_holds(self) -> None:
        results = [
            Result(
                1, "kill", False, Verdict(jobs=1234), promise="They run.", broker="RabbitMQ 4", seconds=90
            ),
            Result(2, "stop", False, problems=["lost"], promise="They go on.", seconds=90),
        ]
        text = page([result.as_dict() for result in results], date(2026, 11, 3))
        self.assertIn("3 November 2026: a full run of 3 minutes, with RabbitMQ 4", text)
        self.assertIn("1 of 2 rows passed", text)
        self.assertIn("     - They run.\n     - 1,234\n", text)
        self.assertIn("     - **Not passed.** They go on.\n", text)

    def test_every_line_of_the_page_has_as_many_cells_as_its_head(self) -> None:
        lines = page([Result(1, "kill", False).as_dict()], date(2026, 11, 3)).splitlines()
        head, row = (number for number, line in enumerate(lines) if line.startswith("   * - "))
        self.assertEqual(row - head, len(lines) - row)
        self.assertEqual(len(HEAD[2].split()) - 1, row - head)

    def test_of_several_runs_the_last_that_has_a_row_counts(self) -> None:
        paths = [Path(self.mktemp()) for _ in range(2)]
        write([Result(1, "kill", False, problems=["lost"]), Result(2, "stop", False)], paths[0])
        again = {"kills": 2000, "each": [1, 2], "the first time": ["it took 5 s"]}
        write([Result(1, "kill", False, measured=again)], paths[1])
        said = io.StringIO()
        with redirect_stdout(said):
            main([str(path) for path in paths])
        self.assertIn("2 of 2 rows passed", said.getvalue())
        self.assertIn("- row 1: kills: 2,000; each: 1, 2; the first time: it took 5 s\n", said.getvalue())

    def test_a_row_that_cannot_be_played_has_not_passed_and_fails_where_it_must_be_played(self) -> None:
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

    def test_only_what_was_late_and_lost_nothing_may_be_played_again(self) -> None:
        late = Result(2, "kill", True, problems=["it took 20 s"])
        self.assertTrue(late.only_late)
        self.assertFalse(Result(2, "kill", True).only_late)
        for verdict in (Verdict(lost=1), Verdict(failed=1), Verdict(duplicate_effects=1)):
            self.assertFalse(Result(2, "kill", True, verdict, problems=["it took 20 s"]).only_late)


class DocumentationTests(SynchronousTestCase):
    text = (ROOT / "docs/explanation/reliability.rst").read_text("utf-8")

    def test_every_test_that_it_names_exists(self) -> None:
        named = re.findall(r"``(tests(?:\.\w+){3,})``", self.text)
        self.assertGreater(len(named), len(ROWS))
        for name in named:
            self.assertTrue(callable(namedAny(name)), name)

    def test_every_row_and_mechanism_is_there(self) -> None:
        rows.load()
        for number in ROWS:
            self.assertIn(f"\n{number}. ", self.text)
        taken_out = re.findall(r"^     - ``([a-z]+)``$", self.text, re.MULTILINE)
        self.assertEqual(set(taken_out), sabotage.MECHANISMS.keys())


class SabotageTests(SynchronousTestCase):
    """Each mechanism is where the sabotage looks for it: what is taken out under a wrong name would stay in."""

    def test_only_what_is_there_is_replaced(self) -> None:
        for name in sabotage.MECHANISMS:
            self.patch(os, "environ", {sabotage.WITHOUT: name})
            replaced: list[tuple[type, str]] = []
            sabotage.take_out(lambda owner, what, by: replaced.append((owner, what)))  # noqa: B023
            self.assertTrue(replaced)
            for owner, what in replaced:
                self.assertIn(what, vars(owner))

    def test_nothing_is_replaced_otherwise(self) -> None:
        self.patch(os, "environ", {})
        sabotage.take_out(lambda owner, what, by: self.fail(what))


class MutationTests(SynchronousTestCase):
    def test_a_stream_falls_into_its_frames(self) -> None:
        stream = PROTOCOL_HEADER + HEARTBEAT * 3
        self.assertEqual(list(frames(stream)), [PROTOCOL_HEADER + HEARTBEAT, HEARTBEAT, HEARTBEAT])

    def test_bytes_differ(self) -> None:
        chance = random.Random(1)
        for data in (b"", b"a" * 100):
            self.assertNotIn(data, [bytes_mutated(chance, data) for _ in range(1000)])

    def test_a_seed_gives_the_same_letters_again(self) -> None:
        one, other = (Letters(7, "WB:1", "SystemManager:1") for _ in range(2))
        self.assertEqual([one.next() for _ in range(500)], [other.next() for _ in range(500)])


class End(Protocol):
    """One end of a connection: what it heard, and whether it is gone."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True


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
        await self.until(lambda: all(end.gone for end in self.far))

    async def connect(self) -> Any:
        near = await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.proxy.port), End())
        self.addCleanup(self.until_gone, near)
        return near

    async def until_gone(self, near: Any) -> None:
        near.transport.abortConnection()
        await self.until(lambda: near.gone)

    async def until(self, holds: Any) -> None:
        while not holds():
            await deferLater(reactor, 0.001)

    async def connected(self) -> tuple[Any, Any]:
        near = await self.connect()
        near.transport.write(b"hello")
        await self.until(lambda: self.far and self.far[-1].heard == b"hello")
        return near, self.far[-1]

    async def test_bytes_go_both_ways(self) -> None:
        near, far = await self.connected()
        far.transport.write(b"welcome")
        await self.until(lambda: near.heard == b"welcome")

    async def test_frozen_bytes_wait_and_nobody_hears_of_an_end(self) -> None:
        near, far = await self.connected()
        self.proxy.freeze()
        near.transport.write(b", again")
        near.transport.loseConnection()
        await self.until(lambda: near.gone and self.proxy.lost)
        self.assertEqual((far.heard, far.gone), (b"hello", False))
        self.proxy.thaw()
        await self.until(lambda: far.gone)

    async def test_thawed_bytes_arrive(self) -> None:
        near, far = await self.connected()
        self.proxy.freeze()
        near.transport.write(b", again")
        await deferLater(reactor, 0)
        self.proxy.thaw()
        await self.until(lambda: far.heard == b"hello, again")

    async def test_a_torn_connection_ends_amid_the_bytes(self) -> None:
        near, far = await self.connected()
        self.proxy.tear_after = 8
        near.transport.write(b", again")
        await self.until(lambda: far.gone and near.gone)
        self.assertEqual(far.heard, b"hello, a")

    async def test_delayed_bytes_arrive_in_order(self) -> None:
        near, far = await self.connected()
        self.proxy.delay = 0.01
        for piece in (b",", b" again"):
            near.transport.write(piece)
        await self.until(lambda: far.heard == b"hello, again")

    async def test_reset_connections_are_gone_at_both_ends(self) -> None:
        near, far = await self.connected()
        self.proxy.reset()
        await self.until(lambda: near.gone and far.gone)

    async def test_who_is_refused_is_gone_at_once(self) -> None:
        self.proxy.refuse = True
        near = await self.connect()
        await self.until(lambda: near.gone)
        self.assertEqual(self.far, [])
