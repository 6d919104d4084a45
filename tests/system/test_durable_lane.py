"""Tests the durable lane from end to end: a job that the broker has confirmed is done or is a dead letter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail

from tests.support.logs import listen, texts
from tests.support.system import SystemTestCase
from txmicro.amqp.channel import Channel
from txmicro.broker import sessions
from txmicro.bus.durable_channel import DurableChannel
from txmicro.bus.targets import Target
from txmicro.config import Config
from txmicro.errors import (
    AddressError,
    BusOverloaded,
    EncodeError,
    JobCancelled,
    JobError,
    JobTimeout,
    NotStored,
    QueueMismatch,
    RemoteError,
    RuntimeExceeded,
    TooManyHops,
    WorkerLost,
    WorkerStopped,
)
from txmicro.protocol import durable_headers, messages, topology
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.receiving.runner import CLEANUP
from txmicro.runtime.durable_lane import MAYBE_LOST, PATIENCE
from txmicro.sending import confirmed as storing
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker

QUICK = RetryPolicy(attempts=3, steps=(1.0, 2.0))


async def echo(job: Job) -> Any:
    return {"echo": job.data}


class Refused(JobError):
    """An error that is not retryable."""


class LaneTestCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA", id="WA:1")
        self.ran: list[Job] = []

    def worker(self, handler: Any, policy: RetryPolicy = QUICK, **attributes: Any) -> Worker:
        async def do_job(job: Job) -> Any:
            self.ran.append(job)
            return await handler(job)

        worker = Worker("WB", do_job=do_job)
        worker.retry = policy
        for name, value in attributes.items():
            setattr(worker, name, value)
        return worker

    def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        return len(self.broker.model.queues[queue].ready)

    def amid_a_job(self) -> tuple[Worker, JobFuture, Deferred[str]]:
        """Return a worker that runs a durable job, the job, and a Deferred that makes the job return."""
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        worker = self.worker(handle)
        self.process(self.sender)
        self.process(worker)
        job = self.sender.send("WB:*", durable=True)
        self.advance(0.5)
        return worker, job, waiting

    def check_empty(self) -> None:
        """Check that no message is ready or unacknowledged, except the dead letters."""
        for name in self.broker.model.queues:
            if not name.startswith("txmicro.dead."):
                self.assertEqual(self.depth(name), 0, name)
        for connection in self.broker.connections:
            for channel in connection.session.channels:
                self.assertEqual(channel.unacked, {})

    def dead(self) -> list[dict[str, Any]]:
        """Return the headers of the dead letters of WB."""
        queue = self.broker.model.queues["txmicro.dead.WB"]
        return [message.properties.headers or {} for message in queue.ready]


class SilenceTests(LaneTestCase):
    def test_a_channel_that_does_not_confirm_is_replaced(self) -> None:
        """A quorum queue's leader that is killed may leave a channel of RabbitMQ 3.10 like that, or refusing all."""
        bus = self.process(self.sender)
        self.process(self.worker(echo))
        session = bus.session
        assert session is not None
        silent = session.keeper
        self.patch(silent, "acked", lambda number, multiple: None)
        jobs = [self.sender.send("WB:*", number, durable=True) for number in range(3)]
        stored = [job.when_stored() for job in jobs]
        events = listen(self)
        self.advance(storing.SILENCE + 2.5 * storing.RETRY_AFTER)
        self.assertIs(bus.session, session)
        self.assertFalse(session.is_lost)
        self.assertIsNot(session.keeper, silent)
        self.assertIsNotNone(silent.reason)
        self.assertEqual(len(session.publishing.channels), 3)
        for waiting in stored:
            self.successResultOf(waiting)
        self.assertEqual(sorted(job.data for job in self.ran), [0, 1, 2])
        self.assertTrue(
            any("3 durable jobs or other messages to keep are not" in text for text in texts(events))
        )
        session.keeper.channel_close()
        self.advance(1.0)
        self.assertIsNot(bus.session, session)  # the one in use is a part of the session


