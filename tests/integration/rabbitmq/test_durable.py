"""Tests durable jobs on real connections: on RabbitMQ, and on the embedded broker over TCP."""

from __future__ import annotations

from collections import Counter
from functools import partial
from io import StringIO
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.support.live import PATIENCE, Embedded, Live, LiveBroker, LiveTestCase, Network, RabbitMQ
from tests.support.rabbitmq import reactor
from txmicro.amqp.channel import Channel
from txmicro.amqp.errors import ChannelClosed
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.bus.connections import Bus
from txmicro.cli import main as cli
from txmicro.errors import JobError, JobTimeout, NotStored, QueueMismatch, WorkerLost
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.job import Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.sending import confirmed as storing
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker

QUICK = RetryPolicy(attempts=3, steps=(0.2, 0.4))


class JobRecord:
    """Records the jobs that were run, and their effects by ``job.key``, as a store does.

    :ivar runs: how often each job was started.
    :ivar again: the jobs that were marked as redelivered.
    """

    def __init__(self) -> None:
        self.effects: dict[str, Any] = {}
        self.runs: Counter[str] = Counter()
        self.again: set[str] = set()

    def began(self, job: Job) -> None:
        self.runs[job.key] += 1
        if job.redelivered:
            self.again.add(job.key)


class Taker(Worker):
    """Records the jobs that it runs."""

    type = "WD"
    retry = QUICK
    capacity = 20

    def __init__(self, record: JobRecord) -> None:
        super().__init__()
        self.record = record

    async def do_job(self, job: Job) -> Any:
        self.record.began(job)
        self.record.effects[job.key] = job.data
        return job.data


