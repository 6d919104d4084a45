"""The intake: exact sequences of what starts, what is said, and what the broker is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.deliveries import NotingChannel
from txmicro.protocol.job import Job
from txmicro.protocol.messages import FAILURE, RESULT
from txmicro.receiving.batching import DELIVERIES_WAIT
from txmicro.receiving.intake import FORWARDED, Intake, Reply
from txmicro.receiving.slots import Slots

ANSWER = Reply("WA:1", RESULT, b"42")


class IntakeCase(SynchronousTestCase):
    capacity = 2

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.channel = NotingChannel(self.events, "settle")
        self.slots = Slots(self.capacity)
        self.intake = self.make()

    def make(self, **limits: Any) -> Intake:
        return Intake(self.clock, self.slots, self, self, **limits)

    # What the intake calls (Starter, AnswerSender)

    def start(self, job: Job) -> None:
        self.events.append(("start", job.key))

    def ack(self, job: Job) -> None:
        self.events.append(("ack", job.key, job.sender))

    def answer(self, key: str, reply: Reply) -> None:
        self.events.append(("answer", key, reply))

    def release(self, sender: str, key: str) -> None:
        self.events.append(("free", sender, key))

    def refuse(self, job: Job, unrun: bool) -> None:
        self.events.append(("refuse", job.key, unrun))

    # What the tests do

    def arrive(
        self, *ids: str, deadline: float = 30.0, sender: str = "WA:1", hop: int = 0, **flags: Any
    ) -> None:
        for id in ids:
            at = self.clock.seconds() + deadline
            job = Job(id, None, ["WB:*"] * (hop + 1), hop, sender, "WA:1", at, **flags)
            self.intake.arrived(job, self.channel.deliver(job.key))

    def lose_channel(self) -> None:
        """Close the channel, and open another one."""
        self.channel.closed = True
        self.channel = NotingChannel(self.events, "settle")
        self.intake.reset()

    def resume(self) -> None:
        """Let jobs start again."""
        self.slots.paused = False
        self.intake.start_held()

    def heard(self) -> list[tuple[Any, ...]]:
        """What happened since the last call."""
        events, self.events[:] = list(self.events), []
        return events


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

    def test_a_copy_held_too_long_is_dropped_unrun(self) -> None:
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

    def test_a_held_copy_past_its_deadline_is_dropped_unrun(self) -> None:
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
        """Do not note it."""

    def start(self, job: Job) -> None:
        self.events.append(("start", job.key))
        if job.id != "slow":
            self.intake.finished(job.key, ANSWER)

    def test_a_job_may_end_while_it_is_started(self) -> None:
        self.arrive("a", "b")
        self.assertEqual(
            self.heard(), [("start", "a/0"), ("settle", "a/0"), ("start", "b/0"), ("settle", "b/0")]
        )

    def test_many_held_ones_do_not_exhaust_the_stack(self) -> None:
        self.arrive("slow", *[str(n) for n in range(3000)])
        self.intake.finished("slow/0", ANSWER)
        self.assertEqual(len([event for event in self.heard() if event[0] == "start"]), 3001)


class DuplicateTests(IntakeCase):
    def test_one_that_runs_is_acked_again(self) -> None:
        self.arrive("a")
        self.heard()
        self.arrive("a", sender="WA:2")
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:2")])
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0")])

    def test_one_that_finished_is_answered_again(self) -> None:
        self.arrive("a")
        failure = Reply("WA:1", FAILURE, b"no")
        self.intake.finished("a/0", failure)
        self.heard()
        self.arrive("a", sender="WA:2", deadline=-1)
        self.assertEqual(
            self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:2"), ("answer", "a/0", failure)]
        )

    def test_one_that_was_forwarded_is_acked_again(self) -> None:
        self.arrive("a")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.heard()
        self.arrive("a")
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "a/0", "WA:1")])

    def test_of_two_that_are_held_the_first_is_kept(self) -> None:
        self.arrive("a", "b", "c", "d")
        self.heard()
        self.arrive("c")
        self.assertEqual(self.heard(), [("settle", "c/0")])
        self.intake.finished("a/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("ack", "c/0", "WA:1"), ("start", "c/0")])


class MemoryTests(IntakeCase):
    def finish(self, id: str, body: bytes) -> None:
        self.arrive(id)
        self.intake.finished(f"{id}/0", Reply("WA:1", RESULT, body))

    def remembered(self, *ids: str) -> list[str]:
        _, _, unknown = self.intake.probed("WA:1", [f"{id}/0" for id in ids])
        return [id for id in ids if f"{id}/0" not in unknown]

    def test_the_oldest_is_forgotten_when_there_are_too_many(self) -> None:
        self.intake = self.make(memory_jobs=2)
        for id in "abc":
            self.finish(id, b"")
        self.assertEqual(self.remembered("a", "b", "c"), ["b", "c"])

    def test_the_oldest_are_forgotten_when_they_are_too_large(self) -> None:
        self.intake = self.make(memory_bytes=10)
        for id in "abc":
            self.finish(id, b"1234")
        self.assertEqual(self.remembered("a", "b", "c"), ["b", "c"])
        self.finish("d", b"1234567890")
        self.assertEqual(self.remembered("b", "c", "d"), ["d"])
        self.finish("e", b"12345678901")
        self.assertEqual(self.remembered("d", "e"), [])
        self.finish("f", b"1234567890")
        self.assertEqual(self.remembered("f"), ["f"])


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
    def test_held_ones_are_dropped_and_running_ones_named(self) -> None:
        self.arrive("a", "b", "held")
        self.heard()
        self.assertEqual(self.intake.cancelled(["held/0", "b/0", "unknown/0", "held/0"]), (["b/0"], []))
        self.assertEqual(self.heard(), [("settle", "held/0")])
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/0")])

    def test_forwarded_ones_are_named(self) -> None:
        self.arrive("a", "b")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.intake.cancelled(["a/0", "b/0"]), ([], ["a/0"]))


class HeardTests(IntakeCase):
    """A later hop's sender watches over it until the job's origin has heard."""

    def finish(self, reply: Reply = ANSWER) -> None:
        self.arrive("a", sender="WD:1", hop=1)
        self.intake.finished("a/1", reply)
        self.heard()

    def test_its_sender_is_freed(self) -> None:
        self.finish()
        self.assertTrue(self.intake.heard("a/1"))
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")])

    def test_the_first_hops_sender_is_the_origin_itself(self) -> None:
        self.arrive("a")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.heard()
        self.assertTrue(self.intake.heard("a/0"))
        self.assertEqual(self.intake.probed("WA:1", ["a/0"]), ([], {}, []))
        self.assertEqual(self.heard(), [])

    def test_nobody_watches_over_a_durable_hop(self) -> None:
        self.intake.remember(Job("a", None, ["WB:*"] * 2, 1, "WD:1", "WA:1", 30.0, durable=True), ANSWER)
        self.intake.heard("a/1")
        self.assertEqual(self.heard(), [])

    def test_what_is_not_known(self) -> None:
        self.assertFalse(self.intake.heard("a/1"))
        self.assertEqual(self.heard(), [])

    def test_until_then_a_probe_gets_the_answer_said_again(self) -> None:
        self.finish()
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {}, []))
        self.assertEqual(self.heard(), [("answer", "a/1", ANSWER)])
        self.intake.heard("a/1")
        self.intake.probed("WD:1", ["a/1"])
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")] * 2)

    def test_who_passed_it_on_frees_its_sender_when_asked_again(self) -> None:
        self.finish(Reply("WC:*", FORWARDED))
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {"a/1": "WC:*"}, []))
        self.intake.heard("a/1")
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {}, []))
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")] * 2)

    def test_the_latest_sender_is_the_one_freed(self) -> None:
        self.arrive("a", sender="WD:1", hop=1)
        self.arrive("a", sender="WD:2", hop=1)
        self.intake.finished("a/1", ANSWER)
        self.heard()
        self.intake.heard("a/1")
        self.assertEqual(self.heard(), [("free", "WD:2", "a/1")])
        self.arrive("a", sender="WD:3", hop=1)
        self.assertEqual(self.heard(), [("settle", "a/1"), ("ack", "a/1", "WD:3"), ("free", "WD:3", "a/1")])
        self.intake.probed("WD:4", ["a/1"])
        self.assertEqual(self.heard(), [("free", "WD:4", "a/1")])

    def test_what_was_heard_is_not_said_again(self) -> None:
        self.finish()
        self.intake.unanswered("a/1")
        self.intake.heard("a/1")
        self.heard()
        self.clock.advance(1)
        self.intake.unanswered("a/1")
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_who_forgets_or_leaves_frees_the_senders_of_those_not_heard(self) -> None:
        self.intake = self.make(memory_jobs=3)
        for id, deadline in (("a", 30.0), ("heard", 30.0), ("old", 1.0), ("b", 30.0)):
            self.arrive(id, sender="WD:1", hop=1, deadline=deadline)
            self.heard()
            self.intake.finished(f"{id}/1", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/1"), ("free", "WD:1", "a/1")])
        self.arrive("passed on", sender="WD:1", hop=1)
        self.intake.heard("heard/1")
        self.intake.finished("passed on/1", Reply("WC:*", FORWARDED))
        self.clock.advance(1)
        self.heard()
        self.intake.close()
        self.assertEqual(self.heard(), [("free", "WD:1", "b/1")])


class OnceTests(IntakeCase):
    """Jobs that must not run twice."""

    def test_a_copy_that_was_delivered_before_is_refused(self) -> None:
        self.arrive("a", redeliver=False, redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("refuse", "a/0", False)])

    def test_also_of_a_job_that_may_run_twice_as_it_may_have_killed_who_ran_it(self) -> None:
        self.arrive("a", redelivered=True)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("refuse", "a/0", False)])

    def test_one_that_comes_back_to_who_runs_it_or_ran_it_is_a_duplicate(self) -> None:
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

    def test_who_stops_gives_it_back_to_its_sender(self) -> None:
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
    """While no answer can leave, no job is started."""

    def test_what_comes_is_held_and_started_afterwards(self) -> None:
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


class UnansweredTests(IntakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.arrive("a", "b", sender="WA:2", deadline=2.5)
        self.intake.finished("a/0", ANSWER)
        self.intake.finished("b/0", ANSWER)
        self.heard()

    def test_it_is_said_again_within_a_second(self) -> None:
        self.intake.unanswered("a/0")
        self.intake.unanswered("a/0")
        self.clock.advance(0.5)
        self.intake.unanswered("b/0")
        self.assertEqual(self.heard(), [])
        self.clock.advance(0.5)
        self.assertEqual(self.heard(), [("answer", "a/0", ANSWER), ("answer", "b/0", ANSWER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_is_said_until_the_deadline(self) -> None:
        for _ in range(4):
            self.intake.unanswered("a/0")
            self.clock.advance(1)
        self.assertEqual(self.heard(), [("answer", "a/0", ANSWER)] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_is_said_again_when_it_comes_back_at_once(self) -> None:
        self.patch(self, "answer", lambda key, reply: self.intake.unanswered(key))
        self.intake.unanswered("a/0")
        self.clock.pump([1, 1])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_not_remembered_is_not_said(self) -> None:
        self.intake = self.make(memory_jobs=1)
        self.arrive("a", "b", "c")
        self.intake.finished("a/0", ANSWER)
        self.intake.unanswered("a/0")
        self.intake.finished("b/0", ANSWER)
        self.heard()
        self.clock.advance(1)
        self.assertEqual(self.heard(), [])
        self.intake.finished("c/0", Reply("WC:*", FORWARDED))
        for key in ("a/0", "c/0", "unknown/0"):
            self.intake.unanswered(key)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_stops_it(self) -> None:
        self.intake.unanswered("a/0")
        self.intake.close()
        self.intake.close()
        self.intake.unanswered("b/0")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(
            [name for name, value in vars(self.intake).items() if isinstance(value, dict) and value], []
        )

    def test_a_forwarded_job_that_failed_on_its_way_is_answered(self) -> None:
        self.arrive("c", sender="WA:2")
        self.intake.finished("c/0", Reply("WD:*", FORWARDED))
        failure = Reply("WA:1", FAILURE, b"no")
        self.intake.finished("c/0", failure)
        self.intake.finished("a/0", failure)
        self.heard()
        self.intake.unanswered("c/0")
        self.clock.advance(1)
        self.assertEqual(self.intake.probed("WA:2", ["a/0", "c/0"]), ([], {}, []))
        self.assertEqual(
            self.heard(),
            [
                ("answer", "c/0", failure),
                ("answer", "a/0", ANSWER),
                ("answer", "c/0", failure),
            ],
        )


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

    def test_new_jobs_go_back_and_duplicates_are_answered(self) -> None:
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

    def test_cancelling_a_wait_stops_that_wait_only(self) -> None:
        self.arrive("a")
        first, second = self.intake.drain(), self.intake.drain()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.intake.finished("a/0", ANSWER)
        self.assertIsNone(self.successResultOf(second))


class SettlingTests(IntakeCase):
    """With a capacity that has room for some that are done and not settled."""

    capacity = 16

    def setUp(self) -> None:
        super().setUp()
        self.arrive("a", "b")
        self.heard()
        self.intake.finished("a/0", ANSWER)

    def test_what_ends_in_one_moment_is_settled_together(self) -> None:
        self.assertEqual(self.heard(), [])
        self.intake.finished("b/0", ANSWER)
        self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "b/0")])

    def test_or_after_that_moment(self) -> None:
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.heard(), [("settle", "a/0")])

    def test_or_before_it_is_said_that_all_have_ended(self) -> None:
        draining = self.intake.drain()
        self.assertEqual(self.heard(), [])
        draining.addCallback(lambda _: self.assertEqual(self.heard(), [("settle", "a/0"), ("settle", "b/0")]))
        self.intake.finished("b/0", ANSWER)
        self.successResultOf(draining)

    def test_or_when_it_stops_while_none_runs(self) -> None:
        self.intake.finished("b/0", ANSWER)
        self.arrive("c")
        self.intake.finished("c/0", ANSWER)
        self.heard()
        self.successResultOf(self.intake.drain())
        self.assertEqual(self.heard(), [("settle", "c/0")])

    def test_or_never_when_their_channel_is_lost(self) -> None:
        self.intake.reset()
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.heard(), [])

    def test_closing_leaves_nothing_behind(self) -> None:
        self.intake.close()
        self.assertEqual(self.heard(), [("settle", "a/0")])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ResetTests(IntakeCase):
    def test_what_runs_goes_on_and_old_deliveries_are_not_settled(self) -> None:
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
