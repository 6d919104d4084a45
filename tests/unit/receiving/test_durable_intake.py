"""The intake of durable jobs: exact sequences of started jobs, stored copies and settled deliveries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.support.deliveries import NotingChannel
from txmicro.errors import BadRequest, JobError, JobTimeout, NotStored, RemoteError, WorkerLost
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.durable_headers import lasting, number
from txmicro.protocol.durable_message import DurableMessage
from txmicro.protocol.failures import describe, from_header, to_header
from txmicro.protocol.job import Job
from txmicro.protocol.messages import JOB
from txmicro.protocol.parcel import Parcel
from txmicro.receiving.durable_intake import DurableIntake
from txmicro.receiving.retry import RetryPolicy
from txmicro.receiving.slots import Slots

OWN = topology.durable_exchange("WB")
LATE = JobTimeout("late")
NOW = 1_800_000_000.0
NOW_MS = 1_800_000_000_000


def job(name: str = "a") -> Job:
    return Job(name, None, ["WB:*"], 0, "WA:1", "WA:1", 30.0, durable=True)


class IntakeCase(SynchronousTestCase):
    most = 2
    memory = 2

    def setUp(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.during_start: Callable[[Job], object] = lambda job: None
        self.channel = NotingChannel(self.events, requeue="give back")
        self.slots = Slots(10)
        self.parcels: list[Parcel] = []
        self.storing: list[Deferred[None]] = []
        self.now = NOW
        self.intake = DurableIntake(
            "WB",
            RetryPolicy(attempts=3, steps=(1.0, 2.0)),
            self.slots,
            self,
            most=self.most,
            time=lambda: self.now,
            memory=self.memory,
        )

    def start(self, job: Job) -> None:
        self.events.append(("start", job.id))
        self.during_start(job)

    def repeat(self, key: str) -> None:
        self.events.append(("repeat", key))

    def gave_up(self, job: Job, error: JobError) -> None:
        self.events.append(("gave up", job.id, type(error), error.message))

    def store(self, parcel: Parcel) -> Deferred[None]:
        self.events.append(("store", parcel.exchange, parcel.routing_key))
        self.parcels.append(parcel)
        self.storing.append(Deferred())
        return self.storing[-1]

    def delivery(self, name: str = "a", mark: str = "", **attributes: Any) -> DurableMessage:
        """Return the message of a job. Its settling is recorded under the job's name and *mark*."""
        content = job(name)
        delivery = self.channel.deliver(name + mark)
        return DurableMessage(content, content.key, b"body", "application/json", [delivery], **attributes)

    def lose_channel(self) -> None:
        """Close the channel, and open another one."""
        self.channel.closed = True
        self.channel = NotingChannel(self.events, requeue="give back")
        self.intake.reset()

    def arrive(self, name: str = "a", mark: str = "", **attributes: Any) -> DurableMessage:
        delivery = self.delivery(name, mark, **attributes)
        self.intake.arrived(delivery)
        return delivery

    def fail_with(self, error: Exception, name: str = "a") -> bool:
        return self.intake.failed(job(name), error, describe(error, "WB:1"))

    def confirm(self) -> None:
        """Confirm the oldest parcel that is not confirmed."""
        self.storing.pop(0).callback(None)

    def heard(self) -> list[tuple[Any, ...]]:
        events, self.events[:] = list(self.events), []
        return events

    def check_empty(self) -> None:
        """Check that nothing is left."""
        self.assertEqual(self.heard(), [])
        self.assertEqual(len(self.intake), 0)
        self.successResultOf(self.intake.drain())