class StoringTests(LaneTestCase):
    def test_a_stored_job_is_done_and_answered(self) -> None:
        self.process(self.sender)
        self.process(self.worker(echo))
        job = self.sender.send("WB:*", 1, durable=True)
        self.assertIsNone(self.result(job.when_stored()))
        self.assertTrue(job.stored())
        self.assertEqual(self.result(job.when_done()), {"echo": 1})
        self.assertTrue(self.ran[0].durable)
        self.check_empty()

    def test_a_missing_feature_of_an_old_broker_is_logged_once(self) -> None:
        said = listen(self)
        of = topology.Features.of
        old = replace(of({}), safe_dead_letters=False)
        self.patch(topology.Features, "of", lambda properties: old)
        worker = self.worker(echo)
        self.process(worker)
        for _ in range(2):
            assert worker.bus.session is not None
            self.result(worker.bus.session.keeping()).transport.abortConnection()
            self.advance(1)
        self.assertEqual(len(texts(said, "keeps them safe since 3.10")), 1)

    def test_it_waits_for_a_worker_to_start(self) -> None:
        self.process(self.sender)
        self.stop(self.process(self.worker(echo)))
        job = self.sender.send("WB:*", 1, durable=True)
        self.result(job.when_stored())
        self.advance(10)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done()), {"echo": 1})
        self.check_empty()

    def test_a_job_for_a_type_that_never_ran_is_not_stored(self) -> None:
        self.process(self.sender)
        job = self.sender.send("WX:*", durable=True)
        stored = job.when_stored()
        self.advance(storing.QUEUE_GRACE - 0.5)  # because its workers may be connecting, too
        self.assertNoResult(stored)
        error = self.error(stored, NotStored, 2.0)
        self.assertIn("WX", str(error))
        self.error(job.when_done(), NotStored)

    def test_a_job_for_a_type_without_durable_jobs_is_not_stored(self) -> None:
        self.process(self.sender)
        self.process(self.worker(echo, durable=False))
        self.advance(storing.QUEUE_GRACE)
        self.error(self.sender.send("WB:*", durable=True).when_stored(), NotStored)

    def test_a_broker_that_is_down_is_waited_for(self) -> None:
        """The job is stored before its worker has all its queues, and is answered all the same."""
        self.process(self.sender)
        self.process(self.worker(echo))
        self.endpoint.broker = None
        for connection in list(self.broker.connections):
            connection.transport.abortConnection()
        self.advance(1)
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(3)
        self.assertFalse(job.stored())
        self.endpoint.broker = self.broker
        self.assertEqual(self.result(job.when_done(), 10.0), {"echo": 1})

    def test_a_connection_lost_before_the_confirm_publishes_it_again_under_the_same_id(self) -> None:
        bus = self.process(self.sender)
        self.process(self.worker(echo))
        self.result(self.sender.send("WB:*", 0, durable=True).when_done())
        assert bus.session is not None
        stored = bus.session.store

        def lost(*args: Any) -> Deferred[None]:
            storing = stored(*args)
            assert bus.session is not None
            bus.session.publishing.transport.abortConnection()
            return storing

        self.patch(bus.session, "store", lost)
        job = self.sender.send("WB:*", 1, durable=True)
        self.assertEqual(self.result(job.when_done(), 5.0), {"echo": 1})
        self.assertEqual({ran.key for ran in self.ran[1:]}, {f"{job.id}/0"})

    def test_the_sender_stops_waiting_and_the_job_is_done(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        treated: list[JobError] = []
        self.patch(self.sender, "treat_error", lambda error, job: treated.append(error))
        self.process(self.sender)
        self.process(self.worker(handle))
        job = self.sender.send("WB:*", durable=True, timeout=2.0)
        heard = job.when_done()
        self.sender.send("WB:*", durable=True, timeout=2.0)
        error = self.error(heard, JobTimeout, 2.5)
        self.assertTrue(error.still_queued)
        self.assertEqual(treated, [])  # nobody awaits the second one, and it is stored
        waiting.callback("late")
        self.advance(1)
        self.check_empty()

    def test_a_timeout_before_it_is_stored_is_not_stored_and_stores_nothing_later(self) -> None:
        self.process(self.sender)
        self.process(self.worker(echo))
        self.endpoint.broker = None
        self.broker.close()
        self.advance(0.5)
        job = self.sender.send("WB:*", 1, durable=True, timeout=2.0)
        error = self.error(job.when_done(), JobTimeout, 2.5)
        self.assertFalse(error.still_queued)
        self.restart_broker()
        self.advance(10)
        self.assertEqual(self.ran, [])

    def test_stopping_the_sender_fails_what_is_not_stored(self) -> None:
        self.endpoint.broker = None
        bus = self.process(self.sender)
        job = self.sender.send("WB:*", 1, durable=True)
        waiting = job.when_stored()
        self.stop(bus)
        self.error(waiting, WorkerStopped)

    def test_when_accepted_and_cancel(self) -> None:
        worker = self.worker(lambda job: Deferred())
        self.process(self.sender)
        self.process(worker)
        job = self.sender.send("WB:*", durable=True)
        self.assertEqual(self.result(job.when_accepted()), worker.id)
        waiting = job.when_done()
        job.cancel()
        self.error(waiting, JobCancelled)

    def test_a_sender_that_starts_with_its_workers_need_not_wait_for_them(self) -> None:
        self.process(self.sender)
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(1)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 2.0), {"echo": 1})

    def test_an_invalid_send_raises_at_once(self) -> None:
        self.process(self.sender)
        self.assertRaises(AddressError, self.sender.send, "WB:1", durable=True)
        self.assertRaises(EncodeError, self.sender.send, "WB:*", object(), durable=True)
        for wrong in (0, -1.0, float("nan"), float("inf")):
            self.assertRaises(ValueError, self.sender.send, "WB:*", durable=True, expires=wrong)
        odd: Any
        for odd in (2**32, 1e30, "1"):
            self.assertRaises(ValueError, self.sender.send, "WB:*", durable=True, expires=odd)
        for odd in (0, -1, 2**53, 1.5, True, "1"):
            self.assertRaises(ValueError, self.sender.send, "WB:*", durable=True, attempts=odd)
        self.assertRaises(ValueError, self.sender.send, "WB:*", expires=1.0)
        self.assertEqual(len(self.sender._running_engine._outbox), 0)


