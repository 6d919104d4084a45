"""The intake: exact sequences of started jobs, sent messages and settled deliveries."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.support.intake import ANSWER, IntakeCase
from txmicro.protocol.job import Job
from txmicro.protocol.messages import FAILURE
from txmicro.protocol.outcomes import FORWARDED
from txmicro.receiving.answers import Reply
from txmicro.receiving.batching import DELIVERIES_WAIT


class CapacityTests(IntakeCase):
    def test_a_job_is_acked_and_started_and_settled_when_it_ends(self) -> None:
        self.arrive("a")
        self.assertEqual(self.heard(), [("ack", "a/0", "WA:1"), ("start", "a/0")])
        self.assertEqual(len(self.intake), 1)
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0")])
        self.assertEqual(len(self.intake), 0)

    def test_jobs_beyond_the_capacity_are_held_in_order_and_not_acked(self) -> None:
        self.arrive("a", "b", "c", "d")
        self.assertEqual(
            self.heard(),
            [("ack", "a/0", "WA:1"), ("start", "a/0"), ("ack", "b/0", "WA:1"), ("start", "b/0")],
        )
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/0"), ("ack", "c/0", "WA:1"), ("start", "c/0")])
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "d/0", "WA:1"), ("start", "d/0")])

    def test_a_copy_held_too_long_is_dropped_and_does_not_run(self) -> None:
        self.arrive("a", "b", "old")
        self.clock.advance(0.1)
        self.arrive("young")
        self.clock.advance(1.8)
        self.heard()
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(
            self.heard(),
            [("settle", "a/0"), ("settle", "old/0"), ("ack", "young/0", "WA:1"), ("start", "young/0")],
        )

    def test_a_held_copy_past_its_deadline_is_dropped_and_does_not_run(self) -> None:
        self.arrive("a", "b")
        self.arrive("short", deadline=1)
        self.clock.advance(1)
        self.heard()
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "short/0")])

    def test_a_job_past_its_deadline_on_arrival_is_not_started(self) -> None:
        self.arrive("a", deadline=0)
        self.arrive("b", deadline=-1)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "b/0")])

    def test_the_end_of_an_unknown_job_is_ignored(self) -> None:
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.intake.probed("WA:1", ["a/0"]), ([], {}, ["a/0"]))


class QuickJobsTests(IntakeCase):
    capacity = 1

    def ack(self, job: Job) -> None:
        """Do not record it."""

    def start(self, job: Job) -> None:
        self.events.append(("start", job.key))
        if job.id != "slow":
            self.intake.finished(job.key, ANSWER)

    def test_a_job_may_end_while_it_is_started(self) -> None:
        self.arrive("a", "b")
        self.assertEqual(
            self.heard(), [("start", "a/0"), ("settle", "a/0"), ("start", "b/0"), ("settle", "b/0")]
        )

    def test_many_held_jobs_do_not_exhaust_the_stack(self) -> None:
        self.arrive("slow", *[str(n) for n in range(3000)])
        self.intake.finished("slow/0", ANSWER)
        self.assertEqual(len([event for event in self.heard() if event[0] == "start"]), 3001)


class DuplicateTests(IntakeCase):
    def test_a_copy_of_a_running_job_is_acked_again(self) -> None:
        self.arrive("a")
        self.heard()
        self.arrive("a", sender="WA:2")
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:2")])
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0")])

    def test_a_copy_of_a_finished_job_is_answered_again(self) -> None:
        self.arrive("a")
        failure = Reply("WA:1", FAILURE, b"no")
        self.intake.finished("a/0", failure)
        self.heard()
        self.arrive("a", sender="WA:2", deadline=-1)
        self.assertEqual(
            self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:2"), ("answer", "a/0", failure)]
        )

    def test_a_copy_of_a_forwarded_job_is_acked_again(self) -> None:
        self.arrive("a")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.heard()
        self.arrive("a")
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:1")])

    def test_of_two_held_copies_the_first_is_kept(self) -> None:
        self.arrive("a", "b", "c", "d")
        self.heard()
        self.arrive("c")
        self.assertEqual(self.heard(), [("settle", "c/0")])
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "c/0", "WA:1"), ("start", "c/0")])


class ProbeTests(IntakeCase):
    def test_each_key_gets_its_answer(self) -> None:
        self.arrive("finished", "forwarded")
        self.intake.finished("finished/0", ANSWER)
        self.intake.finished("forwarded/0", Reply("WC:*", FORWARDED))
        self.arrive("a", "b", "held")
        self.heard()
        keys = ["a/0", "finished/0", "forwarded/0", "held/0", "unknown/0"]
        self.assertEqual(
            self.intake.probed("WA:7", keys), (["a/0", "held/0"], {"forwarded/0": "WC:*"}, ["unknown/0"])
        )
        self.assertEqual(self.heard(), [("answer", "finished/0", ANSWER)])


class CancelTests(IntakeCase):
    def test_held_jobs_are_dropped_and_running_ones_returned(self) -> None:
        self.arrive("a", "b", "held")
        self.heard()
        self.assertEqual(self.intake.cancelled(["held/0", "b/0", "unknown/0", "held/0"]), (["b/0"], []))
        self.assertEqual(self.heard(), [("settle", "held/0")])
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/0")])

    def test_forwarded_jobs_are_returned(self) -> None:
        self.arrive("a", "b")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.intake.cancelled(["a/0", "b/0"]), ([], ["a/0"]))


class OnceTests(IntakeCase):
    """Jobs that must not run twice."""

    def test_a_copy_that_was_delivered_before_is_refused(self) -> None:
        self.arrive("a", redeliver=False, redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("refuse", "a/0", False)])

    def test_a_redelivered_copy_is_refused_because_the_job_may_have_killed_its_worker(self) -> None:
        self.arrive("a", redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("refuse", "a/0", False)])

    def test_a_redelivered_copy_at_the_worker_that_ran_it_is_a_duplicate(self) -> None:
        self.arrive("a", redeliver=False)
        self.heard()
        self.arrive("a", redeliver=False, redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:1")])
        self.intake.finished("a/0", ANSWER)
        self.heard()
        self.arrive("a", redeliver=False, redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:1"), ("answer", "a/0", ANSWER)])

    def test_the_only_copy_is_held_until_the_deadline(self) -> None:
        self.arrive("a", "b")
        self.arrive("c", "d", redeliver=False, deadline=10.0)
        self.clock.advance(9)
        self.heard()
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "c/0", "WA:1"), ("start", "c/0")])
        self.clock.advance(1)
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/0"), ("settle", "d/0")])

    def test_a_stopping_worker_returns_it_to_its_sender(self) -> None:
        self.arrive("a", "b")
        self.arrive("held", redeliver=False)
        self.heard()
        self.intake.drain()
        self.arrive("late", redeliver=False)
        self.assertEqual(
            self.heard(),
            [
                ("settle", "held/0"),
                ("refuse", "held/0", True),
                ("settle", "late/0"),
                ("refuse", "late/0", True),
            ],
        )


class PauseTests(IntakeCase):
    """No job is started while its answer could not be sent."""

    def test_jobs_that_arrive_are_held_and_started_afterwards(self) -> None:
        self.arrive("a")
        self.heard()
        self.slots.paused = True
        self.arrive("b", "c")
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0")])
        self.resume()
        self.assertEqual(
            self.heard(),
            [("ack", "b/0", "WA:1"), ("start", "b/0"), ("ack", "c/0", "WA:1"), ("start", "c/0")],
        )

    def test_copies_that_were_held_too_long_have_been_replaced(self) -> None:
        self.slots.paused = True
        self.arrive("a")
        self.clock.advance(2)
        self.resume()
        self.assertEqual(self.heard(), [("settle", "a/0")])


class DrainTests(IntakeCase):
    def test_it_fires_when_nothing_runs(self) -> None:
        self.arrive("a", "b", "held")
        self.heard()
        first, second = self.intake.drain(), self.intake.drain()
        self.assertEqual(self.heard(), [("requeue", "held/0")])
        self.intake.finished("b/0", ANSWER)
        self.assertNoResult(first)
        self.intake.finished("a/0", ANSWER)
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))

    def test_it_fires_at_once_when_nothing_runs(self) -> None:
        self.assertIsNone(self.successResultOf(self.intake.drain()))

    def test_new_jobs_are_requeued_and_duplicates_are_answered(self) -> None:
        self.arrive("a", "b")
        self.intake.finished("b/0", ANSWER)
        self.heard()
        self.intake.drain()
        self.arrive("a", "b", "c")
        self.arrive("late", deadline=0)
        self.assertEqual(
            self.heard(),
            [
                ("settle", "a/0"),
                ("ack", "a/0", "WA:1"),
                ("settle", "b/0"),
                ("ack", "b/0", "WA:1"),
                ("answer", "b/0", ANSWER),
                ("requeue", "c/0"),
                ("settle", "late/0"),
            ],
        )

    def test_canceling_a_wait_stops_that_wait_only(self) -> None:
        self.arrive("a")
        first, second = self.intake.drain(), self.intake.drain()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.intake.finished("a/0", ANSWER)
        self.assertIsNone(self.successResultOf(second))


class SettlingTests(IntakeCase):
    """The settling of deliveries in batches."""

    capacity = 16

    def setUp(self) -> None:
        super().setUp()
        self.arrive("a", "b")
        self.heard()
        self.intake.finished("a/0", ANSWER)

    def test_jobs_that_end_in_one_moment_are_settled_together(self) -> None:
        self.assertEqual(self.heard(), [])
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "b/0")])

    def test_they_are_settled_after_that_moment(self) -> None:
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.heard(), [("settle", "a/0")])

    def test_they_are_settled_before_the_drain_fires(self) -> None:
        draining = self.intake.drain()
        self.assertEqual(self.heard(), [])
        draining.addCallback(lambda _: self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "b/0")]))
        self.intake.finished("b/0", ANSWER)
        self.successResultOf(draining)

    def test_they_are_settled_when_it_stops_while_none_runs(self) -> None:
        self.intake.finished("b/0", ANSWER)
        self.arrive("c")
        self.intake.finished("c/0", ANSWER)
        self.heard()
        self.successResultOf(self.intake.drain())
        self.assertEqual(self.heard(), [("settle", "c/0")])

    def test_they_are_not_settled_when_their_channel_is_lost(self) -> None:
        self.intake.reset()
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.heard(), [])

    def test_closing_leaves_no_timer(self) -> None:
        self.intake.close()
        self.assertEqual(self.heard(), [("settle", "a/0")])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ResetTests(IntakeCase):
    def test_running_jobs_continue_and_old_deliveries_are_not_settled(self) -> None:
        self.arrive("a", "b", "held")
        self.heard()
        self.lose_channel()
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [])
        self.arrive("a", "b", "held")
        self.assertEqual(
            self.heard(),
            [
                ("settle", "a/0"),
                ("ack", "a/0", "WA:1"),
                ("answer", "a/0", ANSWER),
                ("settle", "b/0"),
                ("ack", "b/0", "WA:1"),
                ("ack", "held/0", "WA:1"),
                ("start", "held/0"),
            ],
        )