class RunningTests(IntakeCase):
    def test_it_is_acknowledged_when_it_has_succeeded(self) -> None:
        self.arrive()
        self.assertEqual(self.heard(), [("start", "a")])
        self.assertEqual(len(self.intake), 1)
        self.intake.succeeded(job())
        self.assertEqual(self.heard(), [("ack", "a")])
        self.check_empty()

    def test_jobs_beyond_the_slots_are_held_in_order(self) -> None:
        for name in "abcd":
            self.arrive(name)
        self.assertEqual(self.heard(), [("start", "a"), ("start", "b")])
        self.intake.succeeded(job("b"))
        self.assertEqual(self.heard(), [("ack", "b"), ("start", "c")])
        self.intake.succeeded(job("a"))
        self.assertEqual(self.heard(), [("ack", "a"), ("start", "d")])
        for name in "cd":
            self.intake.succeeded(job(name))

    def test_without_a_free_slot_a_job_waits(self) -> None:
        self.slots.paused = True
        self.arrive()
        self.assertEqual(self.heard(), [])
        self.slots.paused = False
        self.intake.start_held()
        self.assertEqual(self.heard(), [("start", "a")])

    def test_jobs_that_end_within_their_start_are_started_one_after_another(self) -> None:
        self.slots.paused = True
        for name in "abcd":
            self.arrive(name)
        self.during_start = self.intake.succeeded
        self.slots.paused = False
        self.intake.start_held()
        self.assertEqual(self.heard(), [(what, name) for name in "abcd" for what in ("start", "ack")])
        self.check_empty()


class FailingTests(IntakeCase):
    def test_a_failed_job_is_acknowledged_when_its_next_attempt_is_stored(self) -> None:
        self.arrive(
            headers={
                durable_headers.STORED: 5,
                durable_headers.ATTEMPT: 2,
                durable_headers.ATTEMPTS: 9,
                "x-death": [1],
            }
        )
        self.heard()
        self.assertFalse(self.fail_with(LATE))
        self.assertEqual(self.heard(), [("store", OWN, "retry.2000")])
        self.confirm()
        self.assertEqual(self.heard(), [("ack", "a")])
        (parcel,) = self.parcels
        self.assertEqual(
            (parcel.kind, parcel.key, parcel.body, parcel.content_type, parcel.expiration, parcel.patient),
            (JOB, "a/0", b"body", "application/json", None, True),
        )
        self.assertEqual(
            parcel.headers,
            {
                durable_headers.STORED: 5,
                durable_headers.ATTEMPT: 3,
                durable_headers.ATTEMPTS: 9,
                durable_headers.FAILURE: to_header(describe(LATE, "WB:1")),
                durable_headers.FAILED: NOW_MS,
            },
        )
        self.check_empty()

    def test_its_slot_is_free_before_the_next_attempt_is_stored(self) -> None:
        for name in "abc":
            self.arrive(name)
        self.heard()
        self.fail_with(LATE, "a")
        self.assertEqual(self.heard(), [("store", OWN, "retry.1000"), ("start", "c")])

    def test_after_the_last_attempt_it_is_a_dead_letter(self) -> None:
        self.arrive(headers={durable_headers.ATTEMPT: 3})
        self.assertTrue(self.fail_with(LATE))
        (parcel,) = self.parcels
        self.assertEqual((parcel.exchange, parcel.routing_key), (OWN, topology.DEAD))
        self.assertEqual(parcel.headers[durable_headers.REASON], durable_headers.EXHAUSTED)
        self.assertEqual(parcel.headers[durable_headers.ATTEMPT], 3)

    def test_a_failure_that_is_not_retryable_is_a_dead_letter(self) -> None:
        self.arrive()
        self.assertTrue(self.fail_with(BadRequest("no")))
        self.assertEqual(self.parcels[0].headers[durable_headers.REASON], durable_headers.NOT_RETRYABLE)

    def test_a_job_that_expires_before_its_next_attempt_is_a_dead_letter(self) -> None:
        self.arrive(headers={durable_headers.EXPIRES: NOW_MS + 1000})
        self.assertTrue(self.fail_with(LATE))
        self.assertEqual(self.parcels[0].headers[durable_headers.REASON], durable_headers.EXPIRED)
        self.assertEqual(self.parcels[0].headers[durable_headers.FAILURE]["message"], "late")

    def test_a_job_that_expires_later_is_tried_again(self) -> None:
        self.arrive(headers={durable_headers.EXPIRES: NOW_MS + 1001})
        self.assertFalse(self.fail_with(LATE))
        self.assertEqual(self.parcels[0].routing_key, "retry.1000")


