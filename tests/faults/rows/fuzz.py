"""Rows: very much invalid input, in memory and over TCP."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, cooperate
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.faults.context import RowContext, pause, until
from tests.faults.mutations import InvalidMessages, bytes_mutated, frames
from tests.faults.processes import resident
from tests.faults.row import row
from tests.faults.watcher import Watcher
from tests.support.rabbitmq import HOST, free_port, reactor
from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import MemoryEndpoint, MemoryTransport
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.protocol.job import Job
from txmicro.testing import memory_bus
from txmicro.worker import Worker

MIB = 1 << 20
SEED = 20
SLOWEST = 10.0
"""Seconds that a hundred inputs may take. A longer time is reported as a hang."""
GROWTH = 128 * MIB


class Echo(Worker):
    """Returns its data."""

    type = "WF"

    async def do_job(self, job: Job) -> Any:
        return job.data


@row(
    10,
    "≥ 1,000,000 mutated frames, properties and bodies in memory, 10,000 over TCP",
    "Bad input never crashes, hangs or leaks.",
)
async def wrong_input(context: RowContext) -> None:
    """Send half to worker and manager, a quarter each to the embedded broker and the client; then over TCP."""
    count = 40_000 if context.quick else 1_000_000
    over_tcp = 2_000 if context.quick else 10_000
    await context.workers(1)
    alive = context.send(ms=1)
    with _listening(context):
        before = resident(os.getpid())
        messages, wrong_frames = _System(context), _Streams()
        done = [
            await _often(context, count // 2, messages.hundred),
            await _often(context, count // 4, wrong_frames.to_broker),
            await _often(context, count // 4, wrong_frames.to_client),
        ]
        messages.close()
        grown = resident(os.getpid()) - before
    done.append(await _to_processes(context, over_tcp // 2))
    done.append(await _to_broker_process(context, over_tcp // 2))
    await until(lambda: alive.ended, 60, "jobs are done in the meantime")
    kinds = (
        "messages",
        "frames to the broker",
        "frames to the client",
        "messages over TCP",
        "frames over TCP",
    )
    for kind, number in zip(kinds, done, strict=True):
        context.measured(kind, number)
    context.measured("growth (MiB)", grown // MIB)
    context.require(sum(done[:3]) >= count, f"only {sum(done[:3])} inputs in memory")
    context.require(sum(done[3:]) >= over_tcp, f"only {sum(done[3:])} inputs over TCP")
    context.require(grown < GROWTH, f"memory grew by {grown // MIB} MiB")


@contextmanager
def _listening(context: RowContext) -> Iterator[None]:
    """Record each failure that txmicro logs as a problem."""
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event["log_level"] is LogLevel.critical:
            failure: Any = event.get("log_failure")
            said.append(f"{formatEvent(event)} {'' if failure is None else failure.getTraceback()}"[-1500:])

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)
        context.require(not said, f"{len(said)} failures were logged, as: {said[:1]}")


async def _often(context: RowContext, count: int, hundred: Callable[[], int]) -> int:
    """Call *hundred* until it has sent *count* inputs, with turns of the reactor in between; return how many."""
    done, slowest = 0, 0.0
    while done < count:
        began = time.monotonic()
        done += hundred()
        slowest = max(slowest, time.monotonic() - began)
        await pause(0)
    context.require(slowest < SLOWEST, f"a hundred inputs took {slowest:.1f} s")
    return done


class _System:
    """A worker and a manager in memory, on a clock of their own, and a connection that sends to them."""

    def __init__(self, context: RowContext) -> None:
        self._context = context
        self._clock = Clock()
        self._broker = BrokerFactory(self._clock)
        self._worker, self._manager, sender = Echo(), SystemManager(), Worker("WS")
        self._sender = sender
        self._members = (self._worker, self._manager, sender)
        self._bus = memory_bus(self._clock, MemoryEndpoint(self._broker, self._clock), Config(keepalive=2000))
        for member in self._members:
            member.setServiceParent(self._bus)
        self._bus.startService()
        self._advance(1)
        self._worker.subscribe("#", lambda topic, data: None)
        self._channel = self._stranger()
        self._messages = InvalidMessages(SEED, self._worker.id, self._manager.id)
        self._rounds = 0

    def _advance(self, seconds: float) -> None:
        for _ in range(10):
            self._clock.advance(seconds / 10)

    def _stranger(self) -> Channel:
        client = Connection(vhost="/", username="guest", password="guest", clock=self._clock)
        opened: list[Channel] = []
        MemoryTransport.pair(self._clock, self._broker.buildProtocol(None), client)
        client.ready().addCallback(lambda _: client.channel_open().addCallback(opened.append))
        self._advance(0.1)
        return opened[0]

    def hundred(self) -> int:
        """Send a hundred messages; sometimes check that worker and manager still work."""
        for _ in range(100):
            exchange, key, properties, body = self._messages.next()
            self._channel.publish(self._channel.publisher(exchange, key), properties, body)
        self._advance(0.2)
        self._context.require(not self._channel.closed, "the broker has closed the channel")
        self._rounds += 1
        if self._rounds % 20 == 0:
            self._channel.queue_purge(queue="txmicro.dead.WF")
            self._look()
        return 100

    def _look(self) -> None:
        answers: list[Any] = []
        for lane in (False, True):
            job = self._sender.send("WF:*", self._rounds, durable=lane, timeout=10)
            job.when_done().addBoth(answers.append)
        self._advance(12)
        right = answers == [self._rounds] * 2
        self._context.require(right, f"after {self._rounds * 100} messages the worker answers {answers}")
        self._context.require(self._worker.id in self._manager.registry, "the manager has lost the worker")

    def close(self) -> None:
        """Stop worker, manager and broker."""
        self._bus.stopService()
        self._advance(60)
        self._broker.close()


class _Tap(Protocol):
    """Passes the received bytes on to another protocol, and stores them."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.heard = b""

    def makeConnection(self, transport: Any) -> None:
        self._protocol.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._protocol.connectionLost(reason)