class RetryTests(LaneTestCase):
    def test_a_failure_is_tried_again_after_growing_steps(self) -> None:
        times: list[float] = []

        async def fail(job: Job) -> str:
            times.append(self.clock.seconds())
            if job.tries < 2:
                raise JobError("not now", retryable=True)
            return f"attempt {job.tries + 1}"

        self.process(self.sender)
        self.process(self.worker(fail))
        job = self.sender.send("WB:*", durable=True)
        self.assertEqual(self.result(job.when_done(), 4.0), "attempt 3")
        first, second, third = times
        self.assertTrue(1.0 <= second - first < 1.2, times)
        self.assertTrue(2.0 <= third - second < 2.2, times)
        self.check_empty()

    def retry_queues(self) -> list[str]:
        return sorted(name for name in self.broker.model.queues if "retry" in name)

    def test_retry_queues_are_declared_when_they_are_needed_and_again_after_a_deletion(self) -> None:
        async def fail(job: Job) -> int:
            if job.tries < job.data:
                raise JobError("not now", retryable=True)
            return job.tries

        self.process(self.sender)
        self.process(self.worker(fail))
        self.assertEqual(self.result(self.sender.send("WB:*", 0, durable=True).when_done()), 0)
        self.assertEqual(self.retry_queues(), [])
        jobs = [self.sender.send("WB:*", 1, durable=True) for _ in range(3)]
        for job in jobs:
            self.assertEqual(self.result(job.when_done(), 2.0), 1)
        self.assertEqual(self.retry_queues(), ["txmicro.retry.WB.1000"])
        self.broker.model._delete_queue(self.broker.model.queues["txmicro.retry.WB.1000"])
        self.assertEqual(self.result(self.sender.send("WB:*", 2, durable=True).when_done(), 10.0), 2)
        self.assertEqual(self.retry_queues(), ["txmicro.retry.WB.1000", "txmicro.retry.WB.2000"])
        self.check_empty()

    def test_after_the_last_attempt_it_is_a_dead_letter_with_its_history(self) -> None:
        async def fail(job: Job) -> None:
            raise JobError("never", retryable=True)

        worker = self.worker(fail)
        self.process(self.sender)
        self.process(worker)
        job = self.sender.send("WB:*", durable=True)
        error = self.error(job.when_done(), JobError, 5.0)
        self.assertEqual((str(error), error.worker), ("never", worker.id))
        self.assertEqual(len(self.ran), 3)
        [headers] = self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.EXHAUSTED)
        self.assertEqual(headers[durable_headers.ATTEMPT], 3)
        self.assertEqual(headers[durable_headers.FAILURE]["message"], "never")
        self.assertEqual(headers[durable_headers.FAILURE]["worker"], worker.id)
        self.assertGreaterEqual(headers[durable_headers.FAILED], headers[durable_headers.STORED])
        self.check_empty()

    def test_a_failure_that_is_not_retryable_is_a_dead_letter_at_once(self) -> None:
        async def fail(job: Job) -> None:
            raise Refused("no")

        self.process(self.sender)
        self.process(self.worker(fail))
        events = listen(self)
        job = self.sender.send("WB:*", durable=True)
        self.error(job.when_done(), Refused)
        self.assertEqual(len(self.ran), 1)
        self.assertTrue(texts(events, f"job {job.id}/0 is now a dead letter (failed: Refused: no)"))
        self.assertEqual(
            [headers[durable_headers.REASON] for headers in self.dead()], [durable_headers.NOT_RETRYABLE]
        )

    def test_an_unexpected_error_is_tried_again(self) -> None:
        async def fail(job: Job) -> str:
            if not job.tries:
                raise KeyError("once")
            return "done"

        self.process(self.sender)
        self.process(self.worker(fail))
        events = listen(self)
        job = self.sender.send("WB:*", durable=True)
        self.assertEqual(self.result(job.when_done(), 2.0), "done")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertTrue(texts(events, f"job {job.id} failed; it is tried again"))

    def test_the_sender_may_ask_for_fewer_attempts(self) -> None:
        async def fail(job: Job) -> None:
            raise JobError("never", retryable=True)

        self.process(self.sender)
        self.process(self.worker(fail))
        self.error(self.sender.send("WB:*", durable=True, attempts=1).when_done(), JobError)
        self.assertEqual(len(self.ran), 1)

    def test_a_result_that_cannot_be_encoded_is_a_failure(self) -> None:
        async def handle(job: Job) -> Any:
            return object()

        self.process(self.sender)
        self.process(self.worker(handle))
        self.error(self.sender.send("WB:*", durable=True).when_done(), EncodeError)
        self.assertEqual(len(self.dead()), 1)

    def test_an_expired_job_is_not_started(self) -> None:
        self.process(self.sender)
        self.stop(self.process(self.worker(echo)))
        self.result(self.sender.send("WB:*", durable=True, expires=5.0).when_stored())
        self.advance(6)
        self.process(self.worker(echo))
        self.advance(1)
        self.assertEqual(self.ran, [])
        self.assertEqual(len(self.dead()), 1)

    def test_an_unreadable_job_is_a_dead_letter_at_once(self) -> None:
        self.process(self.sender)
        self.process(self.worker(echo))
        session = self.sender.bus.session
        assert session is not None
        properties = b"\x80\x00\x10application/json"
        self.result(
            session.store(topology.to_exchange("WB"), topology.DURABLE_KEY, properties, b"nonsense", "")
        )
        self.assertEqual(
            [headers[durable_headers.REASON] for headers in self.dead()], [durable_headers.UNREADABLE]
        )
        self.check_empty()


