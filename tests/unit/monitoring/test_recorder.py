"""The recorder: which records a report contains."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import JobCancelled, JobError, JobTimeout, NoWorkerAvailable
from txmicro.monitoring.recorder import RECORDS, Recorder, is_sampled, limit_of
from txmicro.monitoring.records import Record
from txmicro.monitoring.report import Report
from txmicro.protocol.job import Job

NOW = 1795449600.0
SENT = 1795449598.5
ME = "WB:1795449588399-3fa9"
SENDER = "WA:1795449588399-0001"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def job(id: str = "00ff-1", **fields: Any) -> Job:
    made = Job(id, None, ["WB:*"], 0, SENDER, SENDER, 0.0, traceparent=TRACE, **fields)
    made.sent = round(SENT * 1000)
    return made


def of_share(share: float, sampled: bool) -> str:
    """Return the id of a job that is sampled, or is not."""
    ids = (f"00ff-{number:x}" for number in range(10_000))
    return next(id for id in ids if is_sampled(id, limit_of(share)) is sampled)


class RecorderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.recorder = Recorder(ME, lambda: NOW)
        self.recorder.sample(1.0, 10)

    def report(self) -> Report:
        report = Report(ME, "WB", "3fa9")
        self.recorder.complete(report)
        return report


class EventTests(RecorderCase):
    def test_a_hop_is_sent(self) -> None:
        self.recorder.sent(job(durable=True))
        report = self.report()
        self.assertEqual(
            report.records, [Record("sent", SENT, "00ff-1", 0, "WB:*", ME, "durable", 1, trace=TRACE)]
        )
        self.assertEqual(report.sent, {"WB": 1})

    def test_a_handler_ends(self) -> None:
        self.recorder.ran(job(tries=2), "succeeded", None, 0.5, 1.0)
        report = self.report()
        expected = Record(
            "ran", NOW, "00ff-1", 0, "WB:*", ME, "interactive", 3, 1.0, 0.5, "succeeded", trace=TRACE
        )
        self.assertEqual(report.records, [expected])
        self.assertEqual((report.ran, report.failed), (1, {}))
        self.assertEqual(report.youngest, {"interactive": SENT})

    def test_a_handler_fails(self) -> None:
        self.recorder.ran(job(), "failed", ValueError("amqp://me:secret@host/ is\nbad"), 0.5, None)
        report = self.report()
        (record,) = report.records
        self.assertEqual((record.outcome, record.error, record.wait), ("failed", "ValueError", None))
        self.assertEqual(record.message, "amqp://me:***@host/ is\nbad")
        self.assertEqual(report.failed, {"WA": 1})

    def test_a_clock_that_is_behind_makes_no_wait_below_0(self) -> None:
        self.recorder.ran(job(), "succeeded", None, 0.5, -3.0)
        self.assertEqual(self.report().records[0].wait, 0.0)

    def test_a_duration_is_never_below_0(self) -> None:
        self.recorder.ran(job(), "succeeded", None, -1e-15, None)
        self.recorder.ended("00ff-1", "WC:*", durable=False, seconds=-1e-15, error=None)
        self.assertEqual([each.seconds for each in self.report().records], [0.0, 0.0])

    def test_a_job_for_one_worker_tells_nothing_of_the_shared_queue(self) -> None:
        direct = Job("00ff-1", None, [ME], 0, SENDER, SENDER, 0.0)
        direct.sent = round(SENT * 1000)
        self.recorder.ran(direct, "succeeded", None, 0.5, None)
        self.assertEqual(self.report().youngest, {})

    def test_a_job_ends_at_its_sender(self) -> None:
        self.recorder.ended("00ff-1", "WC:*", durable=False, seconds=2.0, error=None)
        report = self.report()
        expected = Record("ended", NOW, "00ff-1", 0, "WC:*", ME, "interactive", 0, None, 2.0, "succeeded")
        self.assertEqual(report.records, [expected])
        self.assertEqual(report.lost, {})

    def test_a_job_that_nobody_ran_is_lost(self) -> None:
        self.recorder.ended("00ff-1", "WC:*", durable=True, seconds=2.0, error=NoWorkerAvailable("none"))
        self.recorder.ended("00ff-2", "WC:*", durable=True, seconds=2.0, error=JobError("bad", worker="WC:1"))
        self.recorder.ended("00ff-3", "WC:*", durable=True, seconds=2.0, error=JobCancelled("canceled"))
        late = JobTimeout("late")
        late.still_queued = True
        self.recorder.ended("00ff-4", "WC:*", durable=True, seconds=2.0, error=late)
        report = self.report()
        self.assertEqual(report.lost, {"WC": 1})
        self.assertEqual(
            [each.outcome for each in report.records], ["failed", "failed", "canceled", "failed"]
        )
        self.assertEqual(report.records[0].error, "NoWorkerAvailable")

    def test_a_hop_is_sent_again(self) -> None:
        self.recorder.resent(
            "00ff-1/2", "WC:*", durable=False, copies=3, traceparent=TRACE, reason="no worker has it"
        )
        expected = Record(
            "resent", NOW, "00ff-1", 2, "WC:*", ME, "interactive", 3, trace=TRACE, text="no worker has it"
        )
        self.assertEqual(self.report().records, [expected])

    def test_a_hop_becomes_a_dead_letter(self) -> None:
        self.recorder.dead("00ff-1/2", "WB:*", attempt=5, reason="exhausted", error=JobError("bad"))
        (record,) = self.report().records
        self.assertEqual((record.kind, record.hop, record.attempt), ("dead", 2, 5))
        self.assertEqual((record.error, record.message, record.text), ("JobError", "bad", "exhausted"))

    def test_a_dead_letter_that_is_no_job_is_not_recorded(self) -> None:
        for key in ("", "unknown", "a b/1", "00ff-1/x", "00ff-1/-1", "x" * 200 + "/1"):
            self.recorder.dead(key, "WB:*", attempt=1, reason="unreadable", error=None)
        self.assertEqual(self.report().records, [])

    def test_a_report_contains_what_happened_since_the_last_one(self) -> None:
        self.recorder.ran(job(), "failed", ValueError(), 0.5, None)
        self.recorder.sent(job())
        self.recorder.ended("00ff-1", "WC:*", durable=True, seconds=2.0, error=NoWorkerAvailable("none"))
        self.report()
        self.assertEqual(self.report(), Report(ME, "WB", "3fa9"))


class SamplingTests(RecorderCase):
    def test_all_parts_of_a_job_are_recorded_or_none(self) -> None:
        self.recorder.sample(0.5, 0)
        for sampled in (True, False):
            id = of_share(0.5, sampled)
            self.recorder.sent(job(id))
            self.recorder.ran(job(id), "succeeded", None, 0.5, None)
            self.recorder.resent(f"{id}/0", "WB:*", durable=False, copies=2, traceparent=None, reason="")
            self.recorder.ended(id, "WB:*", durable=False, seconds=1.0, error=None)
            self.assertEqual(len(self.report().records), 4 if sampled else 0)

    def test_a_share_of_the_jobs_is_sampled(self) -> None:
        for share in (0.0, 0.1, 0.5, 1.0):
            ids = [f"{number:016x}-1" for number in range(10_000)]
            sampled = sum(is_sampled(id, limit_of(share)) for id in ids) / len(ids)
            self.assertAlmostEqual(sampled, share, places=1)

    def test_the_numbers_count_every_job(self) -> None:
        self.recorder.sample(0.0, 0)
        self.recorder.sent(job())
        self.recorder.ran(job(), "failed", ValueError(), 0.5, None)
        report = self.report()
        self.assertEqual((report.sent, report.ran, report.failed), ({"WB": 1}, 1, {"WA": 1}))
        self.assertEqual((report.records, report.left_out), ([], 1))

    def test_failures_are_always_recorded_up_to_a_limit(self) -> None:
        self.recorder.sample(0.0, 2)
        for outcome in ("failed", "succeeded", "dead", "retried"):
            self.recorder.ran(job(), outcome, None, 0.5, None)
        report = self.report()
        self.assertEqual([each.outcome for each in report.records], ["failed", "dead"])
        self.assertEqual(report.left_out, 1)
        self.recorder.dead("00ff-1/0", "WB:*", attempt=1, reason="exhausted", error=None)
        self.assertEqual(len(self.report().records), 1)

    def test_of_a_failed_job_the_sender_also_records_when_it_was_sent(self) -> None:
        self.recorder.sample(0.0, 10)
        self.recorder.ended("00ff-1", "WC:*", durable=False, seconds=2.0, error=JobError("bad"))
        sent, ended = self.report().records
        self.assertEqual((sent.kind, sent.time, sent.address), ("sent", NOW - 2.0, "WC:*"))
        self.assertEqual(ended.kind, "ended")

    def test_a_report_is_bounded(self) -> None:
        self.recorder.sample(1.0, 0)
        for _ in range(RECORDS + 5):
            self.recorder.sent(job())
        report = self.report()
        self.assertEqual((len(report.records), report.left_out), (RECORDS, 5))
