"""The SystemManager: keeps the list of workers, and tells senders when no worker takes jobs for an address."""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .bus.connections import Bus
from .bus.worker_channel import WorkerChannel
from .discovery.inquiries import Inquiries
from .discovery.registry import GONE_AFTER, Registry
from .errors import BusClosed, DecodeError, reason_of
from .monitoring.report import WATCH, Report, Watch, report_topic
from .protocol import messages
from .protocol.address import check_type, parse
from .protocol.notifications import LEVELS, Announcement, Deletion, Inquiry, LevelChange
from .runtime.log_levels import LevelChanges
from .util.log_levels import LogLevels
from .util.once import Once

TYPE = "SystemManager"

SETTLING = 5.0
"""Seconds after a reconnect in which no check starts: workers reconnect one by one, after delays of up to 2.5 seconds
(bus/connections.py)."""

PROBLEMS: Final = ("log.warn.#", "log.error.#", "log.critical.#")
"""The patterns of the events that tell of problems: the log lines that a monitor wants to have."""

_GET_ALL = "worker.getAll"
_REPORTS: Final = report_topic("")


class ReportListener(Protocol):
    """Wants the workers' reports: the :class:`~txmicro.page.monitor.Monitor`."""

    def reported(self, report: Report) -> None:
        """Take a worker's report."""

    def joined(self, worker: Announcement) -> None:
        """Note that *worker*, which was not known, is on the bus."""

    def connected(self) -> None:
        """Note that the manager is connected, again or for the first time."""


