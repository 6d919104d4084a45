"""The context of a row: a broker, a sender in this process, and workers in processes of their own."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from tests.support.rabbitmq import Node, reactor
from txmicro.bus.connections import Bus
from txmicro.bus.targets import target
from txmicro.config import Config
from txmicro.errors import JobError
from txmicro.metrics import Metrics
from txmicro.protocol.address import Ids
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker

from .processes import Child
from .records import ExecutionLog, SentJob, SentJobs, evaluate
from .report import Result
from .row import Row, TimedOut
from .watcher import Watcher
from .workers import EXECUTION_LOG

WORKER = "tests.faults.workers:Effect"
PATIENCE, QUICK_PATIENCE = 120.0, 45.0
"""Seconds within which all jobs must end after the faults."""

LISTING_LAG = 3.0
"""Seconds that queues must be listed as empty: ``rabbitmqctl list_queues`` may be 2 seconds out of date."""


class Sender(Worker):
    """Sends the jobs of the row. Their failures are recorded with the jobs."""

    type = "SENDER"

    def treat_error(self, error: JobError, job: JobFuture) -> None:
        """Do nothing: the failure is recorded already."""


class RowContext:
    """The broker, the processes and the jobs of a row.

    :ivar result: the result of the row.
    :ivar quick: whether to do less than a full run.
    :ivar timeout: seconds that the sender of a job waits for its end.
    :ivar patience: seconds within which all jobs must end after the faults.
    """

    def __init__(self, row: Row, result: Result, directory: Path) -> None:
        self.row = row
        self.result = result
        self.quick = result.quick
        self.timeout = 90.0
        self.patience = QUICK_PATIENCE if self.quick else PATIENCE
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory = directory.absolute()
        self.sent_jobs = SentJobs()
        self.executions = ExecutionLog(self.directory / "executions.db")
        self.ids = Ids()
        self.children: list[Child] = []
        self.settings = {
            EXECUTION_LOG: str(self.directory / "executions.db"),
            "TXMICRO_METRICS_PORT": "0",
            "TXMICRO_KEEPALIVE": "2000",
            "TXMICRO_GRACE": "20",
        }
        self.nodes: list[Node] = []
        self.sender = Sender()
        self.buses: list[Bus] = []
        self._closing: list[Callable[[], Any]] = []
        self._tokens = 0
        self._over = False

    # Start and stop

    async def open(self, nodes: list[Node]) -> None:
        """Start the brokers and the sender."""
        self.nodes = nodes
        # All nodes start together: in a cluster on RabbitMQ 4, a node waits for the others before it listens.
        await gatherResults([node.start() for node in nodes], consumeErrors=True)
        self.settings["TXMICRO_BROKER_URL"] = ",".join(map(url_of, nodes))
        bus = await self.join(self.sender)
        if bus.session is not None:
            features = bus.session.features
            self.result.broker = f"{features.product} {'.'.join(map(str, features.version))}"

    @property
    def node(self) -> Node:
        """The broker, or the first of them."""
        return self.nodes[0]

    async def join(self, member: Worker, urls: Iterable[str] = (), **settings: Any) -> Bus:
        """Run *member* in this process, and wait until it is ready."""
        bus = Bus(
            reactor,
            [target(reactor, url) for url in urls or map(url_of, self.nodes)],
            config=Config(**settings),
            metrics=Metrics(CollectorRegistry()),
            ids=self.ids,
            random=random.random,
        )
        self.buses.append(bus)
        member.setServiceParent(bus)
        bus.startService()
        await within(30, member.when_ready(), f"a {member.type} starts")
        return bus

    def at_end(self, function: Callable[[], Any]) -> None:
        """Call *function* at the end of the row, after all processes have ended, and wait for its result."""
        self._closing.append(function)

    async def close(self) -> None:
        """Stop everything in any state."""
        self._over = True
        stopping = [bus.stopService().addTimeout(20, reactor) for bus in self.buses if bus.running]
        await _quietly(gatherResults(stopping, consumeErrors=True))
        await _quietly(gatherResults([child.kill() for child in self.children], consumeErrors=True))
        for node in self.nodes:
            node.kill()
            shutil.rmtree(node.directory, ignore_errors=True)
        for function in reversed(self._closing):
            await _quietly(function())
        self.executions.close()

    # Processes

    def spawn(self, kind: str = "WB", what: str = WORKER, **settings: str) -> Child:
        """Start a worker in a process of its own, and do not wait for it."""
        id = self.ids.worker(kind)
        return self.launch(id, ["txmicro-worker", "--type", kind, "--class", what, "--id", id], settings)

    def launch(self, id: str, arguments: list[str], settings: dict[str, str]) -> Child:
        """Start a daemon under twistd, and do not wait for it."""
        child = Child(id, self.directory / f"{id.replace(':', '-')}.log")
        child.spawn(arguments, self.settings | settings)
        self.children.append(child)
        return child

    async def workers(self, count: int, kind: str = "WB", **settings: str) -> list[Child]:
        """Start workers, and wait until all are ready."""
        children = [self.spawn(kind, **settings) for _ in range(count)]
        await gatherResults([child.ready() for child in children], consumeErrors=True)
        return children

    async def manager(self) -> Child:
        """Start a SystemManager, and wait until it is ready."""
        child = self.launch(f"manager-{len(self.children)}", ["txmicro-manager"], {})
        await child.ready()
        return child

    # Jobs

    def send(
        self,
        address: str | list[str] = "WB:*",
        *,
        durable: bool = False,
        ms: int = 10,
        hops: int = 1,
        by: Worker | None = None,
        **more: Any,
    ) -> SentJob:
        """Send a job and record it. *by* is the sender; *more* is added to its data."""
        self._tokens += 1
        token = f"t{self._tokens}"
        kills_worker = bool(more.get("kill"))
        entry = SentJob(token, durable, hops, time.monotonic(), kills_worker)
        data = {"token": token, "ms": ms, **more}
        sender = by or self.sender
        self.sent_jobs.enter(entry, sender.send(address, data, timeout=self.timeout, durable=durable))
        return entry

    def spawn_source(self) -> Child:
        """Start a sender in a process of its own."""
        return self.spawn("SOURCE", "tests.faults.workers:Source")

    async def stop_source(self, source: Child) -> None:
        """Stop the sending, wait until the jobs of *source* have ended, and record them."""
        await self.sender.send(source.id, timeout=60)

        def ended() -> bool:
            return all(entry.ended is not None for entry in self.executions.sent())

        await until(ended, 200, "every job of the other process has ended", every=1.0)
        self.sent_jobs.entries |= {entry.token: entry for entry in self.executions.sent()}

    async def settled(self) -> None:
        """Wait until every job has ended at its sender."""
        await until(
            lambda: not self.sent_jobs.open,
            self.timeout + self.patience,
            "every job has ended",
            every=0.2,
        )

    def keep_running(self, workers: list[Child]) -> Callable[[], None]:
        """Start a new worker for each of *running* that ends, until the returned function is called."""
        going = [True]

        def replace(_: Any, dead: Child) -> None:
            if going[0] and not self._over:
                workers.remove(dead)
                child = self.spawn()
                workers.append(child)
                watch(child)

        def watch(child: Child) -> None:
            child.when_ended().addCallback(replace, child)

        for child in workers:
            watch(child)
        return lambda: going.__setitem__(0, False)

    # Queues and exchanges

    async def delete_durable(self, queue: str) -> None:
        """Delete a queue. The durable jobs that were sent before and have not ended may be lost with it."""
        watcher = Watcher(self.node.port)
        try:
            await (await watcher.channel()).queue_delete(queue=queue)
            self.sent_jobs.deleted()
        finally:
            watcher.close()

    # Results

    def duplicates(self) -> int:
        """Return how many deliveries of a hop came after its first."""
        attempts = [(attempt.token, attempt.hop) for attempt in self.executions.attempts()]
        return len(attempts) - len(set(attempts))

    def require(self, holds: Any, problem: str) -> None:
        """Record *problem* unless *holds* is true."""
        if not holds:
            self.result.problems.append(problem)

    def require_within(self, limit: float, seconds: float, what: str) -> None:
        """Record a problem if *what* took longer than *limit*. A quick run allows three times that, for CI's
        machines.
        """
        most = limit * 3 if self.quick else limit
        self.require(seconds <= most, f"{what} took {seconds:.2f} s, more than {most:g}")

    def recovered(self, seconds: float) -> None:
        """Record how long a recovery took."""
        self.result.recovery.append(seconds)

    def measured(self, name: str, value: Any) -> None:
        """Record a figure."""
        self.result.measured[name] = value

    async def finish(self) -> None:
        """Wait until all jobs have ended, and evaluate them."""
        try:
            await self.settled()
            await self._until_done()
            await self._until_empty()
        except TimedOut as error:
            self.result.problems.append(str(error))
        self.evaluate()

    def evaluate(self) -> None:
        """Compare the jobs that were sent with the execution log."""
        attempts = [(attempt.token, attempt.hop) for attempt in self.executions.attempts()]
        evaluation = evaluate(self.sent_jobs.entries.values(), attempts, self.executions.effects())
        self.result.evaluation = evaluation
        self.result.problems += evaluation.problems[:10]
        self.require(evaluation.jobs, "no job was sent")
        if evaluation.deleted:
            self.measured("stored jobs that went with a deleted queue", evaluation.deleted)
        self.require(not evaluation.lost, f"{evaluation.lost} jobs were lost")
        self.require(
            not evaluation.duplicate_effects, f"{evaluation.duplicate_effects} effects were duplicated"
        )
        failed = [entry for entry in self.sent_jobs.entries.values() if entry.has_failed]
        wrongly = [repr(entry.error) for entry in failed if not isinstance(entry.error, self.row.may_fail)]
        self.require(not wrongly, f"{len(wrongly)} jobs failed: {'; '.join(sorted(set(wrongly))[:3])}")
        again = self.executions.repeated()
        self.require(not again, f"{again} hops were started twice by the same worker")
        loud = [child.id for child in self.children if child.complaints]
        self.require(not loud, f"logged exceptions: {', '.join(loud[:5])}")

    async def _until_done(self) -> None:
        """Durable jobs may be done after their senders have stopped waiting."""

        def left() -> int:
            effects = self.executions.effects()
            return evaluate(self.sent_jobs.entries.values(), (), effects).lost

        deadline = time.monotonic() + self.patience
        while left() and time.monotonic() < deadline:
            await deferLater(reactor, 1.0)

    async def _until_empty(self) -> None:
        deadline = time.monotonic() + 30.0
        empty_since = math.inf
        while time.monotonic() - empty_since < LISTING_LAG:
            full = [text for node in self.nodes for text in await full_queues(node)]
            if full and time.monotonic() > deadline:
                raise TimedOut(f"queues are not empty: {', '.join(full[:5])}")
            empty_since = math.inf if full else min(empty_since, time.monotonic())
            await deferLater(reactor, 1.0)

    async def consumers_back(self, count: int, kind: str = "WB", seconds: float = 30.0) -> float:
        """Wait until *count* workers consume both lanes of *kind*; return the seconds that it took."""
        began = time.monotonic()
        queues = (f"txmicro.jobs.{kind}", f"txmicro.jobs.{kind}.durable", f"txmicro.quarantine.{kind}")
        watcher = Watcher(self.node.port)
        try:
            while [await watcher.consumers(queue) for queue in queues] != [count] * len(queues):
                if time.monotonic() - began > seconds:
                    raise TimedOut(f"not all {count} consumers came back within {seconds:g} s")
                await deferLater(reactor, 0.05)
        finally:
            watcher.close()
        return time.monotonic() - began


class Load:
    """Sends jobs in a steady stream.

    :param rate: jobs per second.
    :param send: sends one job; called with its number.
    """

    TICK = 0.05

    def __init__(self, rate: float, send: Callable[[int], Any]) -> None:
        self._send = send
        self._per_tick = rate * self.TICK
        self._due = 0.0
        self._count = 0
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._loop.start(self.TICK).addErrback(self._broke)
        self.error: Any = None

    def _tick(self) -> None:
        self._due += self._per_tick
        while self._count < self._due:
            self._count += 1
            self._send(self._count)

    def _broke(self, failure: Any) -> None:
        self.error = failure

    def stop(self) -> None:
        """Stop sending; raise the error that ``send`` raised."""
        if self._loop.running:
            self._loop.stop()
        if self.error is not None:
            self.error.raiseException()


def url_of(node: Node, port: int = 0) -> str:
    """Return the URL of *node*, or of a proxy to it on *port*."""
    return f"amqp://guest:guest@{node.host}:{port or node.port}/%2f"


async def until(holds: Callable[[], Any], seconds: float, what: str, every: float = 0.05) -> float:
    """Wait until *holds()*, called *every* so many seconds. Return the seconds that it took; raise TimedOut."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimedOut(f"not within {seconds:g} s: {what}")
        await deferLater(reactor, every)
    return time.monotonic() - began


async def full_queues(node: Node) -> list[str]:
    """Return the queues of *node* that contain messages, ready or unacknowledged, each with their number."""
    listed = await node.ctl("list_queues", "--formatter", "json", "name", "messages")
    return [f"{queue['name']} ({queue['messages']})" for queue in json.loads(listed) if queue["messages"]]


async def within(seconds: float, waiting: Deferred[Any], what: str) -> Any:
    """Return the result of *waiting*; raise TimedOut if it takes longer than *seconds*."""
    try:
        return await waiting.addTimeout(seconds, reactor)
    except TimeoutError:
        raise TimedOut(f"not within {seconds:g} s: {what}") from None


async def pause(seconds: float) -> None:
    """Wait for *seconds* of real time."""
    await deferLater(reactor, seconds)


async def _quietly(waiting: Any) -> None:
    """Wait for the end, and ignore a failure: the row is over."""
    if isinstance(waiting, Deferred):
        waiting.addErrback(lambda _: None)
        await waiting
