from __future__ import annotations

from itertools import permutations
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring import records
from txmicro.monitoring.records import Record
from txmicro.page.memory.life import (
    FIRST_STEPS,
    MAX_STEPS,
    Failing,
    Summary,
    arrange,
    decode,
    encode,
    summarize,
)
from txmicro.protocol import outcomes

JOB = "0123456789abcdef-1a"
SENDER, WORKER, OTHER = "REST:1-a", "Invoices:1-b", "Mails:1-c"


def record(kind: str, time: float, **fields: Any) -> Record:
    where: dict[str, Any] = {
        "address": "Invoices:*",
        "worker": SENDER if kind in (records.SENT, records.ENDED) else WORKER,
    }
    return Record(kind, time, JOB, **{**where, **fields})


def failed(time: float, **fields: Any) -> Record:
    how = {"outcome": outcomes.FAILED, "error": "OutOfStock", "message": "no article 7", **fields}
    return record(records.RAN, time, **how)


SENT = record(records.SENT, 10.0, lane="interactive", attempt=1, trace="00-1-2-01")
RAN = record(records.RAN, 11.0, attempt=1, wait=0.25, seconds=0.5, outcome=outcomes.SUCCEEDED)
ENDED = record(records.ENDED, 11.5, seconds=1.5, outcome=outcomes.SUCCEEDED)
DEAD = record(records.DEAD, 20.0, lane="durable", text="attempts")


class ArrangeTests(SynchronousTestCase):
    def test_any_order_of_arrival_gives_the_same_life(self) -> None:
        steps = [SENT, RAN, ENDED, record(records.LOG, 10.9, text="counting")]
        expected = [SENT, steps[3], RAN, ENDED]
        for order in permutations(steps):
            self.assertEqual(arrange(order), expected)

    def test_a_record_that_comes_twice_is_one_step(self) -> None:
        self.assertEqual(arrange([SENT, RAN, SENT, RAN]), [SENT, RAN])

    def test_a_hop_is_sent_before_it_runs_although_the_clocks_differ(self) -> None:
        early = RAN._replace(time=9.0)
        self.assertEqual(arrange([early, SENT]), [SENT, early])

    def test_a_hop_follows_the_one_before_although_the_clocks_differ(self) -> None:
        first = RAN._replace(outcome=outcomes.FORWARDED, time=30.0)
        second = [each._replace(hop=1, address="Mails:*", worker=OTHER) for each in (SENT, RAN)]
        self.assertEqual(arrange([*second, first, SENT]), [SENT, first, *second])

    def test_a_job_that_succeeds_ends_last_although_the_clocks_differ(self) -> None:
        last = RAN._replace(hop=1, time=99.0)
        self.assertEqual(arrange([ENDED, last, SENT]), [SENT, last, ENDED])

    def test_a_job_whose_sender_gives_up_ends_before_the_worker_does(self) -> None:
        ended = ENDED._replace(time=10.5, outcome=outcomes.FAILED, error="JobTimeout")
        self.assertEqual(arrange([RAN, ended, SENT]), [SENT, ended, RAN])

    def test_of_equal_times_the_kind_decides(self) -> None:
        died = failed(20.0, outcome=outcomes.DEAD)
        ended = ENDED._replace(time=20.0, outcome=outcomes.FAILED)
        for order in permutations([SENT, died, DEAD, ended]):
            self.assertEqual(arrange(order), [SENT, died, DEAD, ended])

    def test_two_attempts_at_once_are_all_shown(self) -> None:
        again = record(records.RESENT, 10.8, attempt=2, text="no worker has answered")
        second = RAN._replace(attempt=2, worker="Invoices:9-9", time=11.25)
        self.assertEqual(arrange([second, ENDED, RAN, again, SENT]), [SENT, again, RAN, second, ENDED])

    def test_the_first_and_the_last_of_too_many_steps_are_kept(self) -> None:
        steps = [SENT, *(failed(11.0 + number, attempt=number) for number in range(1, 200))]
        kept = arrange(reversed(steps))
        self.assertEqual(len(kept), MAX_STEPS)
        self.assertEqual(kept[:FIRST_STEPS], steps[:FIRST_STEPS])
        self.assertEqual(kept[FIRST_STEPS:], steps[FIRST_STEPS - MAX_STEPS :])