class _Streams:
    """A recorded session of client and broker, and mutations of it."""

    def __init__(self) -> None:
        self._chance = random.Random(SEED)
        self._clock = Clock()
        broker = BrokerFactory(self._clock)
        self._broker = BrokerFactory(self._clock)
        client = Connection(vhost="/", username="guest", password="guest", clock=self._clock, heartbeat=0)
        server, mine = _Tap(broker.buildProtocol(None)), _Tap(client)
        MemoryTransport.pair(self._clock, server, mine)
        client.ready().addCallback(lambda _: client.channel_open().addCallback(self._talk))
        for _ in range(50):
            self._clock.advance(0.01)
        self._said, self._answered = list(frames(server.heard)), list(frames(mine.heard))
        client.abort()
        broker.close()

    def _talk(self, channel: Channel) -> None:
        channel.confirm_select()
        channel.exchange_declare(exchange="x", exchange_type="direct")
        channel.queue_declare(queue="q")
        channel.queue_bind(queue="q", exchange="x", routing_key="k")
        channel.basic_qos(prefetch_count=5)
        channel.consume("q", lambda deliver, properties, body: channel.ack(deliver.delivery_tag))
        for key in ("k", "k", "nowhere"):
            properties = Properties(message_id="1", headers={"a": [1, {"b": True}]}).encode()
            channel.publish(channel.publisher("x", key, True), properties, b"body" * 20)

    def to_broker(self) -> int:
        """Run a session of which most is invalid with the embedded broker; return the number of frames."""
        server: Any = self._broker.buildProtocol(None)
        return self._play(server, self._said)

    def to_client(self) -> int:
        """Run such a session with txmicro's client; return the number of frames."""
        client: Any = Connection(vhost="/", username="guest", password="guest", clock=self._clock)
        client.lost().addErrback(lambda _: None)
        client.ready().addCallbacks(
            lambda _: client.channel_open().addErrback(lambda _: None), lambda _: None
        )
        return self._play(client, self._answered)

    def wrong_session(self) -> tuple[bytes, int]:
        """Return a client's bytes that are invalid after some frame, and the number of frames."""
        right = self._chance.randrange(len(self._said))
        wrong = [bytes_mutated(self._chance, frame) for frame in self._said[right:]]
        return b"".join([*self._said[:right], *wrong]), len(wrong)

    def _play(self, protocol: Any, session: list[bytes]) -> int:
        wrong, right = 0, self._chance.choice((0, 1, 2, 3, 4, 4, 4, 5, 8, len(session) - 1))
        transport = StringTransport()
        protocol.makeConnection(transport)
        for number, frame in enumerate(session):
            if number >= right:
                frame = bytes_mutated(self._chance, frame)
                wrong += 1
            protocol.dataReceived(frame)
            transport.clear()
            if transport.disconnecting or transport.disconnected:
                break
        self._clock.advance(0.01)
        protocol.connectionLost(_CLOSED)
        self._clock.advance(0.01)
        return wrong