class HopTests(LaneTestCase):
    def test_every_hop_of_a_slip_is_stored(self) -> None:
        async def append(job: Job) -> list[str]:
            self.ran.append(job)
            return [*job.data, job.address]

        self.process(self.sender)
        for kind in ("WB", "WC", "WD"):
            self.process(Worker(kind, do_job=append))
        job = self.sender.send(["WB:*", "WC:*", "WD:*"], [], durable=True)
        self.assertEqual(self.result(job.when_done(), 1.0), ["WB:*", "WC:*", "WD:*"])
        self.assertTrue(all(ran.durable for ran in self.ran))
        self.check_empty()

    def test_a_forward_is_stored_before_the_job_is_acknowledged(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WC:*", job.data)

        self.process(self.sender)
        self.process(self.worker(forward))
        self.stop(self.process(Worker("WC", do_job=echo)))
        job = self.sender.send("WB:*", 7, durable=True)
        self.advance(1)
        self.assertEqual(self.depth("txmicro.jobs.WC.durable"), 1)
        self.process(Worker("WC", do_job=echo))
        self.assertEqual(self.result(job.when_done(), 1.0), {"echo": 7})
        self.check_empty()

    def test_a_forward_to_a_type_without_durable_jobs_is_tried_again_until_the_last_attempt(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WX:*")

        worker = self.worker(forward)
        self.process(self.sender)
        self.process(worker)
        self.advance(storing.QUEUE_GRACE)
        error = self.error(self.sender.send("WB:*", durable=True).when_done(), NotStored, 5.0)
        self.assertEqual(error.worker, worker.id)
        self.assertEqual(len(self.ran), QUICK.attempts)
        [headers] = self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.EXHAUSTED)
        self.assertEqual(headers[durable_headers.FAILURE]["type"], "NotStored")
        self.check_empty()

    def test_each_hop_counts_its_own_attempts(self) -> None:
        async def once(job: Job) -> int:
            self.ran.append(job)
            if not job.tries:
                raise JobError("not now", retryable=True)
            return job.tries

        self.process(self.sender)
        for kind in ("WB", "WC"):
            worker = Worker(kind, do_job=once)
            worker.retry = QUICK
            self.process(worker)
        job = self.sender.send(["WB:*", "WC:*"], durable=True)
        self.assertEqual(self.result(job.when_done(), 3.0), 1)
        self.assertEqual(
            [(ran.address, ran.tries) for ran in self.ran],
            [("WB:*", 0), ("WB:*", 1), ("WC:*", 0), ("WC:*", 1)],
        )

    def test_a_job_that_is_always_forwarded_is_a_dead_letter(self) -> None:
        async def pass_on(job: Job) -> Forward:
            return Forward("WB:*", job.data)

        self.process(self.sender)
        self.process(self.worker(pass_on))
        self.error(self.sender.send("WB:*", durable=True).when_done(), TooManyHops, 10)
        self.assertEqual(len(self.ran), 64)
        (headers,) = self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.NOT_RETRYABLE)
        self.check_empty()

    def test_a_forward_to_one_worker_is_refused(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WC:1")

        self.process(self.sender)
        self.process(self.worker(forward))
        self.error(self.sender.send("WB:*", durable=True, attempts=1).when_done(), RemoteError)
        self.flushLoggedErrors(AddressError)


class DeathTests(LaneTestCase):
    """Tests workers that are killed by a job."""

    def kill(self, worker: Worker) -> None:
        """Close its connections for good."""
        session = worker.bus.session
        assert session is not None
        worker.bus._targets[0] = Target(_Nowhere(), worker.bus._targets[0].broker)
        for client in (session.publishing, session.consuming):
            client.transport.abortConnection()
        self.advance(0.1)

    def test_the_job_of_a_killed_worker_runs_elsewhere_after_the_quarantine(self) -> None:
        dying = self.worker(lambda job: Deferred())
        self.process(self.sender)
        self.process(dying)
        job = self.sender.send("WB:*", 1, durable=True)
        self.result(job.when_accepted())
        self.kill(dying)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 2.0), {"echo": 1})
        self.assertTrue(self.ran[-1].redelivered)
        self.check_empty()

    def test_its_neighbors_are_done_too(self) -> None:
        dying = self.worker(lambda job: Deferred())
        self.process(self.sender)
        self.process(dying)
        jobs = [self.sender.send("WB:*", number, durable=True).when_done() for number in range(20)]
        self.advance(0.5)
        self.kill(dying)
        self.process(self.worker(echo))
        self.advance(5)
        self.assertEqual([self.successResultOf(job) for job in jobs], [{"echo": n} for n in range(20)])
        self.check_empty()

    def test_a_job_that_kills_every_worker_is_a_dead_letter_after_the_limit(self) -> None:
        self.process(self.sender)
        job = None
        for _ in range(topology.DELIVERY_LIMIT + 4):
            dying = self.worker(lambda job: Deferred())
            self.process(dying)
            job = job or self.sender.send("WB:*", durable=True)
            self.advance(0.5)
            self.kill(dying)
        self.process(self.worker(echo))
        assert job is not None
        error = self.error(job.when_done(), WorkerLost, 1)  # its sender need not wait until the timeout
        self.assertIn("it may be what ends them", str(error))
        # Once in the queue, then in the quarantine up to the limit of deliveries.
        self.assertEqual(len(self.ran), 1 + topology.DELIVERY_LIMIT)
        (headers,) = self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.DEATHS)
        self.assertEqual(headers[durable_headers.FAILURE]["type"], "WorkerLost")
        self.check_empty()

    def test_a_channel_lost_during_the_run_does_not_run_it_twice_here(self) -> None:
        worker, job, waiting = self.amid_a_job()
        channel = worker._running_engine.channel.robust.channel
        assert channel is not None
        channel.ack(4711)  # the broker closes the channel
        self.advance(3)
        waiting.callback("done")
        self.assertEqual(self.result(job.when_done(), 3.0), "done")
        self.assertEqual(len(self.ran), 1)
        self.check_empty()

    def test_a_lost_acknowledgement_and_a_lost_result_cost_no_second_run(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        station = worker._running_engine
        reply = station.channel.publisher.reply
        lost: list[str] = []

        def lose(to: str, kind: str, *rest: Any) -> None:
            if kind == messages.RESULT and not lost:
                lost.append(kind)
            else:
                reply(to, kind, *rest)

        durable_channel = station.lane.channel.robust.channel
        assert durable_channel is not None
        acking = self.patch(durable_channel, "ack", lambda tag: lost.append("ack"))
        self.patch(station.channel.publisher, "reply", lose)
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(1)
        self.assertEqual((lost, len(self.ran)), ([messages.RESULT, "ack"], 1))
        acking.restore()
        assert worker.bus.session is not None
        self.result(worker.bus.session.keeping()).transport.abortConnection()
        self.assertEqual(self.result(job.when_done(), 3.0), {"echo": 1})
        self.assertEqual(len(self.ran), 1)
        self.check_empty()

    def test_an_answer_without_a_connection_is_sent_later(self) -> None:
        worker, job, waiting = self.amid_a_job()
        channel = worker._running_engine.channel.robust.channel
        assert channel is not None
        channel.ack(4711)  # the broker closes the channel, but not that of the durable jobs
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertIsNone(worker._running_engine.channel.publisher.session)
        waiting.callback("done")
        self.assertEqual(self.result(job.when_done(), 3.0), "done")
        self.assertEqual(len(self.ran), 1)
        self.check_empty()

    def test_an_answer_that_is_lost_with_its_connection_is_sent_again_after_the_job_is_settled(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        lost: list[str] = []
        lose = self.patch(worker._running_engine.channel.publisher, "reply", lambda *_: lost.append("reply"))
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(1)
        self.assertTrue(lost)
        self.check_empty()
        lose.restore()
        assert worker.bus.session is not None
        worker.bus.session.publishing.transport.abortConnection()
        self.assertEqual(self.result(job.when_done(), 3.0), {"echo": 1})
        self.assertEqual(len(self.ran), 1)

    def test_an_old_answer_is_not_sent_again(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        job = self.sender.send("WB:*", 1, durable=True, timeout=300)
        self.assertEqual(self.result(job.when_done(), 1.0), {"echo": 1})
        said: list[Any] = []
        self.patch(worker._running_engine.channel.publisher, "reply", lambda *reply: said.append(reply))
        for pause, times in (MAYBE_LOST - 5, 1), (5.0, 1):
            self.advance(pause, 0.5)
            assert worker.bus.session is not None
            worker.bus.session.publishing.transport.abortConnection()
            self.advance(4)
            self.assertEqual([kind for _, kind, *_ in said], [messages.RESULT] * times)

    def test_it_need_not_wait_for_the_exchange_that_the_other_lane_declares(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        self.advance(0.5)
        durable_link = worker._running_engine.lane.channel
        channel = durable_link.robust.channel
        assert channel is not None
        self.result(channel.exchange_delete(exchange=topology.to_exchange("WB")))
        channel.ack(4711)
        self.advance(1)
        self.assertTrue(durable_link.robust.ready)
        self.assertEqual(self.result(self.sender.send("WB:*", 1, durable=True).when_done(), 5.0), {"echo": 1})

    def test_a_worker_that_stops_settles_what_it_has_also_after_a_loss(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        worker = self.worker(handle)
        self.process(self.sender)
        bus = self.process(worker)
        job = self.sender.send("WB:*", durable=True)
        self.advance(0.5)
        stopping = bus.stopService()
        self.advance(0.1)
        assert bus.session is not None
        self.result(bus.session.keeping()).transport.abortConnection()
        self.advance(1)
        waiting.callback("done")
        self.assertEqual(self.result(job.when_done(), 1.0), "done")
        self.successResultOf(stopping)
        self.assertEqual(self.depth("txmicro.jobs.WB.durable"), 1)  # its acknowledgement came too late
        self.process(self.worker(echo))
        self.advance(1)
        self.check_empty()

    def test_stopping_gives_back_what_does_not_end_in_time(self) -> None:
        worker = self.worker(lambda job: Deferred())
        self.process(self.sender)
        bus = self.process(worker, config=Config(grace=1.0))
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(0.5)
        self.stop(bus)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 2.0), {"echo": 1})
        self.check_empty()

    def test_one_that_ignores_its_cancellation_is_given_back_too(self) -> None:
        async def swallow(job: Job) -> None:
            while True:
                with contextlib.suppress(Exception):  # Twisted's CancelledError is one
                    await Deferred()

        self.process(self.sender)
        bus = self.process(self.worker(swallow), config=Config(grace=1.0))
        job = self.sender.send("WB:*", 1, durable=True)
        self.advance(0.5)
        stopping = bus.stopService()
        self.advance(1.5 + CLEANUP)
        self.successResultOf(stopping)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 2.0), {"echo": 1})
        self.check_empty()

    def test_a_late_end_of_an_abandoned_handler_changes_nothing(self) -> None:
        late: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            try:
                await Deferred()
            except CancelledError:
                return await late
            return ""

        self.process(self.sender, self.worker(handle, max_runtime=1.0))
        job = self.sender.send("WB:*", 1, durable=True)
        error = self.error(job.when_done(), RuntimeExceeded, 1.5 + CLEANUP)
        self.assertIn("1 s", str(error))
        late.callback("too late")
        self.advance(1.0)
        self.assertEqual(len(self.ran), 1)

    def test_a_rolling_restart_delivers_nothing_twice(self) -> None:
        self.process(self.sender)
        bus = self.process(self.worker(echo))
        jobs = [self.sender.send("WB:*", number, durable=True).when_done() for number in range(50)]
        for _ in range(3):
            after = self.process(self.worker(echo))
            self.stop(bus)
            bus = after
        self.advance(1)
        for job in jobs:
            self.successResultOf(job)
        self.assertEqual([ran.key for ran in self.ran if ran.redelivered], [])
        self.assertEqual(len(self.ran), 50)


class StoppingTests(LaneTestCase):
    def hogged(self, running: list[Deferred[None]], config: Config | None = None) -> tuple[Any, Any]:
        """Return a worker that runs as many interactive jobs as it can, and a durable job that it holds."""

        async def handle(job: Job) -> str:
            if not job.durable:
                running.append(Deferred())
                await running[-1]
            return "done"

        self.process(self.sender)
        bus = self.process(self.worker(handle, capacity=2), config=config)
        for _ in range(2):
            self.sender.send("WB:*").when_done().addErrback(lambda _: None)
        self.advance(0.2)
        job = self.sender.send("WB:*", durable=True)
        self.result(job.when_stored())
        self.assertEqual((len(self.ran), self.depth("txmicro.jobs.WB.durable")), (2, 0))
        return bus, job

    def test_held_jobs_are_run_before_the_worker_stops(self) -> None:
        running: list[Deferred[None]] = []
        bus, job = self.hogged(running)
        stopping = bus.stopService()
        self.advance(0.5)
        self.assertNoResult(stopping)
        for waiting in running:
            waiting.callback(None)
        self.assertEqual(self.result(job.when_done(), 0.5), "done")
        self.successResultOf(stopping)
        self.assertFalse(self.ran[-1].redelivered)
        self.check_empty()

    def test_held_jobs_are_requeued_after_the_grace_time(self) -> None:
        bus, job = self.hogged([], Config(grace=1.0))
        self.stop(bus)
        self.assertEqual(len(self.ran), 2)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 1.0), {"echo": None})
        self.check_empty()

    def test_a_broker_that_confirms_no_retry_does_not_prevent_a_stop(self) -> None:
        def fail() -> None:
            raise JobError("not now", retryable=True)

        self.stops_while_nothing_is_stored(fail)

    def test_a_broker_that_confirms_no_next_hop_does_not_prevent_a_stop(self) -> None:
        self.stops_while_nothing_is_stored(lambda: Forward("WC:*"))

    def stops_while_nothing_is_stored(self, end: Callable[[], Any]) -> None:
        async def handle(job: Job) -> Any:
            session = worker.bus.session
            assert session is not None
            self.patch(session, "store", lambda *args: Deferred())
            return end()

        worker = self.worker(handle)
        self.process(self.sender)
        self.process(Worker("WC", do_job=echo))
        bus = self.process(worker, config=Config(grace=2.0))
        job = self.sender.send("WB:*", 1, durable=True)
        self.result(job.when_stored())
        self.stop(bus)
        self.process(self.worker(echo))
        self.assertEqual(self.result(job.when_done(), 1.0), {"echo": 1})
        self.check_empty()

    def test_a_worker_that_stops_while_its_consumers_are_made_takes_nothing(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        link = worker._running_engine.lane.channel
        consumes = Channel.consume

        async def stopped(channel: Channel, queue: str, *args: Any, **settings: Any) -> str:
            await link.stop()
            return await consumes(channel, queue, *args, **settings)

        self.patch(Channel, "consume", stopped)
        session = worker.bus.session
        assert session is not None
        self.result(session.keeping()).transport.abortConnection()
        self.advance(1)
        self.assertEqual(self.broker.model.queues["txmicro.jobs.WB.durable"].consumers, {})
        self.sender.send("WB:*", durable=True)
        self.advance(1)
        self.assertEqual(self.depth("txmicro.jobs.WB.durable"), 1)


class FlowTests(LaneTestCase):
    def test_while_the_connection_is_blocked_nothing_is_stored_and_then_all_is_once(self) -> None:
        self.process(self.sender)
        self.process(self.worker(echo))
        session = self.sender.bus.session
        assert session is not None
        session.publishing.set_blocked(True)
        jobs = [self.sender.send("WB:*", number, durable=True, timeout=100.0) for number in range(5)]
        stored = [job.when_stored() for job in jobs]
        self.advance(40)
        for waiting in stored:
            self.assertNoResult(waiting)
        session.publishing.set_blocked(False)
        self.advance(1)
        for waiting in stored:
            self.successResultOf(waiting)
        self.assertEqual(sorted(ran.data for ran in self.ran), list(range(5)))
        self.check_empty()

    def test_more_bytes_than_a_worker_may_keep_are_refused_and_stored_jobs_free_theirs(self) -> None:
        config = Config(outbox_jobs=3, outbox_bytes=1200)
        self.stop(self.process(self.worker(echo)))
        self.process(self.sender, config=config)
        session = self.sender.bus.session
        assert session is not None
        session.publishing.set_blocked(True)
        first = self.sender.send("WB:*", "x" * 800, durable=True, timeout=100.0)
        self.assertRaises(BusOverloaded, self.sender.send, "WB:*", "x" * 800, durable=True)
        session.publishing.set_blocked(False)
        self.result(first.when_stored())
        for _ in range(2):
            self.result(self.sender.send("WB:*", "x" * 800, durable=True, timeout=100.0).when_stored())
        self.assertRaises(BusOverloaded, self.sender.send, "WB:*", durable=True)
        self.assertEqual(self.depth("txmicro.jobs.WB.durable"), 3)

    def test_a_queue_that_is_full_refuses_and_takes_it_when_there_is_room(self) -> None:
        self.process(self.sender)
        self.stop(self.process(self.worker(echo)))
        queue = self.broker.model.queues["txmicro.jobs.WB.durable"]
        options = queue.options
        queue.options = replace(options, max_length=2)
        jobs = [self.sender.send("WB:*", number, durable=True) for number in range(4)]
        self.advance(3)
        self.assertEqual([job.stored() for job in jobs], [True, True, False, False])
        self.process(self.worker(echo))
        self.advance(5)
        self.assertEqual(sorted(ran.data for ran in self.ran), [0, 1, 2, 3])
        self.check_empty()


class ApartTests(LaneTestCase):
    """Tests that errors of durable queues do not affect the interactive lane."""

    def test_a_queue_that_does_not_answer_delays_a_start_for_a_bounded_time(self) -> None:
        self.patch(DurableChannel, "build", lambda link, session, channel: Deferred())
        self.process(self.sender)
        worker = self.worker(echo)
        self.process(worker)
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})
        waiting = worker.when_ready()
        self.advance(4)
        self.assertNoResult(waiting)
        self.advance(2)
        self.assertIs(self.successResultOf(waiting), worker)

    def test_a_channel_that_does_not_close_delays_a_stop_for_a_bounded_time(self) -> None:
        worker = self.worker(echo)
        bus = self.process(worker)
        session = worker.bus.session
        assert session is not None
        made = self.result(session.keeping()).channelFactory
        self.patch(made, "channel_close", lambda channel, **_: Deferred())
        stopping = bus.stopService()
        self.advance(1)
        self.assertNoResult(stopping)
        self.advance(3)
        self.successResultOf(stopping)

    def test_its_connection_may_be_lost_again_and_again(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        session = worker.bus.session
        assert session is not None
        for _ in range(3):
            self.result(session.keeping()).transport.abortConnection()
            self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})
        self.assertIs(worker.bus.session, session)
        self.assertEqual(self.result(self.sender.send("WB:*", 2, durable=True).when_done(), 5.0), {"echo": 2})

    def test_a_connection_that_cannot_be_made_is_tried_again(self) -> None:
        worker = self.worker(echo)
        self.process(self.sender)
        self.process(worker)
        session = worker.bus.session
        assert session is not None
        dial = session._dial
        self.patch(session, "_dial", lambda purpose: fail(OSError("no descriptors left")))
        self.result(session.keeping()).transport.abortConnection()
        self.advance(1)
        session._dial = dial
        self.assertEqual(self.result(self.sender.send("WB:*", 2, durable=True).when_done(), 6.0), {"echo": 2})

    def test_a_session_that_is_lost_while_it_is_dialed_leaves_no_connection(self) -> None:
        worker = self.worker(echo)
        self.process(worker)
        session = worker.bus.session
        assert session is not None
        dialed: Deferred[Any] = Deferred()
        client = self.result(session.keeping())
        session._keeping = None
        session._dial = lambda purpose: dialed
        waiting = session.keeping()
        session.publishing.transport.abortConnection()
        self.advance(0.1)
        dialed.callback(client)
        self.assertIs(self.successResultOf(waiting), client)
        self.advance(0.1)
        self.assertTrue(client.closed)
        self.advance(3)