class SystemManager(Service):
    """The SystemManager, see the module. A system can have any number of them, or none: jobs run without it, too.

    :ivar id: its id.
    :ivar registry: the workers that it knows.
    :ivar listener: wants the workers' reports, see :meth:`watch`; None: nobody does. It is set before the start.
    """

    log = Logger()
    type = TYPE

    bus: Bus
    channel: WorkerChannel
    registry: Registry

    def __init__(self, *, id: str | None = None) -> None:
        self.id = id or ""
        self.listener: ReportListener | None = None
        self._lost = self._keepalive_returned = False

    def setServiceParent(self, parent: Bus) -> None:
        """Add the SystemManager to a bus: it starts when the bus does, or at once if the bus is running."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start. :meth:`when_ready` fires when it is ready."""
        if not isinstance(self.parent, Bus):
            raise TypeError("the SystemManager has no bus; call setServiceParent(bus) before it is started")
        super().startService()  # type: ignore[no-untyped-call]
        bus = self.bus = self.parent
        self.id = self.id or bus.ids.worker(TYPE)
        self.metrics = bus.metrics.service(TYPE)
        self.registry = Registry(bus.clock)
        self._count()
        topics: tuple[str, ...] = (
            "worker.new.#",
            "worker.del.#",
            "worker.next",
            "worker.list",
            _GET_ALL,
            LEVELS,
        )
        if self.listener is not None:
            topics += (f"{_REPORTS}#",)
        self.channel = WorkerChannel(bus, self.id, topics, service=TYPE)
        self._publisher = self.channel.publisher
        self._levels = LevelChanges(bus.log_levels, self.id)
        self._inquiries = Inquiries(self.id, bus.clock, self.channel, self.registry, self.metrics)
        self._ready: Once[SystemManager] = Once()
        self.channel.open(self, self).addCallbacks(lambda _: self._ready.happen(self), self._refused)
        self._keepalive = LoopingCall(self._send_keepalive)
        self._keepalive.clock = bus.clock
        if bus.config.keepalive:
            self._keepalive.start(bus.config.keepalive / 1000, now=False)

    def _refused(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.critical(
                "{manager} cannot start: {reason}", manager=self.id, reason=reason_of(failure.value)
            )
        self._ready.happen(failure)

    def stopService(self) -> Deferred[None]:
        """Disconnect from the bus; the workers continue. Fires when it has disconnected."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._keepalive.running:
            self._keepalive.stop()
        self._inquiries.cancel()
        await self.channel.close()

    def watch(self, interval: float, share: float, failures: int) -> None:
        """Ask all workers to report for the next seconds, as a :class:`~txmicro.monitoring.report.Watch` says.

        Does nothing while nothing can be published.
        """
        if self.channel.ready and self.bus.writable:
            self._publisher.notify(WATCH, Watch(self.id, interval, share, failures).body())

    def publish(self, topic: str, data: Any = None) -> None:
        """Publish an event, at most once, as :meth:`txmicro.Worker.publish` does: for the lines of this process's log.

        Raises EncodeError or MessageTooLarge.
        """
        self._publisher.emit(topic, self._publisher.encode({"data": data, "sender": self.id}))

    # Keepalives

    def _send_keepalive(self) -> None:
        """Send a keepalive, and remove workers that missed too many. Never raise, because that would end the loop."""
        try:
            if self.channel.ready:
                for gone in self.registry.keepalive(
                    self.bus.config.keepalive / 1000, transmitted=self._keepalive_returned
                ):
                    self._declare_gone(gone)
                self._ask_all()
        except Exception:
            self.log.failure(
                "{manager}: a keepalive failed; the next one follows", manager=self.id, recurring=True
            )

    def _ask_all(self) -> None:
        """Ask all workers to announce themselves. The question returns here, too: if not, nobody has received it."""
        self._keepalive_returned = False
        if self.bus.writable:
            self._publisher.notify(_GET_ALL, {})

    def _declare_gone(self, gone: Announcement) -> None:
        self.log.warn(
            "{worker} has missed {misses} keepalives; it is removed from the list of workers",
            worker=gone.id,
            misses=GONE_AFTER,
        )
        self._publisher.notify(f"worker.del.{gone.type}", Deletion(gone.id, gone.type, "keepalive").body())
        self._count()

    def _count(self) -> None:
        self.metrics.set_connected_workers(len(self.registry))
        for kind, count in self.registry.counts().items():
            self.metrics.set_worker_count(kind, count)

    # Log levels

    @property
    def log_levels(self) -> dict[str, str]:
        """The levels of this process's log, by component; ``*`` is all other lines."""
        return self.bus.log_levels.all

    def set_log_level(self, component: str, level: str, type: str = "") -> None:
        """Set the level of a component of the log in all processes that are connected, until each of them ends.

        :param component: a worker type, the start of a logger's name such as ``bus``, or ``*``: all other lines.
        :param level: one of ``log_level``'s values; empty: the configured one again.
        :param type: only processes with a worker of this type change it; empty: all do.
        :raise ValueError: an argument is not valid. :raise BusClosed: the manager is not connected.
        """
        LogLevels().set(component, level)
        if type:
            check_type(type)
        if not (self.running and self.channel.ready and self.bus.writable):
            raise BusClosed(
                f"{self.id} cannot set a log level: {self.obstacle or self.bus.obstacle}; try again later"
            )
        self._publisher.notify(LEVELS, LevelChange(component, level, type).body())

    # Called by its channel (bus.worker_channel.Observer, Inbox)

    def connected(self) -> None:
        """Ask all workers to announce themselves: announcements of before, or during an outage, were not received."""
        if self._lost:
            self._inquiries.delay(SETTLING)
        self.log.info("{manager} is ready", manager=self.id)
        self._ask_all()
        if self.listener is not None:
            self.listener.connected()

    def disconnected(self) -> None:
        """Cancel all checks. The senders ask again."""
        self._lost = True
        self._inquiries.cancel()

    def told(self, kind: str, body: Any) -> None:
        """Refuse control messages: a SystemManager gets none."""
        raise DecodeError(f"a SystemManager does not accept messages of type {kind!r:.50}")

    def notified(self, topic: str, body: Any) -> None:
        """Handle a notification."""
        if topic == _GET_ALL:
            self._keepalive_returned = True
        elif topic == "worker.next":
            self._inquiries.add(Inquiry.from_body(body))
        elif topic == "worker.list":
            self._list(messages.get(messages.get(body, "sender", dict), "id", str))
        elif topic == LEVELS:
            self._levels.told(body)
        elif topic.startswith("worker.new"):
            self._joined(Announcement.from_body(body, topic))
        elif topic.startswith(_REPORTS):
            report = Report.from_body(body, topic)
            if self.listener is not None:
                self.listener.reported(report)
        else:
            self._left(Deletion.from_body(body, topic))

    def _joined(self, worker: Announcement) -> None:
        if self.registry.add(worker):
            self.log.info("{worker} is on the bus", worker=worker.id)
            self._count()
            if self.listener is not None:
                self.listener.joined(worker)

    def _left(self, deletion: Deletion) -> None:
        if self.registry.remove(deletion.id) is not None:
            self.log.info("{worker} has left: {reason}", worker=deletion.id, reason=deletion.reason)
            self._count()

    def _list(self, asker: str) -> None:
        parse(asker)
        body = self._publisher.encode({"workers": self.registry.listing()})
        self._publisher.reply(asker, messages.LIST, "", body)

    @property
    def obstacle(self) -> str:
        """Why the manager cannot do its work now, in words; empty if it can."""
        return self.channel.robust.obstacle if self.running else "it is not running"

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves, in words; empty if there is none."""
        return self.channel.robust.defect if self.running else ""

    def when_ready(self) -> Deferred[SystemManager]:
        """Fire with the manager when it is ready.

        Fails with :class:`~txmicro.errors.DuplicateWorker` or the error that keeps it from starting. Canceling stops
        the wait only.
        """
        return self._ready.wait()
