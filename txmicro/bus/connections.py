"""A process's connections to the broker: made, kept, and made again after a loss.

A :class:`Bus` has two connections, one to publish and one to consume, since a broker that runs out of memory
blocks those that publish. While both are open there is a :class:`~txmicro.bus.session.Session`. When any part of
it is lost, the whole session is closed. A new one is opened at the next broker of the list, with exponential backoff
and jitter. The workers of the process are the bus's child services. Each has a
:class:`txmicro.bus.worker_channel.WorkerChannel`, which outlives sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.application.internet import backoffPolicy
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import (
    AccessRefused,
    AuthenticationFailed,
    BadCertificate,
    CertificateRefused,
    LimitReached,
    NoChannelLeft,
    QueueLimitReached,
    VhostError,
)
from txmicro.amqp.flush_scheduler import FlushScheduler
from txmicro.amqp.properties import Properties
from txmicro.config import Config
from txmicro.errors import BusClosed
from txmicro.metrics import Metrics
from txmicro.protocol import topology
from txmicro.protocol.address import Ids
from txmicro.protocol.codec.base import Codec
from txmicro.protocol.codec.formats import by_name
from txmicro.protocol.tracer import Tracer
from txmicro.util.log_levels import LogLevels
from txmicro.util.once import Once

from .large_messages import LargeMessages, SizeLimit
from .session import Session
from .targets import Target, dial

STABLE_AFTER = 10.0
"""Seconds that a session must have been open for the backoff to start again at its first delay."""

REFUSED_DELAY = 10.0
"""Least seconds between attempts after a refusal that somebody has to put right: faster attempts only fill the logs."""

REFUSALS = (
    AccessRefused,
    AuthenticationFailed,
    BadCertificate,
    CertificateRefused,
    LimitReached,
    NoChannelLeft,
    QueueLimitReached,
    VhostError,
)
"""Errors that stay until somebody changes the configuration or the broker."""


class Listener(Protocol):
    """The events of the bus that a worker's channel handles."""

    def returned(self, kind: str, key: str) -> None:
        """Handle a returned message: no queue is bound for it."""

    def writable(self, writable: bool) -> None:
        """Handle a change of whether the publishing connection accepts messages."""


