"""Tests messages that RabbitMQ refuses because of their size. Only their own jobs fail."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pamqp.commands import Basic, Confirm
from pamqp.commands import Channel as ChannelMethods
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from tests.support.live import LiveBroker, LiveTestCase, RabbitMQ
from tests.support.scripted_broker import ScriptedBroker
from txmicro.amqp.errors import ChannelClosed, ConnectionLost, NoChannelLeft, SizeRefused, closed_by
from txmicro.amqp.methods import IncomingMessage
from txmicro.amqp.properties import Properties
from txmicro.bus.connections import Bus
from txmicro.bus.large_messages import LARGE, LargeMessages, SizeLimit
from txmicro.errors import MessageTooLarge
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.worker import Worker

MIB = 1 << 20
LIMIT = 2 * MIB
DEFAULTS = {True: 16 * MIB, False: 128 * MIB}
"""RabbitMQ's default limits: from 4.0 on, and before."""

FITS, TOO_LARGE = "x" * (LIMIT - 64 * 1024), "x" * (LIMIT + 1)


class Taker(Worker):
    """Does what the job says, and records the jobs that it runs."""

    type = "WL"
    retry = RetryPolicy(attempts=2, steps=(0.1,))

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    async def do_job(self, job: Job) -> Any:
        self.ran[job.key] += 1
        match job.data:
            case "too large":
                return TOO_LARGE
            case "further":
                return Forward("WL:*", TOO_LARGE)
            case _:
                return len(job.data)


class OnRabbitMQ(LiveTestCase):
    """Tests on RabbitMQ with a lower limit."""

    broker: RabbitMQ

    def make_broker(self) -> LiveBroker:
        return RabbitMQ()

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.limit(LIMIT)
        self.sender, self.taker = Worker("WS"), Taker()
        self.sending = await self.start(self.sender, max_message=64 * MIB)
        self.taking = await self.start(self.taker, max_message=64 * MIB)
        assert self.sending.session is not None
        self.sessions = self.sending.session, self.taking.session
        self.default = DEFAULTS[self.sending.session.features.version >= (4,)]

    async def tearDown(self) -> None:  # type: ignore[override]
        await super().tearDown()
        await self.limit(self.default)

    async def limit(self, size: int) -> None:
        # Older versions read the limit when a channel is opened, newer ones with each message.
        set_env = f"application:set_env(rabbit, max_message_size, {size})"
        await self.broker.node.ctl("eval", f"{set_env}, persistent_term:put(max_message_size, {size}).")

    def check_undisturbed(self) -> None:
        """Check that no connection was lost, and that no job ran twice."""
        self.assertEqual((self.sending.session, self.taking.session), self.sessions)
        self.assertLessEqual(set(self.taker.ran.values()), {1})

    async def among_others(self, durable: bool) -> None:
        jobs = [self.sender.send("WL:*", data, durable=durable) for data in ["x", FITS] * 3]
        refused = [self.sender.send("WL:*", TOO_LARGE, durable=durable) for _ in range(2)]
        jobs += [self.sender.send("WL:*", data, durable=durable) for data in ["x", FITS] * 3]
        for job in refused:
            error = await self.failed(job.when_done(), MessageTooLarge)
            self.assertIn(f"the broker accepts {LIMIT}", str(error))
            self.assertFalse(job.stored())
        results = await gatherResults([job.when_done() for job in jobs], consumeErrors=True)
        self.assertEqual(results, [1, len(FITS)] * 6)
        self.check_undisturbed()
        with self.assertRaises(MessageTooLarge):  # the limit is known now
            self.sender.send("WL:*", TOO_LARGE, durable=durable)

    async def test_a_job_fails_and_the_others_do_not_wait(self) -> None:
        await self.among_others(durable=False)

    async def test_a_durable_job_is_not_stored_and_the_others_are(self) -> None:
        await self.among_others(durable=True)

    async def test_an_answer_fails_its_job_which_does_not_run_again(self) -> None:
        for durable in (False, True):
            for known in (False, True):
                self.assertEqual(self.taking.size_limit.ordinary, LARGE)
                error = await self.failed(
                    self.sender.send("WL:*", "too large", durable=durable).when_done(), MessageTooLarge
                )
                self.assertEqual(error.worker, self.taker.id, known)
            self.taking.size_limit.forget()
        self.check_undisturbed()

    async def test_a_next_hop_fails_its_job(self) -> None:
        for durable in (False, True):
            job = self.sender.send("WL:*", "further", durable=durable)
            error = await self.failed(job.when_done(), MessageTooLarge)
            self.assertIn(str(LIMIT), str(error))
            self.taking.size_limit.forget()
        self.check_undisturbed()

    async def test_an_event_is_dropped_and_that_is_logged(self) -> None:
        self.sender.publish("a.b", TOO_LARGE)
        await self.until(lambda: self.lines("does not take a message of type 'event'"), "it is logged")
        self.assertEqual(await self.sender.send("WL:*", "x"), 1)
        self.check_undisturbed()

    async def test_a_lower_limit_than_expected_is_learned_at_the_cost_of_one_connection(
        self,
    ) -> None:
        await self.limit(64 * 1024)
        for durable in (False, True):
            bus = await self.fresh()
            [sender] = [worker for worker in bus if isinstance(worker, Worker)]
            session = bus.session
            with self.assertRaises(MessageTooLarge):
                await sender.send("WL:*", "x" * 70_000, durable=durable)
            self.assertIsNot(bus.session, session)
            session = bus.session
            with self.assertRaises(MessageTooLarge):
                sender.send("WL:*", "x" * 70_000, durable=durable)
            self.assertEqual(await sender.send("WL:*", "x", durable=durable), 1)
            self.assertIs(bus.session, session)

    async def fresh(self) -> Bus:
        return await self.start(Worker("WS"), max_message=64 * MIB)

    async def test_the_default_limit(self) -> None:
        await self.limit(self.default)
        if self.default > 16 * MIB:
            return  # so large a message would be too slow to encode in a test
        bus = await self.fresh()
        [sender] = [worker for worker in bus if isinstance(worker, Worker)]
        error = await self.failed(sender.send("WL:*", "x" * self.default).when_done(), MessageTooLarge)
        self.assertIn("16777216", str(error))