class PuttingAwayTests(IntakeCase):
    def test_a_redelivered_job_is_quarantined_and_does_not_run(self) -> None:
        self.arrive(
            redelivered=True, headers={durable_headers.EXPIRES: NOW_MS + 500, durable_headers.STORED: 7}
        )
        self.assertEqual(self.heard(), [("store", OWN, topology.QUARANTINE)])
        self.assertEqual(
            self.parcels[0].headers, {durable_headers.EXPIRES: NOW_MS + 500, durable_headers.STORED: 7}
        )
        self.assertEqual(self.parcels[0].expiration, 500)
        self.confirm()
        self.assertEqual(self.heard(), [("ack", "a")])
        self.check_empty()

    def test_a_quarantined_job_runs_even_if_it_was_delivered_before(self) -> None:
        self.arrive(redelivered=True, quarantined=True)
        self.assertEqual(self.heard(), [("start", "a")])

    def test_a_quarantined_job_beyond_the_delivery_limit_does_not_run(self) -> None:
        for count in (topology.DELIVERY_LIMIT - 1, topology.DELIVERY_LIMIT):
            self.arrive(redelivered=True, quarantined=True, headers={durable_headers.COUNT: count})
            if count < topology.DELIVERY_LIMIT:
                self.assertEqual(self.heard(), [("start", "a")])
                self.intake.stopped(job())
                self.heard()
        why = "each worker that ran it is gone: it may be what ends them"
        self.assertEqual(self.heard(), [("gave up", "a", WorkerLost, why), ("store", OWN, topology.DEAD)])
        self.assertEqual(self.parcels[0].headers[durable_headers.REASON], durable_headers.DEATHS)
        self.assertEqual(self.parcels[0].headers[durable_headers.FAILURE]["message"], why)

    def test_a_job_that_expired_between_its_attempts_is_not_started(self) -> None:
        failure = {"type": "RemoteError", "module": "txmicro.errors", "message": "no"}
        self.arrive(
            headers={
                durable_headers.EXPIRES: NOW_MS,
                durable_headers.ATTEMPT: 2,
                durable_headers.FAILURE: failure,
            }
        )
        self.assertEqual(self.heard(), [("gave up", "a", RemoteError, "no"), ("store", OWN, topology.DEAD)])
        self.assertEqual(self.parcels[0].headers[durable_headers.REASON], durable_headers.EXPIRED)

    def test_in_the_first_queue_only_the_broker_decides_what_has_expired(self) -> None:
        self.arrive(headers={durable_headers.EXPIRES: NOW_MS - 3_600_000})
        self.assertEqual(self.heard(), [("start", "a")])

    def test_an_unreadable_job_is_a_dead_letter_with_any_key(self) -> None:
        self.arrive()
        self.heard()
        unreadable = [
            DurableMessage(None, "a/0", b"?", "", [self.channel.deliver(mark)])
            for mark in ("first", "second")
        ]
        for delivery in unreadable:
            self.intake.arrived(delivery)
        self.assertEqual(self.heard(), [("store", OWN, topology.DEAD)] * 2)
        self.assertEqual(
            self.parcels[0].headers,
            {durable_headers.REASON: durable_headers.UNREADABLE, durable_headers.ATTEMPT: 1},
        )
        self.confirm()
        self.confirm()
        self.intake.succeeded(job())
        self.assertEqual(self.heard(), [("ack", "first"), ("ack", "second"), ("ack", "a")])
        self.check_empty()


