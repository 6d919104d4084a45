"""Tests workers on a bus, with the examples of MicroServices.js and beyond."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.support.system import SystemTestCase
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.config import Config
from txmicro.errors import (
    AddressError,
    BusClosed,
    DuplicateWorker,
    EncodeError,
    JobCancelled,
    JobError,
    JobTimeout,
    MessageTooLarge,
    NoWorkerAvailable,
    RemoteError,
    RuntimeExceeded,
    WorkerStopped,
)
from txmicro.manager import SystemManager
from txmicro.protocol.job import Forward, Job
from txmicro.receiving import running_job
from txmicro.receiving.runner import CLEANUP
from txmicro.runtime.engine import LAST_ACKS
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker


async def echo(job: Job) -> Any:
    return {"echo": job.data}


async def never(job: Job) -> None:
    await Deferred()


async def swallow(job: Job) -> None:
    while True:
        with contextlib.suppress(Exception):  # Twisted's CancelledError is one
            await Deferred()


class NoneLeft(JobError):
    """An error of a user's program."""

    retryable = True


class PublishedSamples(SystemTestCase):
    """Tests the published samples of MicroServices.js, translated into Python."""

    def test_send_to_any_worker_of_a_type(self) -> None:
        """Worker.sendToNextWorker(["WD:*"], {data: "Stuff to do"})."""
        sender = Worker("WA")
        self.process(sender, Worker("WD", do_job=echo))
        job = sender.send(["WD:*"], {"data": "Stuff to do"})
        self.assertEqual(self.result(job.when_done()), {"echo": {"data": "Stuff to do"}})

    def test_send_to_one_worker(self) -> None:
        """Worker.sendToNextWorker(["WD:1461679731775"], {data: "Stuff to do"})."""
        sender = Worker("WA")
        workers = [Worker("WD", do_job=echo, id=f"WD:146167973177{n}") for n in range(5)]
        self.process(sender, *workers)
        for _ in range(3):
            job = sender.send(["WD:1461679731774"], {"data": "Stuff to do"})
            self.result(job.when_done())
            self.assertEqual(self.result(job.when_accepted()), "WD:1461679731774")

    def test_a_db_worker_by_inheritance(self) -> None:
        """new Worker("WB"), with treatError, storeInDB and getFromDB of its own."""

        class DBWorker(Worker):
            type = "WB"

            def opened(self) -> None:
                self.db: list[Any] = []
                self.errors: list[JobError] = []

            def treat_error(self, error: JobError, job: JobFuture) -> None:
                self.errors.append(error)

            async def do_job(self, job: Job) -> Any:
                return self.store_in_db(job.data["store"]) if "store" in job.data else self.get_from_db()

            def store_in_db(self, data: Any) -> str:
                self.db.append(data)
                return "ok"

            def get_from_db(self) -> list[Any]:
                return self.db

        sender, db = Worker("WA"), DBWorker()
        self.process(sender, db)
        self.assertEqual(self.result(sender.send("WB:*", {"store": 1}).when_done()), "ok")
        self.assertEqual(self.result(sender.send("WB:*", {}).when_done()), [1])
        db.send("WX:*", None, timeout=1.0)
        self.advance(1.5)
        self.assertEqual([type(error) for error in db.errors], [JobTimeout])

    def test_the_architecture_picture(self) -> None:
        """REST sends a job to the pilot, and the pilot to the DB worker, which answers REST."""
        stored: list[Any] = []

        async def pilot(job: Job) -> Forward:
            return Forward("WB:*", {"piloted": job.data})

        async def store(job: Job) -> str:
            stored.append((job.data, job.sender, job.origin))
            return "stored"

        rest, director, db = Worker("WA"), Worker("WD", do_job=pilot), Worker("WB", do_job=store)
        for member in (rest, director, db):
            self.process(member)
        job = rest.send("WD:*", "movie")
        self.assertEqual(self.result(job.when_done()), "stored")
        self.assertEqual(stored, [({"piloted": "movie"}, director.id, rest.id)])
        self.advance(5)
        self.assertEqual((len(rest._running_engine._outbox), len(director._running_engine._outbox)), (0, 0))


class SendTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA")
        self.manager = SystemManager()

    def test_a_worker_in_another_process_answers(self) -> None:
        self.process(self.sender)
        self.process(Worker("WB", do_job=echo))
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), {"echo": 1})

    def test_a_worker_that_starts_later_gets_the_job(self) -> None:
        self.process(self.sender)
        job = self.sender.send("WB:*", 1)
        self.advance(0.5)
        self.process(Worker("WB", do_job=echo))
        self.assertEqual(self.result(job.when_done(), 2.0), {"echo": 1})

    def test_an_error_in_treat_error_is_logged(self) -> None:
        def treat(error: JobError, job: JobFuture) -> None:
            raise OSError

        self.patch(self.sender, "treat_error", treat)
        self.process(self.sender)
        self.sender.send("WX:*", timeout=1.0)
        self.advance(1.5)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_by_default_a_failure_that_is_not_handled_is_logged(self) -> None:
        self.process(self.sender)
        with capturedLogs() as events:
            job = self.sender.send("WX:*", timeout=1.0)
            self.advance(1.5)
        [text] = [text for text in map(formatEvent, events) if text and "nobody awaits it" in text]
        self.assertIn(f"job {job.id} to WX:* failed, and nobody awaits it: WX:* gave no result within", text)
        value = self.sender.bus.metrics.registry.get_sample_value
        labels = {"service": "WA", "error_type": "JobTimeout"}
        self.assertEqual(value("microservices_job_errors_total", labels), 1)

    def test_a_dead_workers_jobs_are_run_elsewhere(self) -> None:
        """It took the jobs, and its connections are lost. The probe for the jobs is returned."""
        self.process(self.sender)
        bus = self.process(Worker("WB", do_job=never))
        answer = self.sender.send("WB:*", 1).when_done()
        self.advance(0.2)
        self.process(Worker("WB", do_job=echo))
        assert bus.session is not None
        self.endpoint.broker = None  # it cannot connect again
        for client in (bus.session.publishing, bus.session.consuming):
            client.transport.abortConnection()
        self.assertEqual(self.result(answer, 4.5), {"echo": 1})

    def test_every_format_works_and_workers_may_use_different_ones(self) -> None:
        self.process(self.sender, config=Config(data_transfer_protocol="JSON"))
        self.process(Worker("WB", do_job=echo), config=Config(data_transfer_protocol="BSON"))
        self.process(Worker("WC", do_job=echo), config=Config(data_transfer_protocol="MessagePack"))
        for kind in ("WB:*", "WC:*"):
            self.assertEqual(self.result(self.sender.send(kind, ["é", 1]).when_done()), {"echo": ["é", 1]})

    def test_a_routing_slip_visits_its_workers_in_order(self) -> None:
        async def append(job: Job) -> list[str]:
            return [*job.data, job.address]

        members = [Worker(kind, do_job=append) for kind in ("WB", "WC", "WD")]
        for member in (self.sender, *members):
            self.process(member)
        job = self.sender.send(["WB:*", "WC:*", "WD:*"], [])
        self.assertEqual(self.result(job.when_done()), ["WB:*", "WC:*", "WD:*"])
        self.advance(5)
        for member in (self.sender, *members):
            self.assertEqual(len(member._running_engine._outbox), 0, member.id)

    def test_a_type_without_workers_fails_within_two_retry_intervals(self) -> None:
        self.process(self.sender, self.manager)
        error = self.error(self.sender.send("WX:*").when_done(), NoWorkerAvailable, 4.0)
        self.assertIn("WX:*", str(error))

    def test_a_type_whose_workers_have_all_stopped_has_no_worker(self) -> None:
        self.process(self.sender, self.manager)
        self.stop(self.process(Worker("WB", do_job=echo)))
        self.error(self.sender.send("WB:*").when_done(), NoWorkerAvailable, 4.0)

    def test_a_worker_id_that_does_not_exist_fails(self) -> None:
        self.process(self.sender, self.manager, Worker("WB", do_job=echo))
        self.error(self.sender.send("WB:123").when_done(), NoWorkerAvailable, 4.0)

    def test_without_a_worker_and_a_manager_a_job_fails_at_the_deadline(self) -> None:
        self.process(self.sender)
        job = self.sender.send("WX:*", timeout=7.0)
        self.advance(6.9)
        self.assertFalse(job.done())
        self.error(job.when_done(), JobTimeout, 0.3)

    def test_a_busy_worker_counts_as_a_worker(self) -> None:
        self.process(self.sender, self.manager, Worker("WB", do_job=never))
        job = self.sender.send("WB:*", timeout=20.0)
        self.advance(15)
        self.assertFalse(job.done())

    def test_data_that_cannot_be_encoded_fails_at_once_and_is_named(self) -> None:
        self.process(self.sender)
        error = self.assertRaises(EncodeError, self.sender.send, "WB:*", {"a": [1, object()]})
        self.assertIn("a[1]", str(error))

    def test_data_that_is_too_large_fails_at_once(self) -> None:
        self.process(self.sender, config=Config(max_message=4096))
        self.assertRaises(MessageTooLarge, self.sender.send, "WB:*", "x" * 4096)

    def test_an_invalid_address_fails_at_once(self) -> None:
        self.process(self.sender)
        wrongs: list[Any] = [
            "",
            "WB",
            "WB:",
            ":*",
            "W B:*",
            "WB:*:*",
            [],
            ["WB:*", "?"],
            None,
            5,
            b"WB:*",
            [None],
        ]
        for wrong in wrongs:
            self.assertRaises(AddressError, self.sender.send, wrong)

    def test_a_worker_that_is_not_running_sends_nothing(self) -> None:
        self.assertRaises(BusClosed, self.sender.send, "WB:*")
        self.stop(self.process(self.sender))
        self.assertRaises(BusClosed, self.sender.send, "WB:*")

    def test_a_cancellation_reaches_the_worker(self) -> None:
        ended: list[str] = []

        async def handle(job: Job) -> None:
            try:
                await Deferred()
            finally:
                ended.append(job.id)

        self.process(self.sender)
        self.process(Worker("WB", do_job=handle))
        job = self.sender.send("WB:*")
        self.result(job.when_accepted())
        waiting = job.when_done()
        job.cancel()
        self.error(waiting, JobCancelled)
        self.assertEqual(ended, [job.id])

    def test_a_cancellation_before_the_ack_reaches_the_worker(self) -> None:
        started: list[str] = []
        ended: list[str] = []

        async def handle(job: Job) -> None:
            started.append(job.id)
            try:
                await Deferred()
            finally:
                ended.append(job.id)

        self.process(self.sender)
        self.process(Worker("WB", do_job=handle))
        job = self.sender.send("WB:*")
        self.clock.advance(0)
        self.assertEqual(started, [job.id])
        job.cancel()
        self.advance(0.2)
        self.assertEqual(ended, [job.id])

    def test_a_sender_that_stops_first_tells_the_takers_of_canceled_jobs(self) -> None:
        bus = self.process(self.sender)
        taker = Worker("WB", do_job=never)
        self.process(taker)
        self.sender.send("WB:*").cancel()
        self.clock.advance(0)
        self.assertEqual(taker.running_jobs, 1)
        began = self.clock.seconds()
        self.stop(bus)
        self.assertEqual(taker.running_jobs, 0)
        self.assertLess(self.clock.seconds() - began, LAST_ACKS)

    def test_a_canceled_job_that_nobody_takes_hardly_delays_a_stop(self) -> None:
        bus = self.process(self.sender)
        self.sender.send("WX:*").cancel()
        stopping = bus.stopService()
        self.clock.advance(LAST_ACKS)
        self.result(stopping, 0.1)

    def test_a_canceled_job_is_not_given_to_treat_error(self) -> None:
        treated: list[JobError] = []
        self.patch(self.sender, "treat_error", lambda error, job: treated.append(error))
        self.process(self.sender)
        self.sender.send("WX:*").cancel()
        self.assertEqual(treated, [])

    def test_a_timeout_is_a_number_of_seconds_that_can_be_encoded(self) -> None:
        self.process(self.sender)
        for durable in (False, True):
            for wrong in (0, -1, float("inf"), float("nan"), 1e9 + 1, sys.maxsize, 10**400, True, "5"):
                error = self.assertRaises(
                    ValueError, self.sender.send, "WB:*", timeout=wrong, durable=durable
                )
                self.assertIn("expected seconds above 0, at most 1,000,000,000", str(error))

    def test_with_the_longest_timeout_a_job_is_done(self) -> None:
        self.process(self.sender)
        self.process(Worker("WB", do_job=echo))
        for durable in (False, True):
            answer = self.sender.send("WB:*", "a", timeout=1e9, durable=durable).when_done()
            self.assertEqual(self.result(answer, 1.0), {"echo": "a"})

    def test_stopping_the_sender_fails_what_it_sent(self) -> None:
        bus = self.process(self.sender)
        waiting = self.sender.send("WX:*").when_done()
        self.stop(bus)
        self.error(waiting, WorkerStopped)

    def test_a_trace_context_is_passed_along(self) -> None:
        seen: list[str | None] = []

        async def first(job: Job) -> Forward:
            seen.append(job.traceparent)
            return Forward("WC:*")

        async def second(job: Job) -> None:
            seen.append(job.traceparent)

        self.process(self.sender, Worker("WB", do_job=first), Worker("WC", do_job=second))
        self.result(self.sender.send("WB:*", traceparent="00-abc-def-01").when_done())
        self.assertEqual(seen, ["00-abc-def-01"] * 2)