class ChannelTests(SynchronousTestCase):
    """Tests with a scripted broker."""

    def setUp(self) -> None:
        self.broker = ScriptedBroker()
        self.broker.open()
        self.addCleanup(self.broker.hang_up)
        self.limit = SizeLimit(LIMIT)
        self.large = LargeMessages(self.broker.client, self.limit)

    def publish(self, size: int) -> Deferred[None]:
        return self.large.publish("x", "k", Properties().encode(), bytes(size), "")

    def opens(self) -> list[int]:
        """Let the client open its channel; return the sizes of the messages that it then publishes there."""
        [self.number] = [
            number for number, said in self.broker.heard() if isinstance(said, ChannelMethods.Open)
        ]
        self.broker.say(ChannelMethods.OpenOk(), Confirm.SelectOk(), channel=self.number)
        return [
            len(content.body) for _, content in self.broker.heard() if isinstance(content, IncomingMessage)
        ]

    def refuse(self) -> None:
        text = "PRECONDITION_FAILED - message size 3000 is larger than configured max size 2000"
        self.broker.say(ChannelMethods.Close(406, text, 60, 40), channel=self.number)

    def test_messages_lost_with_the_channel_of_a_large_one_are_published_again(self) -> None:
        small, too_large, also = self.publish(1000), self.publish(3000), self.publish(2000)
        written = self.large.written()
        self.assertNoResult(written)
        self.assertEqual(self.opens(), [1000, 3000, 2000])
        self.successResultOf(written)
        self.broker.say(Basic.Ack(1, False), channel=self.number)
        self.successResultOf(small)
        self.refuse()
        self.failureResultOf(too_large, MessageTooLarge)
        self.assertEqual(self.opens(), [2000])
        self.broker.say(Basic.Ack(1, False), channel=self.number)
        self.successResultOf(also)
        self.failureResultOf(self.publish(2001), MessageTooLarge)
        self.assertEqual(self.broker.heard(), [])

    def test_a_channel_closed_for_another_reason_fails_its_messages_and_is_opened_again(
        self,
    ) -> None:
        lost = self.publish(1000)
        self.opens()
        self.broker.say(ChannelMethods.Close(404, "NOT_FOUND", 60, 40), channel=self.number)
        self.failureResultOf(lost, ChannelClosed)
        again = self.publish(1000)
        self.assertEqual(self.opens(), [1000])
        self.broker.say(Basic.Ack(1, False), channel=self.number)
        self.successResultOf(again)

    def test_without_a_free_channel_the_next_message_tries_again(self) -> None:
        taken = [self.broker.channel(number) for number in range(1, 2048)]
        self.failureResultOf(self.publish(1000), NoChannelLeft)
        closing = taken[0].channel_close()
        self.broker.say(ChannelMethods.CloseOk())
        self.successResultOf(closing)
        self.publish(1000).addErrback(lambda failure: failure.trap(ConnectionLost))
        self.assertEqual(self.opens(), [1000])


class LimitTests(SynchronousTestCase):
    def test_the_broker_announces_its_limit(self) -> None:
        for words in ("max size", "configured max size"):
            text = f"PRECONDITION_FAILED - message size 3000 is larger than {words} 2000"
            error = closed_by(406, text, 0)
            assert isinstance(error, SizeRefused)
            self.assertEqual((error.limit, error.reply_code, error.reply_text), (2000, 406, text))
        self.assertIs(type(closed_by(406, "PRECONDITION_FAILED - unknown delivery tag 1", 0)), ChannelClosed)

    def test_a_limit_is_learned_and_forgotten(self) -> None:
        limit = SizeLimit(8 * MIB)
        self.assertEqual(limit.ordinary, LARGE)
        self.assertTrue(limit.learn(SizeRefused("", 5000)))
        self.assertFalse(limit.learn(ChannelClosed(404, "")))
        self.assertEqual(limit.ordinary, 5000)
        limit.check(5000)
        self.assertRaises(MessageTooLarge, limit.check, 5001)
        limit.forget()
        limit.check(8 * MIB)
        self.assertRaises(MessageTooLarge, limit.check, 8 * MIB + 1)

    def test_a_broker_with_a_higher_limit_than_configured_changes_nothing(self) -> None:
        limit = SizeLimit(4096)
        limit.learn(SizeRefused("", 8192))
        self.assertRaises(MessageTooLarge, limit.check, 4097)