_CLOSED = Failure(ConnectionDone())


async def _to_processes(context: RowContext, count: int) -> int:
    """Send invalid messages through a real broker to a worker and a manager in their own processes."""
    manager = await context.manager()
    worker = await context.spawn("WF", "tests.faults.rows.fuzz:Echo").ready()
    before = [child.memory() for child in (worker, manager)]
    messages = InvalidMessages(SEED + 1, worker.id, "SystemManager:1")
    watcher = Watcher(context.node.port)
    context.at_end(watcher.close)
    channel: Any = None
    for number in range(count):
        if channel is None or channel.closed:
            channel = await watcher.channel()
        exchange, key, properties, body = messages.next()
        channel.publish(channel.publisher(exchange, key), properties, body)
        if number % 50 == 0:
            await pause(0.01)
    answer = await context.sender.send(worker.id, "well", timeout=60)
    context.require(answer == "well", "the worker does not do its job after invalid messages over TCP")
    grown = max(child.memory() - was for child, was in zip((worker, manager), before, strict=True))
    context.require(grown < GROWTH, f"a process grew by {grown // MIB} MiB")
    await pause(2)
    await context.node.ctl("purge_queue", "txmicro.dead.WF")
    return count


async def _to_broker_process(context: RowContext, count: int) -> int:
    """Send invalid frames to an embedded broker in its own process."""
    port = free_port()
    broker = context.launch("broker", ["txmicro-broker"], {"TXMICRO_BROKER_LISTEN_PORT": str(port)})
    endpoint = TCP4ClientEndpoint(reactor, HOST, port, timeout=5)
    streams, done = _Streams(), 0
    await _listens(endpoint)
    before = broker.memory()

    def one() -> Iterator[Any]:
        nonlocal done
        while done < count:
            session, wrong = streams.wrong_session()
            done += wrong
            yield connectProtocol(endpoint, Protocol()).addCallback(_say, session)

    await cooperate(one()).whenDone()
    await _listens(endpoint)
    grown = broker.memory() - before
    context.require(broker.alive, "the embedded broker has ended")
    context.require(grown < GROWTH, f"the embedded broker grew by {grown // MIB} MiB")
    return done


def _say(protocol: Any, data: bytes) -> None:
    protocol.transport.write(data)
    protocol.transport.loseConnection()


async def _listens(endpoint: Any) -> None:
    """Wait until the endpoint accepts a connection."""
    deadline = time.monotonic() + 30
    while True:
        try:
            protocol = await connectProtocol(endpoint, Protocol())
        except Exception:
            if time.monotonic() > deadline:
                raise
            await pause(0.1)
        else:
            protocol.transport.abortConnection()
            return