class TraceTests(SystemTestCase):
    """Tests that the jobs that a handler sends belong to the trace of its own job."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[str | None] = []
        self.sender, self.first = Worker("WA"), Worker("WB")

        async def last(job: Job) -> None:
            self.seen.append(job.traceparent)

        self.last = Worker("WC", do_job=last)

    def run_one(self, handler: Any, **send: Any) -> list[str | None]:
        """Return the trace that the last worker receives when *handler* runs a job."""
        self.first.do_job = handler
        if not self.buses:
            self.process(self.sender, self.first, self.last)
        self.result(self.sender.send("WB:*", **send).when_done(), 2.0)
        seen, self.seen = self.seen, []
        return seen

    def test_a_coroutine_passes_the_trace_on_also_after_an_await(self) -> None:
        async def handle(job: Job) -> None:
            await self.first.send("WC:*")
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(0.5, waiting.callback, None)
            await waiting
            await self.first.send("WC:*", durable=True).when_stored()

        seen = self.run_one(handle, traceparent="00-abc-def-01")
        self.assertEqual(seen, ["00-abc-def-01"] * 2)

    def test_an_explicit_trace_is_used(self) -> None:
        async def handle(job: Job) -> None:
            await self.first.send("WC:*", traceparent="00-other-01")

        self.assertEqual(self.run_one(handle, traceparent="00-abc-def-01"), ["00-other-01"])

    def test_a_function_passes_the_trace_on(self) -> None:
        seen = self.run_one(lambda job: self.first.send("WC:*").when_done(), traceparent="00-abc-def-01")
        self.assertEqual(seen, ["00-abc-def-01"])

    def test_a_job_that_starts_within_another_has_its_own(self) -> None:
        async def handle(job: Job) -> None:
            await self.first.send("WC:*")

        self.assertEqual(self.run_one(handle), [None])
        self.assertIsNone(running_job.current())


class HandlerTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA")

    def ask(self, handler: Any, seconds: float = 0.2, **send: Any) -> Any:
        worker = Worker("WB", do_job=handler)
        self.process(self.sender, worker)
        self.worker = worker
        waiting = self.sender.send("WB:*", None, **send).when_done()
        self.advance(seconds)
        return waiting

    def test_a_plain_function_answers(self) -> None:
        self.assertEqual(self.successResultOf(self.ask(lambda job: 5)), 5)

    def test_a_function_that_returns_a_deferred_answers(self) -> None:
        waiting: Deferred[int] = Deferred()
        answer = self.ask(lambda job: waiting)
        waiting.callback(6)
        self.assertEqual(self.result(answer), 6)

    def test_an_exception_is_a_remote_error_with_its_type_and_worker(self) -> None:
        async def handle(job: Job) -> None:
            raise KeyError("missing")

        error = self.failureResultOf(self.ask(handle), RemoteError).value
        self.assertEqual((error.type, error.worker, error.retryable), ("KeyError", self.worker.id, False))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_users_own_error_arrives_as_itself(self) -> None:
        async def handle(job: Job) -> None:
            raise NoneLeft("no more of it")

        error = self.failureResultOf(self.ask(handle), NoneLeft).value
        self.assertEqual((str(error), error.retryable), ("no more of it", True))

    def test_a_result_that_cannot_be_encoded_is_a_typed_failure(self) -> None:
        async def handle(job: Job) -> Any:
            return {"x": object()}

        error = self.failureResultOf(self.ask(handle), EncodeError).value
        self.assertIn("result.x", str(error))

    def test_a_forward_to_an_invalid_address_is_a_typed_failure(self) -> None:
        async def handle(job: Job) -> Forward:
            return Forward("nowhere")

        error = self.failureResultOf(self.ask(handle), RemoteError).value
        self.assertEqual(error.type, "AddressError")
        self.flushLoggedErrors(AddressError)

    def test_a_forward_without_a_worker_fails_at_the_origin(self) -> None:
        async def handle(job: Job) -> Forward:
            return Forward("WX:*")

        self.process(SystemManager())
        self.failureResultOf(self.ask(handle, 4.0), NoWorkerAvailable)
        self.advance(5)
        self.assertEqual(len(self.worker._running_engine._outbox), 0)

    def test_a_handler_that_does_not_end_is_canceled_at_the_senders_deadline(self) -> None:
        ended: list[str] = []

        async def handle(job: Job) -> None:
            try:
                await Deferred()
            finally:
                ended.append(job.id)

        self.failureResultOf(self.ask(handle, 3.0, timeout=2.0), JobTimeout)
        self.assertEqual(len(ended), 1)

    def test_a_handler_that_does_not_end_is_canceled_after_max_runtime(self) -> None:
        class Slow(Worker):
            type = "WB"
            max_runtime = 3.0

            async def do_job(self, job: Job) -> None:
                await Deferred()

        self.process(self.sender, Slow())
        error = self.error(self.sender.send("WB:*").when_done(), RuntimeExceeded, 3.5)
        self.assertIn("3 s", str(error))

    def test_max_runtime_frees_the_slot_of_a_handler_that_ignores_its_cancellation(self) -> None:
        class Deaf(Worker):
            type = "WB"
            max_runtime = 3.0
            capacity = 1

            async def do_job(self, job: Job) -> int:
                if job.data:
                    await swallow(job)
                return 5

        self.process(self.sender, Deaf())
        first = self.sender.send("WB:*", "ignore").when_done()
        self.advance(0.2)
        second = self.sender.send("WB:*").when_done()
        self.advance(3.0 + CLEANUP)
        self.failureResultOf(first, RuntimeExceeded)
        self.advance(4.0)  # the copy that was held is too old by now
        self.assertEqual(self.successResultOf(second), 5)

    def test_a_job_is_done_once_although_copies_of_it_arrive_twice(self) -> None:
        waiting: Deferred[int] = Deferred()
        ran: list[int] = []

        async def handle(job: Job) -> int:
            ran.append(job.tries)
            return await waiting

        answer = self.ask(handle)
        self.advance(10)
        waiting.callback(1)
        self.assertEqual(self.result(answer), 1)
        self.assertEqual(ran, [0])

    def test_capacity_bounds_what_runs_at_once(self) -> None:
        running: list[Deferred[None]] = []

        class Narrow(Worker):
            type = "WB"
            capacity = 3

            async def do_job(self, job: Job) -> None:
                running.append(Deferred())
                await running[-1]

        self.process(self.sender, Narrow())
        jobs = [self.sender.send("WB:*").when_done() for _ in range(10)]
        self.advance(0.2)
        self.assertEqual(len(running), 3)
        while not all(job.called for job in jobs):
            running.pop().callback(None)
            self.advance(0.2)
        for job in jobs:
            self.successResultOf(job)


class LifeTests(SystemTestCase):
    def test_hooks_and_announcement_in_order(self) -> None:
        events: list[str] = []

        class Hooked(Worker):
            type = "WB"

            async def opened(self) -> None:
                events.append("opened")

            async def do_job(self, job: Job) -> None:
                events.append("job")

            def closed(self) -> None:
                events.append("closed")

        sender, worker, manager = Worker("WA"), Hooked(), SystemManager()
        self.process(sender, manager)
        bus = self.process(worker)
        self.assertIs(self.successResultOf(worker.when_ready()), worker)
        self.assertIn(worker.id, manager.registry)
        self.result(sender.send("WB:*").when_done())
        self.stop(bus)
        self.assertEqual(events, ["opened", "job", "closed"])
        self.assertNotIn(worker.id, manager.registry)

    def test_a_start_that_fails_is_logged_and_takes_no_jobs(self) -> None:
        class Broken(Worker):
            type = "WB"

            def opened(self) -> None:
                raise OSError("port 8080 is taken")

            async def do_job(self, job: Job) -> None:
                """Never runs."""

        worker = Broken()
        bus = self.process(worker)
        self.failureResultOf(worker.when_ready(), OSError)
        (failure,) = self.flushLoggedErrors(OSError)
        self.assertIn("in opened", failure.getTraceback())
        self.stop(bus)

    def test_stopping_while_it_opens_cancels_that_and_closes_nothing(self) -> None:
        closed: list[bool] = []

        class Slow(Worker):
            type = "WB"

            async def opened(self) -> None:
                await Deferred()

            def closed(self) -> None:
                closed.append(True)

        worker = Slow()
        self.stop(self.process(worker))
        self.failureResultOf(worker.when_ready(), CancelledError)
        self.assertEqual(closed, [])

    def test_stopping_between_opened_and_ready_closes(self) -> None:
        closed: list[bool] = []

        class Opened(Worker):
            type = "WB"

            def closed(self) -> None:
                closed.append(True)

            async def do_job(self, job: Job) -> None:
                """Never runs."""

        worker = Opened()
        self.patch(WorkerChannel, "take_jobs", lambda channel, capacity, jobs: Deferred())
        self.stop(self.process(worker))
        self.failureResultOf(worker.when_ready(), CancelledError)
        self.assertEqual(closed, [True])

    def test_stop_lets_running_jobs_end(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        sender = Worker("WA")
        self.process(sender)
        bus = self.process(Worker("WB", do_job=handle))
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        stopping = bus.stopService()
        self.advance(1)
        self.assertNoResult(stopping)
        waiting.callback("in time")
        self.assertEqual(self.result(answer), "in time")
        self.successResultOf(stopping)

    def test_closed_may_still_await_jobs_that_this_worker_sent(self) -> None:
        answers: list[Any] = []

        class Asking(Worker):
            type = "WA"

            async def closed(self) -> None:
                answers.append(await self.send("WB:*", 1))

        self.process(Worker("WB", do_job=echo))
        self.stop(self.process(Asking()))
        self.assertEqual(answers, [{"echo": 1}])

    def test_an_error_in_closed_does_not_prevent_a_stop(self) -> None:
        class Broken(Worker):
            type = "WA"

            def closed(self) -> None:
                raise OSError

        self.stop(self.process(Broken()))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_a_stop_cancels_handlers_after_the_grace_time(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        bus = self.process(Worker("WB", do_job=never), config=Config(grace=2.0))
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        stopping = bus.stopService()
        self.advance(2.5)
        self.successResultOf(stopping)
        self.failureResultOf(answer, WorkerStopped)

    def test_a_handler_that_ignores_its_cancellation_does_not_prevent_a_stop(self) -> None:
        sender = Worker("WA")
        self.process(sender)
        bus = self.process(Worker("WB", do_job=swallow), config=Config(grace=2.0))
        answer = sender.send("WB:*").when_done()
        self.advance(0.2)
        stopping = bus.stopService()
        self.advance(2.0 + CLEANUP + 0.5)
        self.successResultOf(stopping)
        self.failureResultOf(answer, WorkerStopped)

    def test_jobs_that_wait_go_to_another_worker_when_one_stops(self) -> None:
        class Narrow(Worker):
            type = "WB"
            capacity = 1

            async def do_job(self, job: Job) -> str:
                await Deferred()
                return ""

        sender = Worker("WA")
        self.process(sender)
        bus = self.process(Narrow(), config=Config(grace=0.1))
        first, second = (sender.send("WB:*").when_done() for _ in range(2))
        self.advance(0.2)
        self.process(Worker("WB", do_job=echo))
        self.stop(bus)
        self.error(first, WorkerStopped)
        self.assertEqual(self.result(second, 2.5), {"echo": None})

    def test_the_second_of_two_with_one_id_refuses_to_start(self) -> None:
        self.process(Worker("WB", do_job=echo, id="WB:1"))
        second = Worker("WB", do_job=echo, id="WB:1")
        self.process(second)
        error = self.failureResultOf(second.when_ready(), DuplicateWorker).value
        self.assertIn("WB:1", str(error))

    def test_the_second_of_two_with_one_id_in_one_process_refuses_to_start(self) -> None:
        second = Worker("WB", id="WB:1")
        self.process(Worker("WB", id="WB:1"), second)
        self.failureResultOf(second.when_ready(), DuplicateWorker)

    def test_threads_are_not_for_coroutines(self) -> None:
        class Mixed(Worker):
            type = "WB"
            threads = True

            async def do_job(self, job: Job) -> None:
                """Never runs."""

        class Called:
            async def __call__(self, job: Job) -> None:
                """Never runs."""

        class InThreads(Worker):
            type = "WB"
            threads = True

        for make in (Mixed, lambda: InThreads(do_job=never), lambda: InThreads(do_job=Called())):
            with self.assertRaisesRegex(
                TypeError, "threads is True, which is for a plain function that blocks"
            ):
                make()

    def test_an_id_must_be_of_its_type(self) -> None:
        self.assertRaises(AddressError, Worker, "WB", id="WC:1")
        self.assertRaises(AddressError, Worker, id="WC:*")
        self.assertEqual(Worker(id="WC:1").type, "WC")

    def test_its_representation(self) -> None:
        worker = Worker("WC")
        self.assertEqual(repr(worker), "<Worker WC>")
        self.process(worker)
        self.assertEqual(repr(worker), f"<Worker {worker.id}>")

    def test_a_handler_must_be_callable(self) -> None:
        handler: Any = "print"
        with self.assertRaisesRegex(TypeError, "^<Worker WC>: do_job is 'print': expected a function"):
            Worker("WC", do_job=handler)

    def test_a_worker_needs_a_type(self) -> None:
        with self.assertRaisesRegex(AddressError, "^Worker has no worker type: set type in the class"):
            Worker()

    def test_a_worker_that_takes_no_jobs_says_so(self) -> None:
        """A misspelled do_job is found in the log."""
        with capturedLogs() as events:
            self.process(Worker("WC", id="WC:1"), Worker("WD", do_job=str, id="WD:1"))
        lines = [formatEvent(event) for event in events]
        self.assertIn("WC:1 is ready; it has no do_job, so it takes no jobs", lines)
        self.assertIn("WD:1 is ready", lines)

    def test_a_worker_needs_a_bus(self) -> None:
        self.assertRaises(TypeError, Worker("WB").startService)

    def test_peers_are_listed_with_the_oldest_first(self) -> None:
        workers = [Worker("WB", id=f"WB:{n}") for n in range(3)]
        for worker in workers:
            self.process(worker)
        for worker in workers:
            self.assertEqual([peer.id for peer in worker.peers], ["WB:0", "WB:1", "WB:2"])
        self.stop(self.buses[0])
        self.assertEqual([peer.id for peer in workers[2].peers], ["WB:1", "WB:2"])

    def test_a_removed_worker_that_runs_announces_itself(self) -> None:
        worker, other = Worker("WB"), Worker("WB")
        self.process(worker)
        self.process(other)
        other._running_engine.channel.publisher.notify(
            "worker.del.WB", {"id": worker.id, "type": "WB", "reason": "forged"}
        )
        self.advance(0.2)
        self.assertIn(worker.id, [peer.id for peer in other.peers])


class EventTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA")
        self.heard: list[Any] = []

    def hear(self, name: str) -> Any:
        return lambda topic, data: self.heard.append((name, topic, data))

    def test_events_reach_every_subscriber_of_their_topic(self) -> None:
        one, two = Worker("WB"), Worker("WC")
        for member in (self.sender, one, two):
            self.process(member)
        self.result(one.subscribe("movie.*", self.hear("one")))
        self.result(two.subscribe("#", self.hear("two")))
        self.sender.publish("movie.created", {"title": "Alien"})
        self.sender.publish("actor.created")
        self.advance(0.1)
        self.assertEqual(
            self.heard,
            [
                ("one", "movie.created", {"title": "Alien"}),
                ("two", "movie.created", {"title": "Alien"}),
                ("two", "actor.created", None),
            ],
        )

    def test_no_event_arrives_after_closed(self) -> None:
        closed: Deferred[None] = Deferred()

        class Closing(Worker):
            def closed(self) -> Deferred[None]:
                return closed

        closing = Closing("WB")
        self.process(self.sender)
        bus = self.process(closing)
        self.result(closing.subscribe("#", self.hear("closing")))
        stopping = bus.stopService()
        self.advance(0.1)
        self.sender.publish("x")
        self.advance(0.1)
        closed.callback(None)
        self.result(stopping)
        self.assertEqual(self.heard, [])

    def test_a_group_gets_each_event_once(self) -> None:
        members = [Worker("WB") for _ in range(3)]
        for member in (self.sender, *members):
            self.process(member)
        for number, member in enumerate(members):
            self.result(member.subscribe("movie.*", self.hear(str(number)), group=True))
        for number in range(6):
            self.sender.publish("movie.created", number)
        self.advance(0.1)
        self.assertEqual(sorted(data for _, _, data in self.heard), list(range(6)))
        self.assertEqual(len({name for name, _, _ in self.heard}), 3)

    def test_a_subscription_before_the_start_is_active_from_the_start(self) -> None:
        worker = Worker("WB")
        self.successResultOf(worker.subscribe("#", self.hear("early")))
        self.process(self.sender)
        self.process(worker)
        self.sender.publish("x", 1)
        self.advance(0.1)
        self.assertEqual(self.heard, [("early", "x", 1)])

    def test_a_handler_that_raises_gets_the_next_event(self) -> None:
        def handle(topic: str, data: Any) -> None:
            self.heard.append(data)
            raise ValueError(data)

        worker = Worker("WB")
        self.process(self.sender, worker)
        self.result(worker.subscribe("#", handle))
        self.sender.publish("x", 1)
        self.sender.publish("x", 2)
        self.advance(0.1)
        self.assertEqual(self.heard, [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