class CapacityTests(LaneTestCase):
    def test_durable_jobs_leave_room_for_interactive_jobs(self) -> None:
        worker = self.worker(lambda job: Deferred() if job.durable else echo(job), capacity=4)
        self.process(self.sender)
        self.process(worker)
        for _ in range(10):
            self.sender.send("WB:*", durable=True)
        self.advance(1)
        self.assertEqual(len(worker._running_engine.lane.intake), 3)
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})

    def test_all_lanes_together_run_no_more_than_the_capacity(self) -> None:
        running: list[Deferred[None]] = []

        async def hold(job: Job) -> None:
            running.append(Deferred())
            await running[-1]

        self.process(self.sender)
        self.process(self.worker(hold, capacity=4))
        jobs = [self.sender.send("WB:*", durable=bool(n % 2)).when_done() for n in range(20)]
        while not all(job.called for job in jobs):
            self.advance(0.5)
            self.assertLessEqual(len(running), 4)
            if running:  # otherwise copies that were held for too long are sent again
                running.pop(0).callback(None)
        for job in jobs:
            self.successResultOf(job)
        self.check_empty()

    def test_a_slot_that_a_durable_job_frees_later_is_used_at_once(self) -> None:
        confirmed: Deferred[None] = Deferred()
        worker = self.worker(echo, capacity=1)
        self.process(self.sender)
        self.process(worker)
        self.patch(worker._running_engine.channel.publisher, "store", lambda parcel: confirmed)
        self.sender.send(["WB:*", "WC:*"], 1, durable=True)
        self.advance(0.5)
        job = self.sender.send("WB:*", 2).when_done()
        self.advance(0.5)
        self.assertEqual(len(self.ran), 1)
        confirmed.callback(None)  # the broker has the next hop
        self.assertEqual(self.result(job, 0.1), {"echo": 2})