class AgainTests(IntakeCase):
    """A second delivery of the same job."""

    def test_copies_that_arrive_while_it_runs_are_settled_with_it(self) -> None:
        self.arrive()
        self.arrive(mark=" again", redelivered=True)
        self.arrive(mark=" from quarantine", quarantined=True)
        self.assertEqual(self.heard(), [("start", "a")])
        self.intake.succeeded(job())
        self.assertEqual(self.heard(), [("ack", "a"), ("ack", "a again"), ("ack", "a from quarantine")])
        self.check_empty()

    def test_copies_that_arrive_while_it_is_held_are_settled_with_it(self) -> None:
        self.slots.paused = True
        self.arrive()
        self.arrive(mark=" again", redelivered=True)
        self.slots.paused = False
        self.during_start = lambda job: self.events.append(("redelivered", job.redelivered))
        self.intake.start_held()
        self.intake.stopped(job())
        self.assertEqual(
            self.heard(),
            [("start", "a"), ("redelivered", True), ("give back", "a"), ("give back", "a again")],
        )

    def test_after_a_channel_lost_during_the_run_only_the_new_delivery_is_settled(self) -> None:
        self.arrive()
        self.arrive("b")
        self.arrive("held")
        self.lose_channel()
        self.arrive(mark=" again", redelivered=True)
        self.heard()
        for name in "ab":
            self.intake.succeeded(job(name))
        self.assertEqual(self.heard(), [("ack", "a again")])
        self.check_empty()

    def test_a_copy_of_a_job_that_succeeded_is_acknowledged_and_answered(self) -> None:
        self.arrive()
        self.intake.succeeded(job())
        self.heard()
        self.arrive(mark=" again", redelivered=True)
        self.assertEqual(self.heard(), [("ack", "a again"), ("repeat", "a/0")])

    def test_the_memory_of_succeeded_jobs_is_bounded(self) -> None:
        for name in "abc":
            self.arrive(name)
            self.intake.succeeded(job(name))
        self.heard()
        self.arrive("a")
        self.arrive("b")
        self.assertEqual(self.heard(), [("start", "a"), ("ack", "b"), ("repeat", "b/0")])

    def test_the_copy_for_the_next_attempt_may_arrive_before_the_confirm(self) -> None:
        """If it were acknowledged together with the original, the job would be lost."""
        self.arrive()
        self.fail_with(LATE)
        self.heard()
        self.arrive(mark=" next", headers={durable_headers.ATTEMPT: 2})
        self.confirm()
        self.assertEqual(self.heard(), [("start", "a"), ("ack", "a")])
        self.intake.succeeded(job())
        self.assertEqual(self.heard(), [("ack", "a next")])
        self.check_empty()

    def test_the_copy_in_the_quarantine_may_arrive_before_the_confirm(self) -> None:
        self.arrive(redelivered=True)
        self.heard()
        self.arrive(mark=" quarantined", quarantined=True, redelivered=True)
        self.confirm()
        self.assertEqual(self.heard(), [("start", "a"), ("ack", "a")])
        self.intake.succeeded(job())
        self.assertEqual(self.heard(), [("ack", "a quarantined")])

    def test_a_requeued_dead_letter_may_arrive_before_the_confirm(self) -> None:
        self.arrive()
        self.fail_with(BadRequest("no"))
        self.heard()
        self.arrive(mark=" requeued")
        self.confirm()
        self.assertEqual(self.heard(), [("start", "a"), ("ack", "a")])

    def test_the_same_message_delivered_again_while_its_copy_is_stored_is_settled_with_it(self) -> None:
        self.arrive()
        self.fail_with(LATE)
        self.lose_channel()
        self.heard()
        self.arrive(mark=" again", redelivered=True)
        self.confirm()
        self.assertEqual(self.heard(), [("ack", "a again")])
        self.check_empty()