class Bus(MultiService):
    """A process's connections, and the parent of its workers.

    :param clock: the reactor, as far as time goes (a :class:`txmicro.util.clock.Clock`).
    :param targets: the brokers, tried in turn.
    :param config: the process's configuration.
    :param ids: makes ids of workers and jobs.
    :param random: numbers in [0, 1) for the backoff's jitter.
    :param name: the connection's name in the broker's own tools.
    :param tracer: records spans, as :class:`txmicro.tracing.OpenTelemetryTracer` does; None: there are none.
    :param log_levels: the levels of the process's log; None: nothing is logged by them.
    :ivar size_limit: the largest message that the broker accepts, as far as that is known.
    :ivar codec: the format in which this process writes bodies; it reads each format by its content type.
    :ivar metrics_address: ``host:port`` of the process's metrics page, for announcements; empty: none.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        targets: Sequence[Target],
        *,
        config: Config,
        metrics: Metrics,
        ids: Ids,
        random: Callable[[], float],
        name: str = "txmicro",
        tracer: Tracer | None = None,
        log_levels: LogLevels | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.clock = clock
        self.config = config
        self.metrics = metrics
        self.metrics_address = ""
        self.tracer = tracer
        self.log_levels = log_levels or LogLevels(config.log_level, config.log_levels)
        self.ids = ids
        self.random = random
        self.codec: Codec = by_name(config.data_transfer_protocol)
        self.size_limit = SizeLimit(config.max_message)
        self.session: Session | None = None
        self._targets = list(targets)
        self._heartbeat = config.heartbeat
        self._connection_name = name
        self._scheduler = FlushScheduler(clock)
        self._listeners: dict[str, Listener] = {}
        self._transient = True  # until a broker forbids transient queues
        self._connected: Once[Session] = Once()
        self._life: Deferred[None] | None = None
        self._blocked_since: float | None = None
        # At most 2.5 s with the jitter, so that a process is connected within 5 s after its broker is up.
        self._delay = backoffPolicy(initialDelay=0.1, maxDelay=1.5, factor=1.8, jitter=random)

    def startService(self) -> None:
        """Start the workers, and begin to connect."""
        super().startService()  # type: ignore[no-untyped-call]
        self.metrics.bus.set_connected(False)
        self._life = Deferred.fromCoroutine(self._live())

    def stopService(self) -> Deferred[None]:
        """Stop the workers, then close the connections. Fires with None when that is done; does not fail."""
        return Deferred.fromCoroutine(self._stop(super().stopService()))  # type: ignore[no-untyped-call]

    async def _stop(self, children: Deferred[Any] | None) -> None:
        if children is not None:
            await children
        life, self._life = self._life, None
        session, self.session = self.session, None
        self.metrics.bus.set_connected(False)
        if life is not None:
            life.cancel()
            await life
        self._connected.happen(Failure(BusClosed("the bus has been stopped")))
        if session is not None:
            await session.close()

    def when_connected(self) -> Deferred[Session]:
        """Fires with the open session, or the next one; fails with BusClosed once stopped. Canceling stops the wait."""
        return self._connected.wait()

    def add_listener(self, id: str, listener: Listener) -> bool:
        """Tell *listener* about the messages of worker *id*. Return False if that id has another listener already."""
        return self._listeners.setdefault(id, listener) is listener

    def remove_listener(self, id: str) -> None:
        """Forget the listener of worker *id*."""
        self._listeners.pop(id, None)

    @property
    def writable(self) -> bool:
        """True while the publishing connection is open and accepts messages."""
        return self.session is not None and self.session.writable

    @property
    def outage(self) -> str:
        """Why the broker cannot be used now, in words; empty if it can."""
        if self.session is None:
            return "there is no connection to the broker"
        if self.session.publishing.blocked:
            return f"the broker accepts no messages ({self.session.publishing.blocked_for})"
        return ""

    @property
    def obstacle(self) -> str:
        """Why nothing can be published now, in words; empty if it can."""
        if self.outage or self.writable:
            return self.outage
        return "the broker does not read as fast as this process writes"

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves, in words; empty if there is none."""
        ended = self.running and self._life is not None and self._life.called
        return "it does not connect to the broker any more" if ended else ""

    async def _live(self) -> None:
        attempt = 0
        while True:
            target = self._targets[attempt % len(self._targets)]
            began = self.clock.seconds()
            try:
                session = await self._connect(target)
                self._opened(session, target)
                reason: BaseException = await session.lost()
                self._closed()
                self._learn(reason)
                if not self.size_limit.learn(reason):
                    self.size_limit.forget()
                session.close()  # not awaited: the other connection may not answer, and jobs wait
            except CancelledError:
                return
            except Exception as error:  # whatever it was, connect again
                if not self.running:  # an endpoint that is canceled fails with errors of its own
                    return
                reason = error
            attempt = 0 if self.clock.seconds() - began > STABLE_AFTER else attempt + 1
            try:
                await self._pause(target, attempt, reason)
            except CancelledError:
                return

    async def _pause(self, target: Target, attempt: int, reason: BaseException) -> None:
        """Wait before the next attempt; not at all while the list has brokers that were not tried in this round."""
        rounds, untried = divmod(attempt, len(self._targets))
        delay = 0.0 if untried else float(self._delay(rounds))
        if isinstance(reason, REFUSALS):
            delay = max(delay, REFUSED_DELAY)
        following = self._targets[attempt % len(self._targets)].broker
        self.log.warn(
            "no connection to {broker}: {reason}; next attempt in {delay:.1f} s{at}",
            broker=target.broker,
            reason=str(reason).rstrip("."),  # Twisted's texts are sentences
            delay=delay,
            at=f", at {following}" if len(self._targets) > 1 else "",
            recurring=True,
        )
        await deferLater(self.clock, delay)

    async def _connect(self, target: Target) -> Session:
        clients: list[Connection] = []
        try:
            for purpose in ("publishes", "consumes"):
                clients.append(await self._dial(target, purpose))
            publisher, keeper = [await clients[0].channel_open() for _ in range(2)]
            await keeper.confirm_select()
        except Exception:
            for client in clients:
                client.abort()
            raise
        publishing, consuming = clients
        publisher.on_return = self._returned
        publishing.on_writable = self._writable
        publishing.on_blocked = partial(self._blocked, publishing, target)
        large = LargeMessages(publishing, self.size_limit)
        redial = partial(self._dial, target)
        return Session(publishing, consuming, publisher, keeper, large, redial, transient=self._transient)

    def _dial(self, target: Target, purpose: str) -> Deferred[Connection]:
        return dial(
            target, self.clock, self._heartbeat, f"{self._connection_name} ({purpose})", self._scheduler
        )

    def _opened(self, session: Session, target: Target) -> None:
        self.log.info(
            "connected to {broker}: {product} {version}",
            broker=target.broker,
            product=session.features.product,
            version=".".join(map(str, session.features.version)),
        )
        self.session = session
        self.metrics.bus.set_connected(True)
        self._connected.happen(session)
        self._writable(True)

    def _learn(self, reason: BaseException) -> None:
        """Declare no more transient queues if the broker closed the connection because of one."""
        if self._transient and topology.TRANSIENT_DENIED in str(reason):
            self._transient = False
            self.log.warn(
                "the broker forbids transient queues: interactive jobs go through quorum queues from now on"
            )

    def _closed(self) -> None:
        self.session = None
        self._connected = Once()
        self._blocked_since = None
        self.metrics.bus.blocked = False
        self.metrics.bus.set_connected(False)
        self._writable(False)

    def _blocked(self, client: Connection, target: Target, blocked: bool) -> None:
        since, self._blocked_since = self._blocked_since, self.clock.seconds() if blocked else None
        self.metrics.bus.blocked = blocked
        if blocked and since is None:
            self.log.warn(
                "{broker} accepts no messages ({reason}) until its memory or disk alarm ends: jobs and answers wait, "
                "no job is started, and timeouts keep running",
                broker=target.broker,
                reason=client.blocked_for,
            )
        elif since is not None and not blocked:
            seconds = self.clock.seconds() - since
            self.log.warn(
                "{broker} accepts messages again, after {seconds:.1f} s",
                broker=target.broker,
                seconds=seconds,
            )

    def _returned(self, _method: Any, properties: Properties, _body: bytes) -> None:
        listener = self._listeners.get(properties.reply_to or "")
        if listener is not None:
            listener.returned(properties.message_type or "", properties.message_id or "")

    def _writable(self, _writable: bool) -> None:
        writable = self.writable
        for listener in list(self._listeners.values()):
            listener.writable(writable)