class _Nowhere:
    """An endpoint that never connects."""

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


class MismatchTests(LaneTestCase):
    """Tests a queue of the lane that exists with other arguments, of an operator or an older version."""

    queue = "txmicro.jobs.WB.durable"

    def setUp(self) -> None:
        super().setUp()
        self.process(self.sender)
        self.other = Worker("WC", do_job=echo)
        self.events = listen(self)

    def declare(self, **arguments: Any) -> None:
        nobody = sessions.ModelSession(self.broker.model)
        arguments = {"x-queue-type": "quorum", **arguments}
        self.broker.model.declare_queue(nobody, self.queue, durable=True, arguments=arguments)

    def delete(self) -> None:
        self.broker.model._delete_queue(self.broker.model.queues[self.queue])

    def mismatches(self) -> float:
        name, labels = "microservices_job_errors_total", {"service": "WB", "error_type": "QueueMismatch"}
        return self.worked.bus.metrics.registry.get_sample_value(name, labels) or 0.0

    def test_a_worker_does_not_start_and_names_the_queue_and_the_difference(self) -> None:
        self.declare(**{"x-delivery-limit": 3})
        worker = self.worker(echo)
        closed: list[None] = []
        worker.closed = lambda: closed.append(None)  # type: ignore[method-assign]
        bus = self.process(worker, self.other)
        error = self.failureResultOf(worker.when_ready(), QueueMismatch).value
        self.assertEqual(error.queue, self.queue)
        self.assertIn("x-delivery-limit", error.difference)
        self.assertIn("delete it", str(error))
        self.assertEqual(closed, [None])
        self.assertEqual(self.result(self.sender.send("WC:*", 1).when_done()), {"echo": 1})
        self.assertEqual(self.result(self.sender.send("WC:*", 2, durable=True).when_done()), {"echo": 2})
        self.assertEqual([name for name in self.broker.model.queues if worker.id in name], [])
        self.advance(10.0)
        self.assertEqual(self.ran, [])
        self.stop(bus)
        self.assertEqual(closed, [None])

    def test_jobs_that_it_has_taken_by_then_are_done(self) -> None:
        worker, job = self.begin_with_a_job()
        ready = worker.when_ready()
        self.assertEqual(len(self.ran), 2)
        self.advance(5.0)
        self.assertNoResult(ready)
        self.gates[1].callback("done")
        self.assertEqual(self.result(job.when_done()), "done")
        self.failureResultOf(ready, QueueMismatch)

    def test_it_is_stopped_during_that(self) -> None:
        worker, _ = self.begin_with_a_job()
        self.stop(worker.bus)
        self.failureResultOf(worker.when_ready(), CancelledError)

    def begin_with_a_job(self) -> tuple[Worker, JobFuture]:
        """Start a worker that has a job in its queue, because the other worker is busy."""
        self.gates: list[Deferred[str]] = []

        async def wait(job: Job) -> str:
            self.gates.append(Deferred())
            return await self.gates[-1]

        self.declare(**{"x-delivery-limit": 3})
        self.process(self.worker(wait, durable=False, capacity=1))
        _, job = (self.sender.send("WB:*") for _ in range(2))
        self.advance(0.2)
        worker = self.worker(wait)
        self.process(worker)
        return worker, job

    def test_a_running_worker_continues_and_takes_durable_jobs_after_the_queue_is_deleted(self) -> None:
        self.worked = self.worker(echo)
        self.process(self.worked)
        self.delete()
        self.declare()
        self.advance(15.0)
        said = texts(self.events, self.queue)
        self.assertEqual(len(said), 1)
        self.assertIn("retrying", said[0])
        self.assertGreater(self.mismatches(), 3)
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})
        self.delete()
        self.advance(5.0)
        self.assertEqual(self.result(self.sender.send("WB:*", 2, durable=True).when_done(), 2.0), {"echo": 2})

    def test_a_retry_queue_with_other_arguments_keeps_its_jobs_waiting_and_is_logged_once(self) -> None:
        async def fail(job: Job) -> int:
            if not job.tries:
                raise JobError("not now", retryable=True)
            return job.tries

        self.queue = "txmicro.retry.WB.1000"
        self.declare()
        self.process(self.worker(fail))
        jobs = [self.sender.send("WB:*", durable=True) for _ in range(2)]
        self.advance(10.0)
        self.assertEqual(len([text for text in texts(self.events, self.queue) if "retrying" in text]), 1)
        self.assertEqual(len(self.ran), 2)
        self.delete()
        for job in jobs:
            self.assertEqual(self.result(job.when_done(), 5.0), 1)
        self.check_empty()

    def test_a_start_that_waited_too_long_for_the_broker_continues_without_durable_jobs(self) -> None:
        self.declare()
        keeping = Deferred[Any]()
        build = DurableChannel.build

        async def late(link: DurableChannel, *args: Any) -> None:
            await keeping
            await build(link, *args)

        self.patch(DurableChannel, "build", late)
        self.worked = self.worker(echo)
        self.process(self.worked)
        self.advance(PATIENCE)
        self.assertIs(self.successResultOf(self.worked.when_ready()), self.worked)
        keeping.callback(None)
        self.advance(0.5)
        self.assertEqual(self.mismatches(), 1)
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})
