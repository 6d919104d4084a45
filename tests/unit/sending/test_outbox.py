"""The outbox: exact sequences of what goes out and what owners hear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import (
    BusOverloaded,
    JobCancelled,
    JobError,
    JobTimeout,
    NoWorkerAvailable,
    RemoteError,
    WorkerLost,
    WorkerStopped,
)
from txmicro.sending.deadlines import Deadlines
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import DURABLE, ENDED, OUT, TAKEN, WAITING, PendingJob
from txmicro.sending.probing import Probing
from txmicro.util.expiring import ExpiringKeys

TICK = 0.125  # a power of two: sums of it are exact


def leftovers(outbox: Outbox) -> dict[str, Any]:
    """Return what *outbox* still keeps, by attribute."""
    kept = (dict, list, ExpiringKeys, Probing, Deadlines)
    attributes = {**vars(outbox), **vars(outbox._dispatch)}
    return {name: value for name, value in attributes.items() if isinstance(value, kept) and value}


class Told:
    """An owner that writes down what it is told."""

    def __init__(self, events: list[tuple[Any, ...]], key: str) -> None:
        self.events = events
        self.key = key
        self.error: JobError | None = None

    def accepted(self, worker: str) -> None:
        self.events.append(("taken", self.key, worker))

    def succeeded(self, worker: str, result: Any) -> None:
        self.events.append(("done", self.key, worker, result))

    def failed(self, error: JobError) -> None:
        self.error = error
        self.events.append(("failed", self.key, type(error)))


class Raising(Told):
    """An owner whose every method raises."""

    def accepted(self, worker: str) -> None:
        raise ZeroDivisionError

    def succeeded(self, worker: str, result: Any) -> None:
        raise ZeroDivisionError

    def failed(self, error: JobError) -> None:
        raise ZeroDivisionError


class OutboxCase(SynchronousTestCase):
    window = 2
    max_jobs = 200_000
    max_bytes = 1 << 28

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.given_up: list[str] = []
        self.during_publish: Callable[[PendingJob], object] = lambda sent: None
        self.outbox = Outbox(
            self.clock,
            publish=self.publish,
            inquire=lambda address: self.events.append(("inquire", address)),
            probe=lambda worker, keys: self.events.append(("probe", worker, keys)),
            cancel=lambda worker, key: self.events.append(("cancel", worker, key)),
            gave_up=lambda error: self.given_up.append(error.type),
            window=self.window,
            max_jobs=self.max_jobs,
            max_bytes=self.max_bytes,
            tick=TICK,
        )

    def publish(self, sent: PendingJob) -> None:
        self.events.append(("publish", sent.key, sent.tries))
        self.during_publish(sent)

    def sent(
        self, key: str, address: str = "WB:*", deadline: float = 30.0, owner: type[Told] = Told
    ) -> PendingJob:
        at = self.clock.seconds() + deadline
        return PendingJob(key, key.partition("/")[0], address, b"body", at, owner(self.events, key))

    def add(self, *keys: str, address: str = "WB:*", deadline: float = 30.0) -> list[PendingJob]:
        jobs = [self.sent(key, address, deadline) for key in keys]
        for sent in jobs:
            self.outbox.add(sent)
        return jobs

    def wait(self, seconds: float) -> None:
        self.clock.pump([TICK] * int(seconds / TICK))

    def heard(self) -> list[tuple[Any, ...]]:
        """What happened since the last call."""
        events, self.events[:] = list(self.events), []
        return events

    def check_empty(self) -> None:
        """Nothing is left behind, once jobs that were given up untaken cannot be taken any more."""
        self.wait(4.5)
        self.assertEqual(len(self.outbox), 0)
        self.assertEqual(leftovers(self.outbox), {})
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WindowTests(OutboxCase):
    def test_a_job_is_published_at_once(self) -> None:
        (job,) = self.add("a/0")
        self.assertEqual(self.heard(), [("publish", "a/0", 0)])
        self.assertEqual((job.state, job.tries, job.copies), (OUT, 0, 1))

    def test_jobs_beyond_the_window_wait_in_order(self) -> None:
        *_, job = self.add("a/0", "b/0", "c/0", "d/0")
        self.assertEqual(self.heard(), [("publish", "a/0", 0), ("publish", "b/0", 0)])
        self.assertEqual((job.state, job.tries), (WAITING, 0))
        self.outbox.acked("WB:1", ["b/0", "a/0"])
        self.assertEqual(
            self.heard(),
            [
                ("publish", "c/0", 0),
                ("taken", "b/0", "WB:1"),
                ("publish", "d/0", 0),
                ("taken", "a/0", "WB:1"),
            ],
        )

    def test_every_end_makes_room(self) -> None:
        self.add("a/0", "b/0", "c/0", "d/0", "e/0", "f/0")
        self.heard()
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.outbox.failed("b/0", RemoteError("no"))
        self.outbox.cancel("c/0")
        self.outbox.done("WB:1", ["d/0"])
        published = [event[1] for event in self.heard() if event[0] == "publish"]
        self.assertEqual(published, ["c/0", "d/0", "e/0", "f/0"])

    def test_taken_jobs_are_outside_the_window(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.heard()
        self.add("c/0", "d/0")
        self.assertEqual(self.heard(), [("publish", "c/0", 0), ("publish", "d/0", 0)])

    def test_each_address_has_a_window_of_its_own(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.heard()
        self.add("d/0", address="WC:*")
        self.assertEqual(self.heard(), [("publish", "d/0", 0)])

    def test_the_body_is_stale_unless_it_leaves_at_once(self) -> None:
        stale: list[tuple[str, bool]] = []
        self.during_publish = lambda sent: stale.append((sent.key, sent.stale))
        self.add("a/0", "b/0", "c/0")
        self.outbox.succeeded("b/0", "WB:1", None)
        self.wait(2)
        self.assertEqual(stale, [("a/0", False), ("b/0", False), ("c/0", True), ("a/0", True), ("c/0", True)])

    def test_a_key_is_taken_on_once(self) -> None:
        self.assertTrue(self.outbox.add(self.sent("a/0")))
        self.assertFalse(self.outbox.add(self.sent("a/0")))
        self.assertEqual(self.heard(), [("publish", "a/0", 0)])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.assertTrue(self.outbox.add(self.sent("a/0")))

    def test_a_job_may_be_added_while_another_is_published(self) -> None:
        more = iter(["b/0", "c/0"])
        self.during_publish = lambda sent: self.add(*[key for key in [next(more, None)] if key])
        self.add("a/0")
        self.assertEqual(self.heard(), [("publish", "a/0", 0), ("publish", "b/0", 0)])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.assertEqual(self.heard(), [("publish", "c/0", 0), ("done", "a/0", "WB:1", 1)])


class ResendTests(OutboxCase):
    def test_a_copy_that_nobody_took_is_sent_again_with_an_inquiry(self) -> None:
        self.add("a/0")
        self.heard()
        self.wait(2 - TICK)
        self.assertEqual(self.heard(), [])
        self.wait(TICK)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.wait(2)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 2)])

    def test_copies_are_due_in_the_order_in_which_they_left(self) -> None:
        self.add("a/0")
        self.wait(1)
        self.add("b/0")
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.wait(1)
        self.assertEqual(self.heard(), [("publish", "b/0", 1)])
        self.wait(1)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 2)])

    def test_a_resend_keeps_its_place_in_the_window(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])

    def test_a_taken_job_is_not_sent_again(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("probe", "WB:1", ["a/0"])])

    def test_a_returned_copy_asks_at_once_and_is_sent_again_at_its_time(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.heard()
        self.outbox.returned("a/0")
        self.outbox.returned("b/0")
        self.assertEqual(self.heard(), [("inquire", "WB:*")])
        self.wait(2)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])

    def test_an_address_is_asked_about_once_per_interval(self) -> None:
        self.add("a/0")
        self.add("b/0", address="WC:*")
        self.heard()
        for _ in range(3):
            self.outbox.returned("a/0")
            self.outbox.returned("b/0")
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("inquire", "WC:*")])

    def test_the_interval_outlives_the_job(self) -> None:
        self.add("a/0")
        self.outbox.returned("a/0")
        self.outbox.nobody("WB:*")
        self.heard()
        self.wait(1)
        self.add("b/0")
        self.outbox.returned("b/0")
        self.assertEqual(self.heard(), [("publish", "b/0", 0)])
        self.outbox.cancel("b/0")
        self.check_empty()

    def test_a_return_of_a_job_that_is_not_out_is_ignored(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.add("d/0", "e/0")
        self.heard()
        for key in ("a/0", "e/0", "never/0"):
            self.outbox.returned(key)
        self.assertEqual(self.heard(), [])

    def test_a_late_sweep_does_nothing_and_the_next_one_does_all(self) -> None:
        self.add("a/0", "b/0")
        self.add("c/0", deadline=1)
        self.outbox.acked("WB:1", ["b/0"])
        self.heard()
        self.clock.advance(2 + TICK)
        self.assertEqual(self.heard(), [])
        self.clock.advance(TICK)
        self.assertEqual(
            self.heard(),
            [
                ("failed", "c/0", JobTimeout),
                ("inquire", "WB:*"),
                ("publish", "a/0", 1),
                ("probe", "WB:1", ["b/0"]),
            ],
        )

    def test_a_sweep_that_is_half_a_second_late_does_its_work(self) -> None:
        self.add("a/0", deadline=0.25)
        self.heard()
        self.clock.advance(TICK + 0.5)
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout)])

    def test_when_all_sweeps_are_late_every_other_one_does_its_work(self) -> None:
        self.add("a/0")
        self.heard()
        for _ in range(4):
            self.clock.advance(2)
        self.assertEqual(
            self.heard(),
            [("inquire", "WB:*"), ("publish", "a/0", 1), ("inquire", "WB:*"), ("publish", "a/0", 2)],
        )


class PauseTests(OutboxCase):
    def test_nothing_is_published_until_it_resumes(self) -> None:
        self.outbox.pause()
        self.add("a/0", "b/0", "c/0")
        self.add("d/0", address="WC:*")
        self.assertEqual(self.heard(), [])
        self.outbox.resume()
        self.assertEqual(self.heard(), [("publish", "a/0", 0), ("publish", "b/0", 0), ("publish", "d/0", 0)])

    def test_the_copies_time_stands_still(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.wait(1)
        self.heard()
        self.outbox.pause()
        self.wait(2)
        self.outbox.pause()
        self.wait(2)
        self.outbox.resume()
        self.outbox.resume()
        self.wait(1 - TICK)
        self.assertEqual(self.heard(), [])
        self.wait(TICK)
        self.assertEqual(
            self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("probe", "WB:1", ["b/0"])]
        )

    def test_deadlines_and_news_go_on(self) -> None:
        self.add("a/0", "b/0", deadline=1)
        self.outbox.pause()
        self.heard()
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 5)
        self.wait(1)
        self.assertEqual(
            self.heard(),
            [("taken", "a/0", "WB:1"), ("done", "a/0", "WB:1", 5), ("failed", "b/0", JobTimeout)],
        )

    def test_a_transport_that_fills_up_stops_the_rest(self) -> None:
        self.outbox.pause()
        self.add("a/0", "b/0")
        self.during_publish = lambda sent: self.outbox.pause()
        self.outbox.resume()
        self.assertEqual(self.heard(), [("publish", "a/0", 0)])
        self.outbox.resume()
        self.assertEqual(self.heard(), [("publish", "b/0", 0)])
        self.outbox.resume()
        self.during_publish = lambda sent: self.outbox.pause()
        self.wait(3)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1)])

    def test_a_pause_between_two_probes_puts_off_the_second(self) -> None:
        self.add("a/0")
        self.add("b/0", address="WC:*")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WC:1", ["b/0"])
        self.outbox._probe = lambda worker, keys: self.outbox.pause()
        self.wait(2)
        self.heard()
        self.outbox._probe = lambda worker, keys: self.events.append(("probe", worker, keys))
        self.wait(1)
        self.assertEqual(self.heard(), [])
        self.outbox.resume()
        self.wait(TICK)
        self.assertEqual(self.heard(), [("probe", "WC:1", ["b/0"])])


class ProbeTests(OutboxCase):
    def test_a_taker_is_probed_for_all_it_has(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.wait(1)
        self.add("c/0")
        self.outbox.acked("WB:1", ["c/0"])
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("probe", "WB:1", ["a/0", "b/0", "c/0"])])
        self.outbox.status("WB:1", ["a/0", "c/0"], ["b/0"], [])
        self.wait(2)
        self.assertEqual(self.heard(), [("probe", "WB:1", ["a/0", "b/0", "c/0"])])

    def test_each_taker_is_probed(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["b/0"])
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("probe", "WB:1", ["a/0"]), ("probe", "WB:2", ["b/0"])])

    def test_a_dead_takers_jobs_are_missed_within_two_seconds_whenever_it_took_them(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.wait(0.1)
        self.add("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("probe", "WB:1", ["b/0"])])

    def test_a_taker_that_has_nothing_is_not_probed(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.heard()
        self.wait(3)
        self.assertEqual(self.heard(), [])

    def test_the_latest_taker_is_probed(self) -> None:
        self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:2"):
            self.outbox.acked(worker, ["a/0"])
        self.assertEqual(self.heard()[1:], [("taken", "a/0", "WB:1"), ("taken", "a/0", "WB:2")])
        self.wait(2)
        self.assertEqual(self.heard(), [("probe", "WB:2", ["a/0"])])

    def test_what_the_taker_does_not_know_is_sent_again_at_once(self) -> None:
        (job, _) = self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.heard()
        self.outbox.status("WB:1", [], [], ["a/0", "a/0", "never/0"])
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.assertEqual((job.state, job.taker), (OUT, None))

    def test_what_another_took_since_is_left_with_it(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["a/0"])
        self.heard()
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.heard(), [])
        self.assertEqual((job.state, job.taker), (TAKEN, "WB:2"))

    def test_what_a_dead_taker_had_is_sent_again_in_order_before_what_waits(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.add("c/0")
        self.add("d/0", "e/0")
        self.heard()
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.heard(), [])
        for key in ("c/0", "d/0", "a/0"):
            self.outbox.succeeded(key, "WB:2", None)
        published = [event for event in self.heard() if event[0] == "publish"]
        self.assertEqual(published, [("publish", "a/0", 1), ("publish", "b/0", 1), ("publish", "e/0", 0)])

    def test_a_late_ack_finds_a_job_that_waits_to_be_sent_again(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.add("b/0", "c/0")
        self.outbox.taker_gone("WB:1")
        self.heard()
        self.outbox.acked("WB:2", ["a/0"])
        self.assertEqual(self.heard(), [("taken", "a/0", "WB:2")])
        self.outbox.done("WB:2", ["a/0", "b/0", "c/0"])
        self.check_empty()

    def test_a_status_is_an_ack(self) -> None:
        self.add("a/0", "b/0")
        self.heard()
        self.outbox.status("WB:1", ["a/0"], ["b/0"], [])
        self.assertEqual(self.heard(), [("taken", "a/0", "WB:1"), ("taken", "b/0", "WB:1")])


class OnceTests(OutboxCase):
    """Jobs that must not run twice."""

    def once(self, *keys: str, deadline: float = 30.0) -> list[PendingJob]:
        jobs = [self.sent(key, deadline=deadline) for key in keys]
        for sent in jobs:
            sent.redeliver = False
            self.outbox.add(sent)
        return jobs

    def take(self, *keys: str) -> None:
        self.once(*keys)
        self.outbox.acked("WB:1", keys)
        self.heard()

    def test_one_copy_leaves_and_whether_anybody_is_there_is_asked(self) -> None:
        self.once("a/0", deadline=5)
        self.wait(4)
        self.assertEqual(self.heard(), [("publish", "a/0", 0), ("inquire", "WB:*"), ("inquire", "WB:*")])
        self.wait(1)
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout)])
        self.check_empty()

    def test_nobody_is_there(self) -> None:
        self.once("a/0")
        self.outbox.returned("a/0")
        self.outbox.nobody("WB:*")
        self.assertEqual(
            self.heard(), [("publish", "a/0", 0), ("inquire", "WB:*"), ("failed", "a/0", NoWorkerAvailable)]
        )
        self.check_empty()

    def test_a_copy_that_came_back_was_not_run_and_is_replaced_in_its_time(self) -> None:
        self.once("a/0", "b/0")
        self.outbox.returned("a/0")
        self.outbox.refused("WB:1", ["b/0"], unrun=True)
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])
        self.wait(3)
        self.assertEqual(self.heard(), [("inquire", "WB:*")])
        self.outbox.done("WB:1", ["a/0", "b/0"])
        self.check_empty()

    def test_a_copy_that_was_delivered_before_may_have_run(self) -> None:
        (job,) = self.once("a/0")
        self.add("b/0")
        self.heard()
        self.outbox.refused("WB:1", ["a/0", "b/0", "never/0"], unrun=False)
        self.assertEqual(
            self.heard(), [("failed", "a/0", WorkerLost), ("inquire", "WB:*"), ("publish", "b/0", 1)]
        )
        assert isinstance(job.owner, Told)
        self.assertIn("has not acknowledged it", str(job.owner.error))
        self.outbox.done("WB:1", ["b/0"])
        self.check_empty()

    def test_a_copy_that_was_delivered_before_says_nothing_of_one_who_has_it(self) -> None:
        self.take("a/0")
        for unrun in (False, True):
            self.outbox.refused("WB:2", ["a/0"], unrun=unrun)
        self.assertEqual(self.heard(), [])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_a_taker_that_forgot_it(self) -> None:
        self.take("a/0")
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.assertEqual(self.heard(), [("failed", "a/0", WorkerLost)])
        self.check_empty()

    def test_a_taker_that_stays_away_for_two_probes_more(self) -> None:
        self.take("a/0")
        self.add("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.taker_gone("WB:1")
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.heard()[-2:], [("inquire", "WB:*"), ("publish", "b/0", 1)])
        self.outbox.done("WB:2", ["b/0"])
        self.wait(2)
        self.outbox.taker_gone("WB:1")
        self.wait(2)
        self.assertEqual(self.heard()[1:], [("probe", "WB:1", ["a/0"])] * 2)
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.heard(), [("failed", "a/0", WorkerLost)])
        self.check_empty()

    def test_a_taker_that_was_away_and_is_back_was_not_lost(self) -> None:
        self.take("a/0")
        for _ in range(3):
            self.wait(2)
            self.outbox.taker_gone("WB:1")
            self.outbox.status("WB:1", ["a/0"], [], [])
        self.assertEqual(self.heard(), [("probe", "WB:1", ["a/0"])] * 3)


class EndTests(OutboxCase):
    def test_the_first_result_wins(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.heard()
        self.outbox.succeeded("a/0", "WB:2", {"n": 1})
        self.outbox.succeeded("a/0", "WB:1", {"n": 2})
        self.outbox.failed("a/0", RemoteError("late"))
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.status("WB:1", ["a/0"], [], ["a/0"])
        self.assertEqual(self.heard(), [("done", "a/0", "WB:2", {"n": 1})])
        self.assertEqual(job.state, ENDED)
        self.check_empty()

    def test_a_result_is_an_ack(self) -> None:
        self.add("a/0")
        self.heard()
        self.outbox.succeeded("a/0", "WB:1", None)
        self.assertEqual(self.heard(), [("done", "a/0", "WB:1", None)])
        self.check_empty()

    def test_a_hop_whose_successor_is_done(self) -> None:
        self.add("a/1", "b/1")
        self.outbox.acked("WB:1", ["a/1"])
        self.heard()
        self.outbox.done("WB:1", ["a/1", "b/1", "never/1"])
        self.assertEqual(self.heard(), [("done", "a/1", "WB:1", None), ("done", "b/1", "WB:1", None)])
        self.check_empty()

    def test_a_failure(self) -> None:
        self.add("a/0")
        self.heard()
        self.outbox.failed("a/0", RemoteError("no"))
        self.assertEqual(self.heard(), [("failed", "a/0", RemoteError)])
        self.check_empty()

    def test_the_deadline_of_a_taken_job(self) -> None:
        (job,) = self.add("a/0", deadline=3)
        self.wait(2)
        self.outbox.acked("WB:1", ["a/0"])
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("cancel", "WB:1", "a/0"), ("failed", "a/0", JobTimeout)])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 3.0 s: sent 2 times, first after 0.0 s, taken by WB:1 after 2.0 s",
        )
        self.check_empty()

    def test_the_deadline_of_a_job_that_nobody_took(self) -> None:
        (job,) = self.add("a/0", deadline=1)
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout)])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 1.0 s: sent once, first after 0.0 s; no worker has acknowledged it: "
            "all are busy, or the one that has it cannot answer",
        )
        self.check_empty()

    def test_jobs_that_wait_are_not_sent_when_they_expire_with_those_ahead(self) -> None:
        *_, job = self.add("a/0", "b/0", "c/0", deadline=1)
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("failed", key, JobTimeout) for key in ("a/0", "b/0", "c/0")])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 1.0 s: not sent; 2 jobs for the address were sent and not taken, 1 waited",
        )
        self.check_empty()

    def test_a_deadline_without_a_queue_or_a_connection(self) -> None:
        first, second = self.add("a/0", "b/0", deadline=3)
        self.outbox.returned("a/0")
        self.wait(1)
        self.outbox.pause("the broker blocks publishers")
        self.outbox.returned("b/0")
        self.wait(2)
        self.assertIn("taken by no worker, as there was no queue for it", str(self.error(first)))
        self.assertIn("for 2.0 s nothing could be published: the broker blocks pub", str(self.error(second)))
        self.check_empty()

    def test_the_deadline_of_one_who_waits_for_a_durable_job(self) -> None:
        stored, taken, on_its_way = (self.sent(key, deadline=1) for key in ("a/0", "b/0", "c/0"))
        for sent in (stored, taken, on_its_way):
            self.outbox.watch(sent)
        self.outbox.stored("a/0")
        self.outbox.stored("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.wait(1)
        self.assertIn(
            "the broker has the job, which may still be done; no worker has taken it", str(self.error(stored))
        )
        self.assertIn("the broker has the job, which may still be done; WB:1 took", str(self.error(taken)))
        self.assertIn("has not confirmed that it has the job", str(self.error(on_its_way)))
        self.check_empty()

    def test_deadlines_come_in_their_own_order(self) -> None:
        self.add("a/0", deadline=1.5)
        self.add("b/0", deadline=0.5)
        self.heard()
        self.wait(0.5)
        self.assertEqual(self.heard(), [("failed", "b/0", JobTimeout)])
        self.wait(1)
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout)])

    def test_a_key_that_came_again_has_its_new_deadline(self) -> None:
        self.add("a/0", deadline=1)
        self.outbox.succeeded("a/0", "WB:1", None)
        self.add("a/0", deadline=1.5)
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [])
        self.wait(0.5)
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout)])

    def test_cancelling(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.heard()
        for key in ("a/0", "b/0", "c/0", "never/0"):
            self.outbox.cancel(key)
        self.assertEqual(
            self.heard(),
            [
                ("cancel", "WB:1", "a/0"),
                ("failed", "a/0", JobCancelled),
                ("failed", "b/0", JobCancelled),
                ("failed", "c/0", JobCancelled),
            ],
        )
        self.check_empty()

    def test_nobody_fails_what_nobody_took(self) -> None:
        self.add("taken/0")
        self.outbox.acked("WB:1", ["taken/0"])
        self.add("other/0", address="WC:*")
        _, _, job = self.add("a/0", "b/0", "c/0")
        for key in ("a/0", "b/0"):
            self.outbox.returned(key)
        self.heard()
        self.outbox.nobody("WB:*")
        self.assertEqual(self.heard(), [("failed", key, NoWorkerAvailable) for key in ("a/0", "b/0", "c/0")])
        self.assertEqual(str(self.error(job)), "No worker available for this job: WB:*")
        self.outbox.nobody("WB:*")
        self.assertEqual(self.heard(), [])
        self.outbox.done("WB:1", ["taken/0", "other/0"])
        self.check_empty()

    def test_nobody_does_not_fail_what_somebody_may_have(self) -> None:
        self.add("out/0", "missing/0")
        self.outbox.acked("WB:1", ["missing/0"])
        self.outbox.taker_gone("WB:1")
        self.wait(8)
        for key in ("out/0", "missing/0"):  # copies of each reached somebody
            self.outbox.returned(key)
        self.outbox.nobody("WB:*")
        self.assertEqual([event for event in self.heard() if event[0] == "failed"], [])
        self.outbox.status("WB:1", ["missing/0"], [], [])
        self.outbox.succeeded("out/0", "WB:1", 1)
        self.outbox.succeeded("missing/0", "WB:1", 2)
        self.check_empty()

    def test_a_few_copies_may_lie_in_a_queue_without_workers(self) -> None:
        self.add("a/0")
        self.wait(4)
        self.outbox.nobody("WB:*")
        self.assertEqual(self.heard()[-1], ("failed", "a/0", NoWorkerAvailable))
        self.check_empty()

    def test_a_copy_that_went_with_its_queue_is_told_of(self) -> None:
        (job,) = self.add("a/0")
        self.wait(2)
        self.outbox.returned("a/0")
        self.outbox.nobody("WB:*")
        self.assertEqual(self.heard()[-1], ("failed", "a/0", NoWorkerAvailable))
        self.assertIn(
            "a copy of the job reached a queue, and no worker has acknowledged it", str(self.error(job))
        )
        self.check_empty()

    def test_a_job_that_is_sent_because_another_failed_is_not_failed_with_it(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.returned("a/0")
        self.patch(job.owner, "failed", lambda error: self.add("again/0"))
        self.heard()
        self.outbox.nobody("WB:*")
        self.assertEqual(self.heard(), [("publish", "again/0", 0)])

    def test_closing_fails_all_in_order_and_what_comes_after(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.returned("a/0")
        self.heard()
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.heard(), [("failed", key, WorkerStopped) for key in ("a/0", "b/0", "c/0")])
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))
        self.add("d/0")
        self.outbox.watch(self.sent("e/0"))
        self.assertEqual(self.heard(), [("failed", "d/0", WorkerStopped), ("failed", "e/0", WorkerStopped)])
        self.assertEqual((len(self.outbox), self.clock.getDelayedCalls()), (0, []))

    def test_closing_an_idle_outbox(self) -> None:
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.heard(), [])

    def test_closing_from_within_an_end(self) -> None:
        (job, _) = self.add("a/0", "b/0", deadline=1)
        self.patch(job.owner, "failed", lambda error: self.outbox.close(WorkerStopped("bye")))
        self.heard()
        self.wait(1)
        self.assertEqual(self.heard(), [("failed", "b/0", JobTimeout)])
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))

    def test_closing_from_within_a_publish(self) -> None:
        self.during_publish = lambda sent: self.outbox.close(WorkerStopped("bye"))
        self.outbox.pause()
        self.add("a/0", "b/0")
        self.outbox.resume()
        self.assertEqual(
            self.heard(),
            [("publish", "a/0", 0), ("failed", "a/0", WorkerStopped), ("failed", "b/0", WorkerStopped)],
        )
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))

    def error(self, job: PendingJob) -> JobError | None:
        assert isinstance(job.owner, Told)
        return job.owner.error


class BoundTests(OutboxCase):
    max_jobs = 3
    max_bytes = 100

    def put(self, key: str, size: int) -> None:
        sent = self.sent(key)
        sent.size = size
        self.outbox.add(sent)

    def test_more_jobs_than_may_be_kept_are_refused(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.watch(self.sent("c/0"))
        self.heard()
        error = self.assertRaises(BusOverloaded, self.add, "d/0")
        self.assertTrue(error.retryable)
        self.assertRaises(BusOverloaded, self.outbox.watch, self.sent("e/0"))
        self.assertFalse(self.outbox.add(self.sent("a/0")))
        self.assertEqual(self.heard(), [])
        self.outbox.cancel("c/0")
        self.add("d/0")
        self.outbox.done("WB:1", ["a/0", "b/0", "d/0"])
        self.check_empty()

    def test_more_bytes_than_may_be_kept_are_refused(self) -> None:
        self.put("a/0", 60)
        self.assertRaises(BusOverloaded, self.put, "b/0", 41)
        self.put("c/0", 40)
        self.outbox.done("WB:1", ["a/0"])
        self.put("b/0", 60)
        self.outbox.done("WB:1", ["b/0", "c/0"])
        self.assertEqual(self.outbox._bytes, 0)
        self.check_empty()


class KeptTests(OutboxCase):
    """Durable jobs: only their end is awaited here."""

    max_bytes = 100

    def watch(self, key: str, deadline: float = 30.0, size: int = 0) -> PendingJob:
        sent = self.sent(key, deadline=deadline)
        sent.size = size
        self.outbox.watch(sent)
        return sent

    def test_nothing_is_sent_nor_asked(self) -> None:
        job = self.watch("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.returned("a/0")
        self.outbox.taker_gone("WB:1")
        self.outbox.nobody("WB:*")
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.wait(20)
        self.assertEqual((self.heard(), job.state), ([("taken", "a/0", "WB:1")], DURABLE))
        self.outbox.succeeded("a/0", "WB:1", 5)
        self.assertEqual(self.heard(), [("done", "a/0", "WB:1", 5)])
        self.check_empty()

    def test_each_taker_is_told_of(self) -> None:
        self.watch("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["a/0"])
        self.outbox.failed("a/0", RemoteError("no"))
        self.assertEqual(
            self.heard(), [("taken", "a/0", "WB:1"), ("taken", "a/0", "WB:2"), ("failed", "a/0", RemoteError)]
        )
        self.check_empty()

    def test_its_wait_has_a_deadline_and_can_be_cancelled_and_no_taker_hears(self) -> None:
        self.watch("a/0", deadline=1.0)
        self.watch("b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.heard()
        self.wait(1)
        self.outbox.cancel("b/0")
        self.assertEqual(self.heard(), [("failed", "a/0", JobTimeout), ("failed", "b/0", JobCancelled)])
        self.check_empty()

    def test_once_stored_it_takes_no_bytes(self) -> None:
        self.watch("a/0", size=60)
        self.assertRaises(BusOverloaded, self.watch, "b/0", size=41)
        for _ in range(2):
            self.outbox.stored("a/0")
        self.outbox.stored("of another time/0")
        self.watch("b/0", size=100)
        self.outbox.done("WB:1", ["a/0", "b/0"])
        self.assertEqual(self.outbox._bytes, 0)
        self.check_empty()


class DeathTests(OutboxCase):
    """Takers that are missing are counted against a job."""

    def die(self, worker: str, *keys: str) -> None:
        self.outbox.acked(worker, keys)
        self.outbox.taker_gone(worker)

    def test_after_three_it_is_given_up(self) -> None:
        (job,) = self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:3"):
            self.die(worker, "a/0")
        self.assertEqual(job.state, TAKEN)  # the third may only be reconnecting
        self.wait(4)
        self.outbox.taker_gone("WB:3")
        self.assertEqual(self.heard()[-1], ("failed", "a/0", WorkerLost))
        self.assertEqual(
            str(job.owner.error),  # type: ignore[attr-defined]
            "WB:1, WB:2, WB:3 took it, and none has it any more: it may be what ends them",
        )
        self.check_empty()

    def test_only_what_a_worker_took_last_is_counted(self) -> None:
        (early,) = self.add("early/0", deadline=600)
        for number in range(19):
            (late,) = self.add(f"late{number}/0")
            worker = f"WB:{number}"
            self.outbox.acked(worker, ["early/0", late.key])
            self.outbox.taker_gone(worker)
            self.assertEqual((late.blamed_takers, late.state), ((worker,), OUT))
            self.outbox.succeeded(late.key, "WB:99", None)
        self.assertEqual((early.blamed_takers, len(early.missing_takers), early.state), ((), 19, OUT))
        (late,) = self.add("late/0")
        self.outbox.acked("WB:20", ["early/0", "late/0"])
        for _ in range(2):  # it ends them after a while: that must not go on for ever, either
            self.outbox.taker_gone("WB:20")
            self.wait(4)
        self.outbox.succeeded("late/0", "WB:99", None)
        self.assertIsInstance(self.error_of(early), WorkerLost)
        self.check_empty()

    def error_of(self, job: PendingJob) -> Any:
        assert isinstance(job.owner, Told)
        return job.owner.error

    def test_who_comes_back_is_not_counted(self) -> None:
        (job,) = self.add("a/0", deadline=60)
        for _ in range(5):
            for worker in ("WB:1", "WB:2"):
                self.die(worker, "a/0")
            self.outbox.status("WB:1", [], [], ["a/0"])
            self.assertEqual((job.state, job.missing_takers), (OUT, ("WB:2",)))
            self.outbox.status("WB:2", [], [], ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_who_is_missing_is_asked_and_may_have_it_yet(self) -> None:
        (job,) = self.add("a/0")
        self.die("WB:1", "a/0")
        self.heard()
        self.wait(2)
        self.assertIn(("probe", "WB:1", ["a/0"]), self.heard())
        self.outbox.status("WB:1", ["a/0"], [], [])
        self.assertEqual((job.state, job.taker, job.missing_takers), (TAKEN, "WB:1", ()))
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_one_that_is_started_again_under_its_id_is_counted_each_time(self) -> None:
        (job,) = self.add("a/0")
        for _ in range(3):
            self.assertEqual(job.state, OUT)
            self.outbox.acked("WB:1", ["a/0"])
            self.outbox.status("WB:1", [], [], ["a/0"])
        self.assertEqual(self.heard()[-1], ("failed", "a/0", WorkerLost))
        self.check_empty()

    def test_who_stops_or_loses_its_connection_before_it_took_the_job_is_not_counted(self) -> None:
        (job,) = self.add("a/0")
        for copies in range(2, 6):  # given back, so that the next one is told that it was delivered before
            self.outbox.refused("WB:2", ["a/0"], unrun=False)
            self.assertEqual((job.state, job.missing_takers, job.copies), (OUT, (), copies))
        self.outbox.succeeded("a/0", "WC:1", 1)
        self.check_empty()

    def test_who_has_passed_it_on_is_not_counted(self) -> None:
        (job,) = self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:3"):
            self.outbox.acked(worker, ["a/0"])
            self.outbox.status(worker, [], ["a/0"], [])
            self.outbox.taker_gone(worker)
        self.assertEqual((job.state, job.missing_takers), (OUT, ()))
        self.outbox.succeeded("a/0", "WC:1", 1)
        self.check_empty()

    def test_the_deadline_names_who_is_missing(self) -> None:
        (job,) = self.add("a/0", deadline=1)
        self.die("WB:1", "a/0")
        self.wait(1)
        self.assertIn("taken before by WB:1, missing since", str(job.owner.error))  # type: ignore[attr-defined]
        self.check_empty()


class MistakesTests(OutboxCase):
    """What the callables do wrong costs nobody else anything."""

    def test_an_owner_that_raises(self) -> None:
        for key in ("a/0", "b/0"):
            self.outbox.add(self.sent(key, owner=Raising))
        self.add("c/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.heard()
        self.outbox.succeeded("a/0", "WB:1", None)
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.heard(), [("failed", "c/0", WorkerStopped)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_a_copy_whose_publishing_raises_is_lost(self) -> None:
        def fail(sent: PendingJob) -> None:
            raise ZeroDivisionError

        self.during_publish = fail
        self.add("a/0", "b/0")
        self.during_publish = lambda sent: None
        self.heard()
        self.wait(2)
        self.assertEqual(self.heard(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_the_sweep_goes_on_after_a_mistake(self) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(self.outbox._dispatch, "_inquire", fail)
        self.patch(self.outbox, "_probe", fail)
        self.patch(self.outbox, "_cancel", fail)
        self.add("a/0", "b/0", deadline=3)
        self.outbox.acked("WB:1", ["b/0"])
        self.heard()
        self.wait(3)
        self.assertEqual(
            self.heard(),
            [("publish", "a/0", 1), ("failed", "a/0", JobTimeout), ("failed", "b/0", JobTimeout)],
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class MemoryTests(OutboxCase):
    window = 100

    def test_what_was_given_up_untaken_is_remembered_in_bounds(self) -> None:
        with_limit = 10_000
        for number in range(with_limit + 10):
            [sent] = self.add(f"job{number}", address=f"WB:{number}")
            self.outbox.cancel(sent.key)
        self.assertEqual(len(self.outbox._abandoned), with_limit)
        self.check_empty()

    def test_ended_jobs_leave_nothing_behind(self) -> None:
        ends: list[Callable[[str], None]] = [
            lambda key: self.outbox.succeeded(key, "WB:1", None),
            lambda key: self.outbox.failed(key, RemoteError("no")),
            lambda key: self.outbox.done("WB:1", [key]),
            lambda key: self.outbox.cancel(key),
            lambda key: self.outbox.acked("WB:1", [key]),
            lambda key: self.outbox.returned(key),
            lambda key: None,
        ]
        keys = [f"job{n}/0" for n in range(10_000)]
        self.add(*keys, deadline=5)
        for n, key in enumerate(keys):
            ends[n % len(ends)](key)
        self.outbox.nobody("WB:*")
        self.outbox.taker_gone("WB:1")
        self.wait(5)
        self.check_empty()
        ended = Counter(event[1] for event in self.heard() if event[0] in ("done", "failed"))
        self.assertEqual(ended, dict.fromkeys(keys, 1))

    def test_deadlines_of_ended_jobs_are_not_kept_until_they_pass(self) -> None:
        self.add("long/0")
        for n in range(1000):
            self.add(f"short{n}/0")
            self.outbox.succeeded(f"short{n}/0", "WB:1", None)
        self.wait(TICK)
        self.assertEqual(len(self.outbox._deadlines), 1)
        self.heard()
        self.wait(30)
        self.assertIn(("failed", "long/0", JobTimeout), self.heard())

    def test_the_timer_stops_with_the_last_job(self) -> None:
        self.add("a/0")
        self.outbox.succeeded("a/0", "WB:1", None)
        self.wait(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AnythingMayHappen(RuleBasedStateMachine):
    """Acks, losses, returns and stops in any order: the window holds, and each job ends once."""

    workers = st.sampled_from(["WB:1", "WB:2", "WB:3", "WB:4"])
    addresses = st.sampled_from(["WB:*", "WC:*"])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.jobs: list[PendingJob] = []
        self.paused = False
        self.outbox = Outbox(
            self.clock,
            publish=self.publish,
            inquire=lambda address: self.events.append(("inquire", address, self.clock.seconds())),
            probe=lambda worker, keys: self.events.append(("probe", worker)),
            cancel=lambda worker, key: self.events.append(("cancel", key)),
            gave_up=lambda error: None,
            window=3,
            tick=TICK,
        )

    def publish(self, sent: PendingJob) -> None:
        assert not self.paused
        self.events.append(("publish", sent.key))

    def some(self, number: int) -> str:
        """A job's key; late news of jobs that have ended are part of the game."""
        return self.jobs[number % len(self.jobs)].key

    @rule(address=addresses, deadline=st.integers(1, 40), count=st.integers(1, 4))
    def add(self, address: str, deadline: int, count: int) -> None:
        for _ in range(count):
            key = f"{len(self.jobs)}/0"
            at = self.clock.seconds() + deadline
            sent = PendingJob(key, key, address, b"", at, Told(self.events, key))
            self.jobs.append(sent)
            self.outbox.add(sent)

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, numbers=st.lists(st.integers(0, 99), max_size=4))
    def acked(self, worker: str, numbers: list[int]) -> None:
        self.outbox.acked(worker, [self.some(number) for number in numbers])

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, number=st.integers(0, 99))
    def succeeded(self, worker: str, number: int) -> None:
        self.outbox.succeeded(self.some(number), worker, number)

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def failed(self, number: int) -> None:
        self.outbox.failed(self.some(number), RemoteError("no"))

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def returned(self, number: int) -> None:
        self.outbox.returned(self.some(number))

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        self.outbox.cancel(self.some(number))

    @precondition(lambda self: self.jobs)
    @rule(
        worker=workers,
        running=st.integers(0, 99),
        forwarded=st.integers(0, 99),
        unknown=st.lists(st.integers(0, 99), max_size=4),
    )
    def status(self, worker: str, running: int, forwarded: int, unknown: list[int]) -> None:
        keys = [self.some(number) for number in unknown]
        self.outbox.status(worker, [self.some(running)], [self.some(forwarded)], keys)

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, number=st.integers(0, 99), unrun=st.booleans())
    def refused(self, worker: str, number: int, unrun: bool) -> None:
        self.outbox.refused(worker, [self.some(number)], unrun=unrun)

    @rule(worker=workers)
    def taker_gone(self, worker: str) -> None:
        self.outbox.taker_gone(worker)

    @rule(address=addresses)
    def nobody(self, address: str) -> None:
        self.outbox.nobody(address)

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.outbox.pause()

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.outbox.resume()

    @rule(ticks=st.integers(1, 40))
    def wait(self, ticks: int) -> None:
        self.clock.pump([TICK] * ticks)

    @rule(seconds=st.integers(1, 5))
    def stand_still(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_window_holds_and_is_used(self) -> None:
        for address in ("WB:*", "WC:*"):
            states = Counter(job.state for job in self.jobs if job.address == address)
            assert states[OUT] <= 3
            assert self.paused or states[OUT] == 3 or not states[WAITING]

    @invariant()
    def those_that_have_not_ended_are_here(self) -> None:
        assert len(self.outbox) == sum(job.state != ENDED for job in self.jobs)

    def teardown(self) -> None:
        self.resume()
        self.clock.pump([TICK] * int(45 / TICK))
        ended = Counter(event[1] for event in self.events if event[0] in ("done", "failed"))
        assert ended == {job.key: 1 for job in self.jobs}
        assert leftovers(self.outbox) == {}
        assert self.clock.getDelayedCalls() == []
        for address in ("WB:*", "WC:*"):
            asked = [event[2] for event in self.events if event[:2] == ("inquire", address)]
            assert all(later - earlier >= 2 for earlier, later in pairwise(asked))


class AnythingMayHappenTests(SynchronousTestCase):
    def test_each_job_ends_once_and_nothing_is_left_behind(self) -> None:
        run_state_machine_as_test(
            AnythingMayHappen,
            settings=settings(
                max_examples=60, stateful_step_count=40, derandomize=True, database=None, deadline=None
            ),
        )