class FollowingTests(IntakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.hop = Parcel("txmicro.to.WC", "durable", JOB, "a/1", b"next", {"traceparent": "00-1-2-01"})

    def follow(self) -> Deferred[None]:
        following = self.intake.followed(job(), self.hop)
        self.heard()
        return following

    def test_it_is_acknowledged_when_the_next_hop_is_stored(self) -> None:
        self.arrive(
            headers={
                durable_headers.EXPIRES: NOW_MS + 9000,
                durable_headers.STORED: 7,
                durable_headers.ATTEMPT: 2,
                durable_headers.ATTEMPTS: 4,
                durable_headers.FAILURE: {},
            }
        )
        following = self.follow()
        self.assertEqual(self.hop.expiration, 9000)
        self.assertEqual(
            self.hop.headers,
            {
                durable_headers.EXPIRES: NOW_MS + 9000,
                durable_headers.STORED: 7,
                durable_headers.ATTEMPTS: 4,
                "traceparent": "00-1-2-01",
            },
        )
        self.assertFalse(self.hop.patient)
        self.confirm()
        self.successResultOf(following)
        self.assertEqual(self.heard(), [("ack", "a")])
        self.arrive(mark=" again", redelivered=True)
        self.assertEqual(self.heard(), [("ack", "a again"), ("repeat", "a/0")])
        self.check_empty()

    def test_until_the_next_hop_is_stored_the_job_keeps_its_slot(self) -> None:
        for name in "abc":
            self.arrive(name)
        self.follow()
        self.arrive(mark=" again", redelivered=True)
        self.assertEqual((self.heard(), len(self.intake)), ([], 2))
        self.confirm()
        self.assertEqual(self.heard(), [("ack", "a"), ("ack", "a again"), ("start", "c")])

    def test_if_the_next_hop_cannot_be_stored_the_job_fails(self) -> None:
        self.arrive()
        following = self.follow()
        self.storing.pop().errback(NotStored("no queue"))
        error = self.failureResultOf(following, NotStored).value
        self.assertFalse(self.fail_with(error))
        self.confirm()
        self.assertEqual(self.heard(), [("store", OWN, "retry.1000"), ("ack", "a")])
        self.check_empty()

    def test_without_time_to_wait_for_the_next_hop_the_job_is_requeued(self) -> None:
        self.arrive()
        following = self.follow()
        self.intake.give_back()
        self.failureResultOf(following, CancelledError)
        self.intake.stopped(job())
        self.assertEqual(self.heard(), [("give back", "a")])


class StoppingTests(IntakeCase):
    def test_held_jobs_run_before_it_is_drained(self) -> None:
        for name in "abc":
            self.arrive(name)
        drained = self.intake.drain()
        for name in "abc":
            self.assertNoResult(drained)
            self.intake.succeeded(job(name))
        self.successResultOf(drained)
        self.assertEqual([event for event in self.heard() if event[0] == "give back"], [])

    def test_copies_that_are_being_stored_are_waited_for(self) -> None:
        self.arrive()
        self.fail_with(LATE)
        drained = self.intake.drain()
        self.assertNoResult(drained)
        self.confirm()
        self.successResultOf(drained)

    def test_a_drained_intake_takes_no_jobs(self) -> None:
        self.successResultOf(self.intake.drain())
        self.arrive()
        self.arrive("b", redelivered=True)
        self.check_empty()

    def test_after_the_grace_time_all_but_running_jobs_are_requeued(self) -> None:
        self.arrive("moved", redelivered=True)
        self.arrive("running")
        self.slots.paused = True
        self.arrive("held")
        drained = self.intake.drain()
        self.heard()
        self.intake.give_back()
        self.assertEqual(self.heard(), [("give back", "held"), ("give back", "moved")])
        self.intake.stopped(job("running"))
        self.assertEqual(self.heard(), [("give back", "running")])
        self.successResultOf(drained)

    def test_after_the_grace_time_nothing_waits_for_the_broker(self) -> None:
        self.arrive()
        drained = self.intake.drain()
        self.intake.give_back()
        self.heard()
        self.fail_with(LATE)
        self.assertEqual(self.heard(), [("store", OWN, "retry.1000"), ("give back", "a")])
        self.successResultOf(drained)

    def test_a_lost_channel_ends_the_wait_for_held_jobs(self) -> None:
        self.slots.paused = True
        self.arrive()
        drained = self.intake.drain()
        self.lose_channel()
        self.successResultOf(drained)

    def test_a_wait_can_be_canceled(self) -> None:
        self.arrive()
        first, second = self.intake.drain(), self.intake.drain()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.intake.succeeded(job())
        self.successResultOf(second)

    def test_a_copy_that_is_stored_at_once_is_acknowledged_at_once(self) -> None:
        self.patch(self, "store", lambda parcel: succeed(None))
        self.arrive(redelivered=True)
        self.assertEqual(self.heard(), [("ack", "a")])
        self.check_empty()


SINCE = datetime(2026, 11, 24, 1, 2, 3, 456789, tzinfo=UTC)


class Wanting(JobError):
    """An error with fields."""

    def __init__(self, sku: str, count: int) -> None:
        super().__init__(f"{count} of {sku}")
        self.sku = sku
        self.count = count
        self.since = SINCE


class HeaderTests(SynchronousTestCase):
    def test_invalid_numbers_are_ignored(self) -> None:
        for wrong in (None, "3", 3.0, True, -1, 2**53, 2**80):
            self.assertEqual(number({"n": wrong}, "n", 7), 7)
        self.assertEqual(number({"n": 3}, "n", 7), 3)
        self.assertEqual(number({}, "n", 7), 7)

    def test_the_attempts_of_a_delivery(self) -> None:
        def said(**headers: Any) -> tuple[int, int | None]:
            renamed = {f"txmicro-{name}": value for name, value in headers.items()}
            delivery = DurableMessage(None, "", b"", None, [], renamed)
            return delivery.attempt, delivery.attempts

        self.assertEqual(said(), (1, None))
        self.assertEqual(said(attempt=0, attempts=0), (1, None))
        self.assertEqual(said(attempt=4, attempts=9), (4, 9))
        self.assertEqual(said(attempt="x", attempts=-2), (1, None))

    def test_only_valid_headers_of_txmicro_are_kept(self) -> None:
        ours = {
            durable_headers.ATTEMPT: 2,
            durable_headers.ATTEMPTS: 5,
            durable_headers.EXPIRES: 9,
            durable_headers.STORED: 8,
            durable_headers.FAILED: 7,
            durable_headers.FAILURE: to_header(describe(LATE, "WB:1")),
            durable_headers.RUN: "00-1-3-01",
            "traceparent": "00-1-2-01",
            "tracestate": "vendor=1",
        }
        foreign = {
            "x-death": [],
            "CC": ["dead"],
            "BCC": ["dead"],
            "mine": 1,
            durable_headers.REASON: "before",
        }
        self.assertEqual(lasting({**ours, **foreign}), ours)

    def test_invalid_headers_are_not_kept(self) -> None:
        self.assertEqual(
            lasting(
                {
                    durable_headers.ATTEMPT: "2",
                    durable_headers.FAILURE: "?",
                    "traceparent": "x" * 256,
                    durable_headers.STORED: -1,
                }
            ),
            {},
        )
        self.assertEqual(lasting({"traceparent": 5, durable_headers.RUN: 5, "tracestate": "vendor=1"}), {})

    def test_a_failure_of_any_size_is_reduced_to_the_limit(self) -> None:
        for name in ("type", "message", "worker", "more"):
            kept = lasting({durable_headers.FAILURE: {name: "x" * 1_000_000}})
            self.assertLess(len(repr(kept)), 1000)

    def test_the_fields_of_an_error_are_kept(self) -> None:
        kept = to_header(describe(Wanting("A-1", 3), "WB:1"))
        self.assertEqual(lasting({durable_headers.FAILURE: kept})[durable_headers.FAILURE], kept)
        error: Any = from_header(kept)
        self.assertEqual((type(error), error.sku, error.count), (Wanting, "A-1", 3))
        self.assertEqual(error.since, SINCE)

    def test_invalid_fields_of_a_header_are_left_out(self) -> None:
        values: list[Any] = ["?", "[]", "\ud800", 5, None, {}]
        for wrong in values:
            error = from_header({"type": "Wanting", "message": "no", "fields": wrong})
            self.assertEqual((type(error), error.message), (Wanting, "no"))

    def test_an_expiration_is_valid_for_a_broker(self) -> None:
        expirations: list[int | None] = []

        class Lane:
            def start(self, job: Job) -> None:
                raise AssertionError("nothing is to run")

            def store(self, parcel: Parcel) -> Deferred[None]:
                expirations.append(parcel.expiration)
                return succeed(None)

            def repeat(self, key: str) -> None:
                raise AssertionError("nothing has ended")

            def gave_up(self, job: Job, error: JobError) -> None:
                raise AssertionError("nothing is given up")

        intake = DurableIntake("WB", RetryPolicy(), Slots(1), Lane(), most=1, time=lambda: NOW)
        for expires in (NOW_MS + 2**40, NOW_MS + 5, NOW_MS - 5):
            intake.arrived(
                DurableMessage(
                    job(),
                    "a/0",
                    b"",
                    "",
                    [],
                    {durable_headers.EXPIRES: expires},
                    redelivered=True,
                )
            )
        self.assertEqual(expirations, [2**32 - 1, 5, 0])