class SummarizeTests(SynchronousTestCase):
    def of(self, *steps: Record) -> Summary:
        return summarize(arrange(steps))

    def test_a_job_that_has_succeeded(self) -> None:
        self.assertEqual(
            self.of(SENT, RAN, ENDED),
            Summary(
                id=JOB,
                address="Invoices:*",
                types=("Invoices",),
                lane="interactive",
                outcome="succeeded",
                sent=10.0,
                ended=11.5,
                seconds=1.5,
                hops=1,
                worker=WORKER,
                sender=SENDER,
                trace="00-1-2-01",
                failing=None,
                dead=None,
            ),
        )

    def test_a_job_that_was_sent_is_pending(self) -> None:
        job = self.of(SENT)
        self.assertEqual((job.outcome, job.ended, job.seconds, job.worker), ("pending", None, None, ""))

    def test_a_job_of_which_only_the_worker_reports(self) -> None:
        job = self.of(RAN)
        self.assertEqual((job.outcome, job.sent, job.ended, job.seconds), ("succeeded", 10.25, 11.0, 0.75))

    def test_a_job_of_which_only_the_sender_reports_the_end(self) -> None:
        job = self.of(ENDED)
        self.assertEqual((job.outcome, job.sent, job.seconds, job.sender), ("succeeded", 10.0, 1.5, SENDER))

    def test_a_job_of_which_only_a_line_is_known(self) -> None:
        job = self.of(record(records.LOG, 10.0, address="", text="hello"))
        self.assertEqual((job.outcome, job.address, job.types, job.sent), ("pending", "", (), 10.0))

    def test_a_job_of_several_hops(self) -> None:
        hop: dict[str, Any] = {"hop": 1, "address": "Mails:*"}
        job = self.of(
            SENT,
            RAN._replace(outcome=outcomes.FORWARDED),
            SENT._replace(worker=WORKER, time=11.0, **hop),
        )
        self.assertEqual(
            (job.address, job.types, job.hops, job.outcome),
            ("Invoices:*", ("Invoices", "Mails"), 2, "pending"),
        )
        job = self.of(SENT, failed(11.0, worker=OTHER, **hop))
        self.assertEqual(job.failing, Failing("Mails", "OutOfStock", "no article 7"))
        self.assertEqual((job.worker, job.outcome), (OTHER, "failed"))

    def test_the_outcome_of_the_sender_counts(self) -> None:
        ended = ENDED._replace(time=10.5, outcome=outcomes.FAILED, error="JobTimeout", message="too late")
        job = self.of(SENT, RAN, ended)
        self.assertEqual((job.outcome, job.ended), ("failed", 10.5))
        self.assertEqual(job.failing, Failing("Invoices", "JobTimeout", "too late"))

    def test_a_job_that_will_be_retried_fails_until_it_succeeds(self) -> None:
        retried = failed(11.0, outcome=outcomes.RETRIED)
        job = self.of(SENT, retried)
        self.assertEqual((job.outcome, job.ended), ("retried", None))
        self.assertEqual(job.failing, Failing("Invoices", "OutOfStock", "no article 7"))
        job = self.of(SENT, retried, RAN._replace(time=12.0))
        self.assertEqual((job.outcome, job.failing), ("succeeded", None))

    def test_a_canceled_job_is_not_a_failure(self) -> None:
        job = self.of(SENT, failed(11.0, outcome=outcomes.CANCELED))
        self.assertEqual((job.outcome, job.failing), ("canceled", None))

    def test_a_dead_letter(self) -> None:
        died = failed(19.0, outcome=outcomes.DEAD)
        for steps in ((SENT, died, DEAD), (SENT, died), (SENT, DEAD)):
            job = self.of(*steps)
            self.assertEqual((job.outcome, job.dead, job.ended), ("dead", 0, steps[-1].time))
        self.assertEqual(self.of(SENT, DEAD._replace(hop=3)).dead, 3)
        ended = ENDED._replace(time=20.5, outcome=outcomes.FAILED, error="OutOfStock")
        self.assertEqual(self.of(SENT, died, DEAD, ended).outcome, "dead")

    def test_a_dead_letter_whose_hop_before_ends_later(self) -> None:
        before = RAN._replace(time=20.1, outcome=outcomes.FORWARDED)
        sent, dead = SENT._replace(hop=1, time=19.0), DEAD._replace(hop=1)
        job = self.of(SENT, before, sent, dead)
        self.assertEqual((job.outcome, job.dead), ("dead", 1))

    def test_a_dead_letter_that_was_requeued(self) -> None:
        steps = [SENT, failed(19.0), DEAD, ENDED._replace(time=20.5, outcome=outcomes.FAILED)]
        requeued = record(records.REQUEUED, 30.0, text="anna")
        job = self.of(*steps, requeued)
        self.assertEqual((job.outcome, job.dead, job.ended, job.failing), ("pending", None, None, None))
        job = self.of(*steps, requeued, RAN._replace(time=31.0))
        self.assertEqual((job.outcome, job.dead, job.ended), ("succeeded", None, 31.0))
        job = self.of(*steps, requeued, failed(31.0), DEAD._replace(time=32.0))
        self.assertEqual((job.outcome, job.dead), ("dead", 0))

    def test_a_dead_letter_that_was_requeued_without_the_managers_knowledge(self) -> None:
        job = self.of(SENT, failed(19.0), DEAD, RAN._replace(time=31.0))
        self.assertEqual((job.outcome, job.dead), ("succeeded", None))

    def test_a_dead_letter_that_was_discarded(self) -> None:
        job = self.of(SENT, failed(19.0, outcome=outcomes.DEAD), DEAD, record(records.DISCARDED, 30.0))
        self.assertEqual((job.outcome, job.dead), ("failed", None))
        self.assertEqual(job.failing, Failing("Invoices", "OutOfStock", "no article 7"))


class EncodeTests(SynchronousTestCase):
    def test_what_is_decoded_equals_what_was_encoded(self) -> None:
        steps = [SENT, RAN, ENDED, DEAD, failed(3.0, message="größer '\u2028"), record(records.LOG, 1.0)]
        self.assertEqual(decode(JOB, encode(steps)), steps)

    def test_defaults_take_no_room(self) -> None:
        self.assertEqual(encode([Record(records.LOG, 1.5, JOB)]), '[["log",1.5]]')
