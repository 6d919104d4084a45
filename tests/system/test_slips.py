"""Tests jobs of several hops: all hops are kept until the origin has the result, and released then."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.system import Endpoint, SystemTestCase
from txmicro.bus.connections import Bus
from txmicro.bus.publisher import Publisher
from txmicro.bus.targets import Target
from txmicro.config import Config
from txmicro.errors import (
    AddressError,
    BusOverloaded,
    JobCancelled,
    JobTimeout,
    NoWorkerAvailable,
    RemoteError,
    TooManyHops,
)
from txmicro.manager import SystemManager
from txmicro.protocol import messages
from txmicro.protocol.job import Forward, Job
from txmicro.worker import Worker

SLIP = ["WB:*", "WC:*", "WD:*", "WE:*"]


class SlipTestCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ran: Counter[str] = Counter()
        self.handlers: dict[str, Any] = {}
        self.sender = Worker("WA", id="WA:1")
        self.members = [self.sender]
        self.process(self.sender)

    async def handle(self, job: Job) -> Any:
        self.ran[job.key] += 1
        if job.address in self.handlers:
            return await self.handlers[job.address](job)
        return [*job.data, job.address]

    def worker(self, kind: str, **given: Any) -> Bus:
        """Start a worker of this type in a process of its own."""
        self.members.append(Worker(kind, do_job=self.handle))
        return self.process(self.members[-1], **given)

    def workers(self) -> dict[str, Bus]:
        return {kind: self.worker(kind) for kind in ("WB", "WC", "WD", "WE")}

    def lose(self, kind: str, sender: str) -> list[str]:
        """Lose the first message of this kind that a worker of type *sender* sends."""
        lost: list[str] = []
        reply = Publisher.reply

        def replying(post: Publisher, worker: str, what: str, key: str, body: bytes) -> None:
            if what == kind and post._worker.startswith(sender) and not lost:
                lost.append(key)
            else:
                reply(post, worker, what, key, body)

        self.patch(Publisher, "reply", replying)
        return lost

    def kill(self, bus: Bus) -> None:
        """Close its connections for good."""
        assert bus.session is not None
        bus._targets[0] = Target(Endpoint(self.clock, None), bus._targets[0].broker)
        for client in (bus.session.publishing, bus.session.consuming):
            client.transport.abortConnection()

    def check_free(self) -> None:
        """Check that no worker keeps a hop."""
        for member in self.members:
            if member._engine is not None:
                self.assertEqual(len(member._engine._outbox), 0, member.id)


class LostMessageTests(SlipTestCase):
    def test_each_message_may_be_lost_and_no_hop_runs_twice(self) -> None:
        self.workers()
        once = {f"/{hop}": 1 for hop in range(4)}
        for kind, senders in (
            (messages.RESULT, ["WE"]),
            (messages.HEARD, ["WA"]),
            (messages.DONE, ["WE", "WD", "WC"]),
            (messages.ACK, ["WB", "WC", "WD", "WE"]),
        ):
            for sender in senders:
                self.ran.clear()
                lost = self.lose(kind, sender)
                job = self.sender.send(SLIP, []).when_done()
                self.assertEqual(self.result(job, 2.6), SLIP, (kind, sender))
                self.advance(6)
                self.assertEqual(len(lost), 1, (kind, sender))
                self.assertEqual({key[key.index("/") :]: n for key, n in self.ran.items()}, once)
                self.check_free()

    def test_a_lost_failure_is_sent_again(self) -> None:
        async def fail(job: Job) -> None:
            raise ZeroDivisionError

        self.handlers["WD:*"] = fail
        self.workers()
        lost = self.lose(messages.FAILURE, "WD")
        self.error(self.sender.send(SLIP, []).when_done(), RemoteError, 2.6)
        self.assertEqual(len(lost), 1)
        self.advance(6)
        self.check_free()
        self.flushLoggedErrors(ZeroDivisionError)

    def test_a_result_and_its_worker_are_lost(self) -> None:
        for kind in ("WB", "WC", "WD", "WE"):
            buses = self.workers()
            lost = self.lose(messages.RESULT, "WE")
            job = self.sender.send(SLIP, []).when_done()
            self.advance(0.5)
            self.assertEqual(len(lost), 1)
            self.worker(kind)
            self.kill(buses[kind])
            self.assertEqual(self.result(job, 6), SLIP, kind)
            self.advance(6)
            for bus in self.buses[1:]:
                if bus.running:
                    self.stop(bus)
            self.check_free()

    def test_each_worker_on_the_way_dies_during_the_job(self) -> None:
        waiting: list[Deferred[None]] = []

        async def wait(job: Job) -> list[str]:
            waiting.append(Deferred())
            await waiting[-1]
            return [*job.data, job.address]

        self.handlers["WE:*"] = wait
        for kind in ("WB", "WC", "WD", "WE"):
            buses = self.workers()
            job = self.sender.send(SLIP, []).when_done()
            self.advance(0.5)
            self.worker(kind)
            self.kill(buses[kind])
            self.advance(4)
            for each in waiting:
                each.callback(None)
            waiting.clear()
            self.assertEqual(self.result(job, 4), SLIP, kind)
            self.advance(6)
            for bus in self.buses[1:]:
                if bus.running:
                    self.stop(bus)
            self.check_free()


class ForgettingTests(SlipTestCase):
    def test_a_result_too_large_to_be_remembered_releases_all_hops(self) -> None:
        self.workers()
        for member in self.members[1:]:
            member._running_engine._answers._memory_bytes = 0
        job = self.sender.send(SLIP, []).when_done()
        self.assertEqual(self.result(job, 0.5), SLIP)
        self.check_free()

    def test_a_worker_that_forgot_a_forwarded_job_still_releases_its_sender(self) -> None:
        self.workers()
        for member in self.members[1:]:
            member._running_engine._answers._memory_jobs = 0
        job = self.sender.send(SLIP, []).when_done()
        self.assertEqual(self.result(job, 0.5), SLIP)
        self.check_free()


class StoppingTests(SlipTestCase):
    def test_a_worker_that_stops_after_its_answer_releases_all_hops(self) -> None:
        buses = self.workers()
        job = self.sender.send(SLIP, []).when_done()
        self.lose(messages.HEARD, "WA")
        while not job.called:
            self.clock.advance(0)
        self.stop(buses["WE"])
        self.advance(3)
        self.assertEqual(self.successResultOf(job), SLIP)
        self.check_free()
        self.assertEqual(set(self.ran.values()), {1})

    def stop_while_the_next_hop_runs(self, seconds: float) -> Deferred[Any]:
        """Stop WB, which has forwarded a job, *seconds* before WC is done. Another WB runs."""
        gate: Deferred[None] = Deferred()

        async def wait(job: Job) -> list[str]:
            await gate
            return [*job.data, job.address]

        self.handlers["WC:*"] = wait
        bus = self.worker("WB", config=Config(grace=20.0))
        self.worker("WC")
        job = self.sender.send(SLIP[:2], []).when_done()
        self.advance(0.5)
        self.worker("WB")
        self.clock.callLater(seconds, gate.callback, None)
        self.stopping = bus.stopService()
        return job

    def test_a_stop_waits_for_the_hops_after_a_forwarded_job(self) -> None:
        job = self.stop_while_the_next_hop_runs(10.0)
        self.advance(9.9)
        self.assertNoResult(self.stopping)
        self.advance(0.5)
        self.successResultOf(self.stopping)
        self.assertEqual(self.successResultOf(job), SLIP[:2])
        self.assertEqual(set(self.ran.values()), {1})
        self.check_free()

    def test_it_waits_only_for_its_grace_time(self) -> None:
        job = self.stop_while_the_next_hop_runs(25.0)
        self.advance(19.9)
        self.assertNoResult(self.stopping)
        self.advance(0.5)
        self.successResultOf(self.stopping)
        self.assertEqual(self.result(job, 10.0), SLIP[:2])
        self.check_free()

    def test_a_job_that_cannot_be_forwarded_is_not_waited_for(self) -> None:
        bus = self.worker("WB", config=Config(outbox_jobs=1))
        self.handlers["WB:*"] = self.forward_to_nobody
        waiting = [self.sender.send("WB:*", timeout=5.0).when_done() for _ in range(2)]
        self.advance(0.5)
        self.failureResultOf(waiting[1], BusOverloaded)
        stopping = bus.stopService()
        self.advance(5.0)
        self.successResultOf(stopping)
        self.failureResultOf(waiting[0], JobTimeout)

    async def forward_to_nobody(self, job: Job) -> Forward:
        return Forward("WX:*")


class CancelTests(SlipTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ended: list[str] = []
        self.handlers["WE:*"] = self.never
        self.workers()

    async def never(self, job: Job) -> None:
        try:
            await Deferred()
        finally:
            self.ended.append(job.key)

    def test_canceling_reaches_the_last_worker(self) -> None:
        job = self.sender.send(SLIP, [])
        waiting = job.when_done()
        self.advance(0.5)
        job.cancel()
        self.error(waiting, JobCancelled)
        self.assertEqual(self.ended, [f"{job.id}/3"])
        self.advance(1)
        self.check_free()

    def test_a_deadline_at_the_origin_does_too(self) -> None:
        """The forwarding workers have the same deadline. The test removes it, so that only the origin has one."""
        job = self.sender.send(SLIP, [], timeout=3.0)
        self.advance(0.5)
        for member in self.members[1:]:
            assert member._engine is not None
            member._engine._outbox._deadlines.clear()
        self.error(job.when_done(), JobTimeout, 3.0)
        self.assertEqual(self.ended, [f"{job.id}/3"])
        self.advance(1)
        self.check_free()

    def test_a_worker_that_forwards_a_job_to_itself_is_reached_too(self) -> None:
        async def again(job: Job) -> Any:
            if job.hop < 3:
                return Forward("WF:1")
            return await self.never(job)

        self.handlers["WF:1"] = again
        self.members.append(Worker("WF", do_job=self.handle, id="WF:1"))
        self.process(self.members[-1])
        job = self.sender.send("WF:1")
        self.advance(0.5)
        job.cancel()
        self.advance(0.5)
        self.assertEqual(self.ended, [f"{job.id}/3"])
        self.check_free()


class CircleTests(SlipTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.handlers["WB:*"] = self.pass_on
        self.hops: list[Job] = []

    async def pass_on(self, job: Job) -> Forward:
        self.hops.append(job)
        return Forward("WB:*", job.data)

    def test_a_job_that_is_always_forwarded_fails_after_max_hops(self) -> None:
        self.worker("WB")
        error = self.error(self.sender.send("WB:*", []).when_done(), TooManyHops, 5)
        self.assertIn("64 hops, as many as max_hops allows", str(error))
        self.assertFalse(error.retryable)
        self.assertEqual([job.hop for job in self.hops], list(range(64)))
        self.assertEqual(len({job.key for job in self.hops}), 64)
        self.advance(3)
        self.check_free()

    def test_a_forwarded_job_does_not_grow(self) -> None:
        sizes: list[int] = []
        publish = Publisher._publish

        def publishing(publisher: Publisher, session: Any, route: Any, kind: str, *rest: Any) -> None:
            if kind == messages.JOB:
                sizes.append(len(rest[-1]))
            publish(publisher, session, route, kind, *rest)

        self.patch(Publisher, "_publish", publishing)
        self.worker("WB")
        self.error(self.sender.send("WB:*", []).when_done(), TooManyHops, 5)
        self.assertEqual(len(sizes), 64)
        self.assertLess(max(sizes[1:]) - min(sizes[1:]), 10)

    def test_the_limit_is_the_configurations(self) -> None:
        self.worker("WB", config=Config(max_hops=3))
        self.error(self.sender.send("WB:*", []).when_done(), TooManyHops, 1)
        self.assertEqual(len(self.hops), 3)

    def test_a_slip_may_be_as_long(self) -> None:
        self.handlers.clear()
        self.worker("WB")
        self.assertEqual(len(self.result(self.sender.send(["WB:*"] * 64, []).when_done(), 5)), 64)
        self.assertRaises(AddressError, self.sender.send, ["WB:*"] * 65, [])

    def test_a_slip_may_end_in_a_forward(self) -> None:
        async def leave(job: Job) -> Forward:
            return Forward("WC:*", job.data)

        self.handlers["WB:*"] = leave
        self.worker("WB")
        self.worker("WC")
        self.assertEqual(self.result(self.sender.send(["WC:*", "WB:*"], []).when_done(), 1), ["WC:*"] * 2)
        self.assertEqual([key.partition("/")[2] for key in self.ran], ["0", "1", "2"])


class DeadlineTests(SlipTestCase):
    def test_the_remaining_time_is_passed_on(self) -> None:
        left: list[float] = []

        async def slow(job: Job) -> list[str]:
            left.append(round(job.deadline - self.clock.seconds(), 1))
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(1, waiting.callback, None)
            await waiting
            return []

        self.handlers = dict.fromkeys(SLIP[:3], slow)
        self.workers()
        self.assertEqual(self.result(self.sender.send(SLIP, [], timeout=10.0).when_done(), 4), ["WE:*"])
        self.assertEqual(left, [10.0, 9.0, 8.0])

    def test_a_job_whose_deadline_passed_in_the_queue_is_not_started(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def wait(job: Job) -> None:
            await waiting

        self.handlers["WB:*"] = wait
        self.worker("WB", config=Config(capacity=1))
        for _ in range(2):  # one runs, and one is held
            self.sender.send("WB:*")
        self.advance(0.2)
        late = self.sender.send("WB:*", timeout=0.5)
        self.error(late.when_done(), JobTimeout, 0.7)
        waiting.callback(None)
        self.advance(0.5)
        self.assertNotIn(f"{late.id}/0", self.ran)
        self.assertEqual(len(self.ran), 2)


class BoundTests(SlipTestCase):
    def test_a_job_beyond_the_limit_of_the_sender_fails_at_once(self) -> None:
        busy = Worker("WX")
        self.process(busy, config=Config(outbox_jobs=3))
        jobs = [busy.send("WB:*") for _ in range(3)]
        self.assertRaises(BusOverloaded, busy.send, "WB:*")
        self.assertRaises(BusOverloaded, busy.send, "WB:*", durable=True)
        jobs[0].cancel()
        busy.send("WB:*")
        large = Worker("WY")
        self.process(large, config=Config(outbox_bytes=10_000))
        large.send("WB:*", "x" * 5000)
        self.assertRaises(BusOverloaded, large.send, "WB:*", "x" * 5000)

    def test_a_hop_too_many_fails_at_the_origin(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WC:*")

        self.handlers["WB:*"] = forward
        self.worker("WB", config=Config(outbox_jobs=1))
        self.sender.send("WB:*")
        error = self.error(self.sender.send("WB:*").when_done(), BusOverloaded)
        self.assertTrue(error.retryable)
        self.assertEqual(error.worker, self.members[-1].id)

    def test_a_message_names_a_bounded_number_of_keys(self) -> None:
        sizes: list[int] = []

        def replying(post: Publisher, worker: str, kind: str, key: str, body: bytes) -> None:
            sizes.append(len(post._codec.decode(body)["keys"]))

        sender = self.sender._running_engine._sender
        self.patch(Publisher, "reply", replying)
        sender.send_keys(messages.PROBE, "WB:1", [str(n) for n in range(2500)])
        self.assertEqual(sizes, [1000, 1000, 500])

    def test_a_forward_without_a_worker_fails_at_the_origin(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WX:*")

        self.handlers["WC:*"] = forward
        self.process(SystemManager())
        self.workers()
        self.error(self.sender.send(SLIP[:2], []).when_done(), NoWorkerAvailable, 5.0)
        self.advance(1)
        self.check_free()