class DurableJobs(Live):
    """Tests that a job that the broker has confirmed is done or is among the dead letters."""

    exact_cancel = True

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.record = JobRecord()
        self.sender = Worker("WS")
        await self.start(self.sender)
        await self.watch()
        for queue in self.queues():  # left by another test
            await self.watching.queue_delete(queue=queue)

    async def watch(self) -> None:
        self.watching = (await self.raw_publisher()).channel

    def always(self) -> list[str]:
        names = [topology.durable_queue, topology.quarantine_queue, topology.dead_queue]
        return [name("WD") for name in names]

    def queues(self) -> list[str]:
        return [*self.always(), *(topology.retry_queue("WD", step) for step in QUICK.steps)]

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in *queue*; 0 if it does not exist."""
        try:
            reply = await self.watching.queue_declare(queue=queue, passive=True)
        except ChannelClosed:
            await self.watch()
            return 0
        return int(reply.message_count)

    async def check_empty(self, *but: str) -> None:
        """Check that no queue but these contains a message, ready or unacknowledged. All consumers must be closed."""
        await gatherResults([bus.stopService() for bus in self.buses if bus.running])
        for queue in self.queues():
            if queue not in but:
                self.assertEqual(await self.depth(queue), 0, queue)

    async def dead(self) -> list[dict[str, Any]]:
        """Take the dead letters, and return their headers."""
        letters: list[dict[str, Any]] = []

        def letter(deliver: Deliver, properties: Properties, body: bytes) -> None:
            letters.append(properties.headers or {})

        channel: Channel = await self.watching.client.channel_open()
        count = await self.depth(topology.dead_queue("WD"))
        tag = await channel.consume(topology.dead_queue("WD"), letter, no_ack=True)
        await self.until(lambda: len(letters) == count, "all letters are here")
        await channel.cancel(tag)
        await channel.channel_close()
        return letters

    async def taker(self, handler: Any = None, network: Network | None = None) -> tuple[Taker, Bus]:
        taker = Taker(self.record)
        if handler is not None:

            async def do_job(job: Job) -> Any:
                self.record.began(job)
                return await handler(job)

            taker.do_job = do_job  # type: ignore[method-assign]
        if network is not None:  # it may be interrupted before the worker is ready
            return taker, self.launch(taker, network=network, grace=0.01)
        return taker, await self.start(taker, grace=5)

    async def test_it_is_stored_and_done(self) -> None:
        await self.taker()
        job = self.sender.send("WD:*", 1, durable=True)
        await job.when_stored()
        self.assertEqual(await job, 1)
        await self.check_empty()

    async def test_it_waits_for_a_worker(self) -> None:
        _, bus = await self.taker()
        await bus.stopService()
        job = self.sender.send("WD:*", 1, durable=True)
        await job.when_stored()
        self.assertEqual(await self.depth(topology.durable_queue("WD")), 1)
        await self.taker()
        self.assertEqual(await job, 1)
        await self.check_empty()

    async def test_without_a_queue_it_is_not_stored(self) -> None:
        self.patch(storing, "QUEUE_GRACE", 0.0)
        error = await self.failed(self.sender.send("WX:*", durable=True).when_stored(), NotStored)
        self.assertIn("WX", str(error))

    async def test_without_its_queue_it_is_not_stored_whatever_its_headers(self) -> None:
        _, bus = await self.taker()
        await bus.stopService()
        await self.watching.queue_delete(queue=topology.durable_queue("WD"))
        self.patch(storing, "QUEUE_GRACE", 0.0)
        for expires, attempts in ((None, None), (60, None), (None, 5), (60, 5)):
            job = self.sender.send("WD:*", durable=True, expires=expires, attempts=attempts)
            await self.failed(job.when_stored(), NotStored)
            self.assertFalse(job.stored())

    async def test_a_retry_queue_is_declared_when_it_is_needed_first(self) -> None:
        async def fail(job: Job) -> int:
            if not job.tries:
                raise JobError("not now", retryable=True)
            return job.tries

        await self.taker(fail)
        first, second = (topology.retry_queue("WD", step) for step in QUICK.steps)
        self.assertEqual(
            [await self.exists(queue) for queue in (*self.always(), first)], [True] * 3 + [False]
        )
        jobs = [self.sender.send("WD:*", durable=True) for _ in range(20)]
        results = await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        self.assertEqual(results, [1] * 20)
        self.assertEqual([await self.exists(queue) for queue in (first, second)], [True, False])
        await self.check_empty()

    async def exists(self, queue: str) -> bool:
        channel = await self.watching.client.channel_open()
        try:
            await channel.queue_declare(queue=queue, passive=True)
        except ChannelClosed:
            return False
        await channel.channel_close()
        return True

    async def test_a_failed_job_outlives_the_deletion_of_its_retry_queue(self) -> None:
        async def fail(job: Job) -> int:
            if not job.tries:
                await self.watching.queue_delete(queue=topology.retry_queue("WD", QUICK.steps[0]))
                raise JobError("not now", retryable=True)
            return job.tries

        await self.taker(fail)
        self.assertEqual(await self.sender.send("WD:*", durable=True, attempts=3, expires=60), 1)
        await self.check_empty()

    async def test_a_failure_is_tried_again_after_growing_steps(self) -> None:
        times: list[float] = []

        async def fail(job: Job) -> int:
            times.append(reactor.seconds())
            if job.tries < 2:
                raise JobError("not now", retryable=True)
            return job.tries

        await self.taker(fail)
        self.assertEqual(await self.sender.send("WD:*", durable=True), 2)
        for step, waited in zip(QUICK.steps, (times[1] - times[0], times[2] - times[1]), strict=True):
            self.assertGreaterEqual(waited, step - 0.02)
        await self.check_empty()

    async def test_a_job_that_always_fails_is_a_dead_letter_with_its_history(self) -> None:
        async def fail(job: Job) -> None:
            raise JobError("never", retryable=True)

        taker, _ = await self.taker(fail)
        job = self.sender.send("WD:*", {"n": 1}, durable=True)
        await self.failed(job.when_done(), JobError)
        self.assertEqual(self.record.runs, {f"{job.id}/0": 3})
        await self.check_empty(topology.dead_queue("WD"))
        [headers] = await self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.EXHAUSTED)
        self.assertEqual(headers[durable_headers.ATTEMPT], 3)
        failure = headers[durable_headers.FAILURE]
        self.assertEqual(
            (failure["type"], failure["message"], failure["worker"]), ("JobError", "never", taker.id)
        )
        self.assertGreaterEqual(headers[durable_headers.FAILED], headers[durable_headers.STORED])

    async def test_an_expired_job_is_a_dead_letter_and_does_not_run(self) -> None:
        _, bus = await self.taker()
        await bus.stopService()
        job = self.sender.send("WD:*", durable=True, expires=0.2, timeout=1.0)
        await job.when_stored()
        error = await self.failed(job.when_done(), JobTimeout)
        self.assertTrue(error.still_queued)
        await self.taker()
        await self.check_empty(topology.dead_queue("WD"))
        [headers] = await self.dead()
        self.assertEqual(headers["x-death"][0]["reason"], "expired")
        self.assertEqual(self.record.runs, {})

    async def test_a_job_that_kills_its_worker_is_a_dead_letter_after_the_limit(self) -> None:
        """Its neighbors are done, too."""
        data = [*range(10), "poison", *range(10, 20)]
        networks: list[Network] = []

        async def handle(job: Job) -> Any:
            if job.data == "poison":
                networks[-1].cut()
                await Deferred[None]()
            await deferLater(reactor, 0.01)
            self.record.effects[job.key] = job.data
            return job.data

        jobs: list[JobFuture] = []
        for life in range(1, topology.DELIVERY_LIMIT + 2):
            networks.append(Network(self.broker.port))
            _, bus = await self.taker(handle, network=networks[-1])
            jobs = jobs or [self.sender.send("WD:*", item, durable=True, timeout=60) for item in data]
            await self.until(partial(self.was_run, jobs[10], life), "it is taken")
            await bus.stopService()
        await self.taker()
        poison = jobs.pop(10)
        results = await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        self.assertEqual(results, list(range(20)))
        # Once in the queue, then in the quarantine up to the limit of deliveries.
        self.assertEqual(self.record.runs[f"{poison.id}/0"], 1 + topology.DELIVERY_LIMIT)
        self.assertEqual(len(self.record.effects), 20)
        await self.failed(poison, WorkerLost)
        await self.check_empty(topology.dead_queue("WD"))
        [headers] = await self.dead()
        self.assertEqual(headers[durable_headers.REASON], durable_headers.DEATHS)

    async def test_a_rolling_restart_runs_nothing_twice(self) -> None:
        async def handle(job: Job) -> Any:
            await deferLater(reactor, 0.01)
            self.record.effects[job.key] = job.data

        _, bus = await self.taker(handle)
        jobs = [self.sender.send("WD:*", n, durable=True, timeout=60) for n in range(400)]
        for _ in range(5):
            _, following = await self.taker(handle)
            await bus.stopService()
            bus = following
        await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        self.assertEqual(set(self.record.runs.values()), {1})
        self.assertEqual(len(self.record.effects), 400)
        if self.exact_cancel:
            self.assertEqual(self.record.again, set())
        await self.check_empty()

    async def test_all_connections_are_closed_during_the_jobs(self) -> None:
        async def handle(job: Job) -> Any:
            await deferLater(reactor, 0.005)
            self.record.effects[job.key] = job.data
            return job.data

        await self.taker(handle)
        jobs = [self.sender.send("WD:*", n, durable=True, timeout=60) for n in range(300)]
        for amount in (50, 150):
            await self.until(partial(self.more_done_than, amount), "some are done")
            await self.broker.close_connections()
        await self.until(lambda: len(self.record.effects) == 300, "all are done")
        await gatherResults([job.when_stored() for job in jobs], consumeErrors=True)
        await self.quiet()
        self.only_what_was_delivered_again_ran_again()
        for job in jobs:
            job.cancel()
        await self.watch()
        await self.check_empty()

    async def test_a_queue_with_other_arguments_is_named_and_declared_again_after_its_deletion(self) -> None:
        queue = topology.durable_queue("WD")
        await self.watching.queue_declare(
            queue=queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3}
        )
        taker, other = Taker(self.record), Worker("WO", do_job=lambda job: job.data)
        self.launch(taker, other)
        error = await self.failed(taker.when_ready(), QueueMismatch)
        self.assertEqual(error.queue, queue)
        self.assertIn("inequivalent arg 'x-", error.difference)
        await other.when_ready()
        self.assertEqual(await self.sender.send("WO:*", 1), 1)
        await self.watching.queue_delete(queue=queue)
        await self.taker()
        self.assertEqual(await self.sender.send("WD:*", 2, durable=True), 2)
        await self.check_empty()

    async def test_copies_of_a_dead_letter_are_listed_once(self) -> None:
        async def refuse(job: Job) -> None:
            raise JobError("no")

        _, bus = await self.taker(refuse)
        job = self.sender.send("WD:*", durable=True)
        await self.failed(job.when_done(), JobError)
        await bus.stopService()
        key = f"{job.id}/0"
        exchange = topology.durable_exchange("WD")
        for name in (key, key, *(f"other{n}/0" for n in range(40)), key):
            prefix = self.watching.publisher(exchange, topology.DEAD)
            await self.watching.publish_confirmed(prefix, Properties(message_id=name).encode(), b"{}", name)
        self.assertIn("41 dead letters of WD\n", await self.operate("list"))
        self.assertEqual(await self.operate("discard", "other3", "other5"), "2 discarded\n")
        self.assertEqual(await self.operate("requeue", key), "1 requeued\n")
        self.assertEqual(await self.depth(topology.durable_queue("WD")), 1)
        self.assertEqual(await self.depth(topology.dead_queue("WD")), 38)
        self.assertEqual(await self.operate("requeue", "--all"), "38 requeued\n")
        self.assertEqual(await self.depth(topology.dead_queue("WD")), 0)

    async def operate(self, command: str, *words: str) -> str:
        """Return the output of ``txmicro dead``."""
        out, err = StringIO(), StringIO()
        obeying = cli.Command(reactor, {"TXMICRO_BROKER_URL": self.url()}, out, err)
        self.assertEqual((await obeying.run(["dead", command, "WD", *words]), err.getvalue()), (cli.DONE, ""))
        return out.getvalue()

    def more_done_than(self, amount: int) -> bool:
        return len(self.record.effects) > amount

    def was_run(self, job: JobFuture, times: int) -> bool:
        return self.record.runs[f"{job.id}/0"] >= times

    async def quiet(self) -> None:
        """Wait until the jobs that were delivered again have been run or acknowledged."""
        while True:
            before = sum(self.record.runs.values())
            await deferLater(reactor, 0.5)
            if before == sum(self.record.runs.values()):
                return

    def only_what_was_delivered_again_ran_again(self) -> None:
        more_than_once = {key for key, times in self.record.runs.items() if times > 1}
        self.assertLessEqual(more_than_once, self.record.again)


class OnRabbitMQ(DurableJobs, LiveTestCase):
    """Tests on RabbitMQ, where it is installed."""

    # A quorum queue of 3.10 keeps a message back that it was about to deliver to a canceled consumer. It delivers the
    # message elsewhere when the channel is closed, marked as redelivered.
    exact_cancel = False

    broker: RabbitMQ

    def make_broker(self) -> LiveBroker:
        return RabbitMQ()

    async def test_the_broker_is_killed_with_jobs_in_its_queue(self) -> None:
        _, bus = await self.taker()
        await bus.stopService()
        # RabbitMQ 3.10 loses a quorum queue if it is killed within half a second of the queue's declaration.
        await deferLater(reactor, 1.5)
        jobs = [self.sender.send("WD:*", n, durable=True, timeout=80) for n in range(500)]
        await gatherResults([job.when_stored() for job in jobs])

        async def handle(job: Job) -> Any:
            await deferLater(reactor, 0.01)
            self.record.effects.setdefault(job.key, job.data)

        await self.taker(handle)
        await self.until(lambda: len(self.record.effects) > 50, "some are done")
        await self.broker.kill()
        more = [self.sender.send("WD:*", n, durable=True, timeout=80) for n in range(500, 520)]
        await self.broker.restart()
        await gatherResults([job.when_stored() for job in more])
        await self.until(lambda: len(self.record.effects) == 520, "all are done")
        await self.quiet()
        self.assertEqual(set(self.record.effects.values()), set(range(520)))
        self.only_what_was_delivered_again_ran_again()
        for job in [*jobs, *more]:
            job.cancel()
        await self.watch()
        await self.check_empty()

    async def test_a_queue_that_is_full_refuses_and_takes_it_when_there_is_room(self) -> None:
        _, bus = await self.taker()
        await bus.stopService()
        pattern = r"^txmicro\.jobs\.WD\.durable$"
        await self.broker.node.ctl("set_policy", "full", pattern, '{"max-length": 5}', "--apply-to", "queues")
        try:
            jobs = [self.sender.send("WD:*", n, durable=True, timeout=60) for n in range(20)]
            # A full queue refuses only later messages: of several at the same time, more than five may enter.
            await gatherResults([job.when_stored() for job in jobs[:5]])
            late = [self.sender.send("WD:*", n, durable=True, timeout=60) for n in range(20, 50)]
            await deferLater(reactor, 2.5)
            self.assertEqual([job.stored() for job in late], [False] * 30)
            jobs += late
            await self.taker()
            results = await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        finally:
            await self.broker.node.ctl("clear_policy", "full")
        self.assertEqual(results, list(range(50)))
        self.assertEqual(set(self.record.runs.values()), {1})
        await self.check_empty()

    async def test_while_the_broker_lacks_memory_nothing_is_stored_and_then_all_is_once(self) -> None:
        await self.taker()
        await self.sender.send("WD:*", 0, durable=True)
        await self.broker.node.set_memory_watermark(0)
        try:
            jobs = [self.sender.send("WD:*", n, durable=True, timeout=60) for n in range(1, 20)]
            session = self.sender.bus.session
            assert session is not None
            await self.until(lambda: session.publishing.blocked, "the connection is blocked")
            await deferLater(reactor, 1)
            self.assertEqual([job.stored() for job in jobs], [False] * 19)
        finally:
            await self.broker.node.set_memory_watermark(0.4)
        results = await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        self.assertEqual(results, list(range(1, 20)))
        self.assertEqual(set(self.record.runs.values()), {1})
        await self.check_empty()

    async def test_its_queues_are_deleted_and_declared_again(self) -> None:
        await self.taker()
        await self.sender.send("WD:*", 0, durable=True)
        for queue in self.always():
            await self.broker.delete_queue(queue)
        self.assertEqual(await self.sender.send("WD:*", 1, durable=True, timeout=60), 1)
        await self.until_all_are_there()
        await self.check_empty()

    async def until_all_are_there(self) -> None:
        deadline = reactor.seconds() + PATIENCE
        while not set(self.always()) <= (await self.broker.node.queues()).keys():
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.5)


class OnTheEmbeddedBroker(DurableJobs, LiveTestCase):
    """Tests on the embedded broker, over TCP."""

    def make_broker(self) -> LiveBroker:
        return Embedded()
