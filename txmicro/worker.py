"""The class people subclass."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from ._version import __version__
from .bus.connections import Bus
from .config import Config
from .errors import (
    AddressError,
    BusClosed,
    ConfigError,
    JobError,
    NoAnswer,
    QueueMismatch,
    WorkerStopped,
    is_unexpected,
    reason_of,
    show,
)
from .metrics import ServiceMetrics
from .protocol.address import check_type, parse_id
from .protocol.messages import LONGEST_TIMEOUT, Announcement, Job, is_seconds
from .receiving import trace
from .receiving.retry import RetryPolicy
from .receiving.runner import is_coroutine_function
from .runtime.durable_lane import Terms
from .runtime.engine import Engine
from .runtime.threads import Threads
from .sending.future import JobFuture
from .util.once import Once
from .util.reactor_thread import check_thread

EventHandler = Callable[[str, Any], Any]


class Worker(Service):
    """A worker: announces itself, takes jobs of its type, sends jobs to others.

    Subclass it and write ``do_job``, or give a function: ``Worker("WB", do_job=store)``. Without either it
    takes no jobs and only sends. Put it into a :class:`txmicro.bus.connections.Bus` with ``setServiceParent``.

    :cvar type: the worker's type.
    :cvar threads: whether ``do_job``, a plain function that blocks, runs in one of the worker's threads.
    :cvar capacity: how many jobs run at once, at least 1; None: the configuration's.
    :cvar max_runtime: seconds that a handler may run, above 0; None: the configuration's.
    :cvar durable: whether it takes durable jobs too.
    :cvar retry: what becomes of durable jobs that fail.
    :ivar id: the worker's id; given, or made at the start.
    :ivar bus: the bus it is on, from its start.
    :ivar config: the configuration of its process, from its start.
    :ivar metrics: the metrics API for one's own (``record_error``, ``registry``, …), from its start.
    """

    type: str = ""
    threads: bool = False
    capacity: int | None = None
    max_runtime: float | None = None
    durable: bool = True
    retry: RetryPolicy = RetryPolicy()
    do_job: Callable[[Job], Any] | None = None
    """The handler: a coroutine function, a function that returns a Deferred, or a plain one. What it returns
    is the job's result, or (:class:`txmicro.protocol.messages.Forward`) who goes on; what it raises is its failure."""

    log = Logger()

    bus: Bus
    config: Config
    metrics: ServiceMetrics

    def __init__(
        self, type: str | None = None, do_job: Callable[[Job], Any] | None = None, *, id: str | None = None
    ) -> None:
        self.type = check_type(type or self.type or (parse_id(id).type if id else ""))
        if id is not None and parse_id(id).type != self.type:
            raise AddressError(f"{id!r} is no id of a worker of type {self.type!r}")
        self._check_limits()
        self.id = id or ""
        if do_job is not None:
            self.do_job = do_job
        self._check_handler()
        self._early: list[tuple[str, EventHandler, bool]] = []
        self._station: Engine | None = None
        self._threads: Threads | None = None
        self._start: Deferred[Any] | None = None
        self._ready: Once[Worker] = Once()
        self._opened = self._started = self._closing = False

    def _check_limits(self) -> None:
        limits = {name: getattr(self, name) for name in ("capacity", "max_runtime")}
        try:
            Config(**{name: limit for name, limit in limits.items() if limit is not None})
        except ConfigError as error:
            problems = "; ".join(error.problems)
            raise ValueError(f"{type(self).__name__}: {problems}, or None for the configuration's") from None

    def _check_handler(self) -> None:
        if self.threads and is_coroutine_function(self.do_job):
            raise TypeError(
                f"{type(self).__name__}: threads = True is for a plain function that blocks, but do_job is a coroutine "
                "function: leave threads out, or make it a plain one"
            )

    # Hooks

    def opened(self) -> Any:
        """Connected, about to take jobs. May return a Deferred or be a coroutine; if it fails, so does the start."""

    def closed(self) -> Any:
        """The mirror of ``opened``: no job runs and no event is heard here any more, but what this worker sent may
        still be answered.

        May return a Deferred or be a coroutine.
        """

    def treat_error(self, error: JobError) -> None:
        """A job of mine failed while nobody awaited it."""
        self.log.error(
            "{worker}: a job failed, and nobody awaits it: {error}",
            worker=self.id,
            error=error,
            recurring=True,
        )

    # Life

    def startService(self) -> None:
        """Start; :meth:`when_ready` tells how that went."""
        if not isinstance(self.parent, Bus):
            raise TypeError(f"a worker of type {self.type} has no bus: call setServiceParent(bus) first")
        super().startService()  # type: ignore[no-untyped-call]
        self.bus, self.config = self.parent, self.parent.config
        self.metrics = self.bus.metrics.service(self.type)
        self.id = self.id or self.bus.ids.worker(self.type)
        self.started = int(self.bus.ids.time() * 1000)
        self._threads = Threads(self.bus.clock, self._capacity, self.id)
        self._station = station = Engine(
            self.bus,
            self.announcement,
            handler=self.do_job,
            capacity=self._capacity,
            policy=self.retry if self.durable else None,
            in_thread=self.in_thread if self.threads else None,
            max_runtime=self.config.max_runtime if self.max_runtime is None else self.max_runtime,
            unheard=self._unheard,
        )
        self._start = Deferred.fromCoroutine(self._begin(station)).addBoth(self._begun)

    async def _begin(self, station: Engine) -> Worker:
        await station.link.open()
        for pattern, handler, group in self._early:
            await self.subscribe(pattern, handler, group=group)
        try:
            await maybeDeferred(self.opened)
        except Exception:
            await station.link.close()
            raise
        self._opened = True
        try:
            await station.enter()
        except QueueMismatch:
            await self._retire(station, WorkerStopped("its worker could not start", worker=self.id))
            raise
        self.log.info("{worker} is ready", worker=self.id)
        return self

    def _begun(self, outcome: Worker | Failure) -> None:
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            self._complain(outcome)
        self._started = outcome is self
        self._ready.happen(outcome)

    def _complain(self, failure: Failure) -> None:
        text, reason = "{worker} cannot start: {reason}", reason_of(failure.value)
        if is_unexpected(failure.value):
            self.log.failure(text, failure, worker=self.id, reason=reason)
        else:
            self.log.critical(text, worker=self.id, reason=reason)

    def when_ready(self) -> Deferred[Worker]:
        """Fires with the worker once it is announced; fails with what kept it from starting (DuplicateWorker,
        QueueMismatch, what ``opened`` raised, CancelledError when it was stopped before). Cancelling stops the wait.
        """
        return self._ready.wait()

    def stopService(self) -> Deferred[None]:
        """Stop in order: take no more jobs, say so, finish those that run (for ``grace`` seconds), leave.

        Fires when all of that is done.
        """
        station = self._station if self.running else None
        super().stopService()  # type: ignore[no-untyped-call]
        return succeed(None) if station is None else Deferred.fromCoroutine(self._stop(station))

    async def _stop(self, station: Engine) -> None:
        reason = WorkerStopped("stopped before the job was done", worker=self.id)
        if self._start is not None:
            self._start.cancel()
        if self._started:
            await self._retire(station, reason)
        else:
            await self._leave(station, reason)
        self.log.info("{worker} has stopped", worker=self.id)

    async def _retire(self, station: Engine, reason: JobError) -> None:
        await station.retire(self.config.grace, reason)
        await self._leave(station, reason)

    async def _leave(self, station: Engine, reason: JobError) -> None:
        self._closing = True
        if self._opened:
            self._opened = False
            try:
                await maybeDeferred(self.closed)
            except Exception:  # a hook of the user's must not keep the rest from stopping
                self.log.failure("{worker}: closed() failed", level=LogLevel.error, worker=self.id)
        self._station = None
        station.give_up(reason)
        await station.leave()
        if self._threads is not None:
            self._threads.close()

    @property
    def running_jobs(self) -> int:
        """How many jobs run here now."""
        return 0 if self._station is None else self._station.running_jobs

    @property
    def passed_on_jobs(self) -> int:
        """How many jobs this worker has passed on that are not done; it watches over them."""
        return 0 if self._station is None else self._station.passed_on_jobs

    @property
    def _capacity(self) -> int:
        return self.config.capacity if self.capacity is None else self.capacity

    def announcement(self) -> Announcement:
        """What this worker says of itself."""
        return Announcement(
            self.id,
            self.type,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            capacity=self._capacity if self.do_job is not None else 0,
            metrics=self.bus.metrics_address,
            started=self.started,
        )

    @property
    def peers(self) -> list[Announcement]:
        """The workers of this type that are known here, eldest first, this one included."""
        return [] if self._station is None else self._station.membership.peers.of_type(self.type)

    def _unheard(self, error: JobError) -> None:
        try:
            self.treat_error(error)
        except Exception:  # as in _stop
            self.log.failure(
                "{worker}: treat_error() failed", level=LogLevel.error, worker=self.id, recurring=True
            )

    # What a person calls

    @property
    def _running_station(self) -> Engine:
        if self._station is None:
            raise BusClosed(f"{self.id or self.type} is not running: nothing can be sent")
        return self._station

    def send(
        self,
        address: str | Sequence[str],
        data: Any = None,
        *,
        timeout: float | None = None,
        traceparent: str | None = None,
        redeliver: bool = True,
        durable: bool = False,
        expires: float | None = None,
        attempts: int | None = None,
    ) -> JobFuture:
        """Send a job to *address*: ``TYPE:*``, a worker id, or a list of these, a routing slip.

        :param timeout: seconds from now until it fails with JobTimeout; None: the configuration's. They include the
            time in which it waits for its turn, here, at the broker and at a worker: whoever sends more at once than
            the workers do in that time needs a longer one.
        :param traceparent: W3C trace context to pass along; None: that of the job whose handler calls this, if any.
        :param redeliver: whether it may run twice, so that it is sent again until it is done. If not, it runs at most
            once, and fails with WorkerLost when nobody can say whether it did.
        :param durable: whether the broker is to keep it until it is done, whatever dies; its future then has
            ``when_stored``, and *timeout* bounds only the wait for its end. It goes to ``TYPE:*``.
        :param expires: seconds after which a durable job is not started any more; None: never.
        :param attempts: how often a durable job is tried; None: as its worker's ``retry`` says.
        :return: the job's future.
        :raise AddressError: not an address. :raise EncodeError: *data* cannot travel.
        :raise MessageTooLarge: *data* is too large. :raise BusClosed: the worker is not running.
        :raise WrongThread: this is not the reactor's thread.
        :raise BusOverloaded: too many jobs that it sent are under way.
        :raise ValueError: *timeout*, *expires* or *attempts* is no such number.
        """
        check_thread("send")
        slip = [address] if isinstance(address, str) else list(address)
        station = self._running_station
        seconds = self.config.timeout if timeout is None else timeout
        if not is_seconds(seconds, LONGEST_TIMEOUT):
            raise ValueError(
                f"timeout is {show(timeout)}: expected seconds above 0, at most {LONGEST_TIMEOUT:,}"
            )
        if durable and not redeliver:
            raise ValueError("a durable job is delivered until it is done: it cannot have redeliver=False")
        if traceparent is None:
            traceparent = trace.current()
        if durable:
            return station.send_durable(slip, data, seconds, traceparent, Terms(expires, attempts))
        if expires is not None or attempts is not None:
            raise ValueError("expires and attempts are for durable jobs: a timeout bounds an interactive one")
        return station.send(slip, data, seconds, traceparent, redeliver)

    def publish(self, topic: str, data: Any = None) -> None:
        """Publish an event, at most once: nobody hears it while the bus is away.

        Raises EncodeError, MessageTooLarge, BusClosed, or WrongThread in another thread than the reactor's.
        """
        check_thread("publish")
        post = self._running_station.link.post
        post.emit(topic, post.encode({"data": data, "sender": self.id}))

    def subscribe(self, pattern: str, handler: EventHandler, *, group: bool = False) -> Deferred[None]:
        """Call ``handler(topic, data)`` for events on topics that match *pattern* (``*`` one word, ``#`` any).

        *group*: one worker of this type gets each event, instead of every one. The handler may return a
        Deferred or be a coroutine; what it raises is logged. Fires when the events are being heard; before
        the worker is started, at once. Raises WrongThread in another thread than the reactor's.
        """
        check_thread("subscribe")
        if self._station is None:
            self._early.append((pattern, handler, group))
            return succeed(None)
        hear = partial(self._hear, handler)
        return Deferred.fromCoroutine(self._station.link.subscribe(pattern, hear, group))

    def _hear(self, handler: EventHandler, topic: str, body: Any) -> None:
        if self._closing:  # what the handler works with is being taken apart
            return

        def wrong(failure: Failure) -> None:
            self.log.failure(
                "{worker}: the handler of {topic} failed",
                failure,
                LogLevel.error,
                worker=self.id,
                topic=topic,
                recurring=True,
            )

        maybeDeferred(handler, topic, body.get("data")).addErrback(wrong)

    def list_workers(self, timeout: float = 5.0) -> Deferred[list[dict[str, Any]]]:
        """Ask a SystemManager who is on the bus.

        Fires with a list of announcements as dicts, each with ``state`` (``alive`` or ``suspect``) and ``age``
        (milliseconds since it was heard). Fails with NoAnswer when no manager answers within *timeout* seconds.
        Cancelling it stops the wait. Raises WrongThread in another thread than the reactor's.
        """
        check_thread("list_workers")

        def late(_result: Any, _timeout: float) -> Any:
            raise NoAnswer(f"no SystemManager answered within {timeout:g} s")

        return self._running_station.membership.list_workers().addTimeout(timeout, self.bus.clock, late)

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Run ``function(*args)`` in one of this worker's threads; there are as many as its ``capacity``.

        Fires with its result; fails with what it raised, or with WorkerStopped when the worker has stopped. Cancelling
        it stops the wait; a thread that has begun goes on. Raises BusClosed before the worker is started, and
        WrongThread in another thread than the reactor's.
        """
        check_thread("in_thread")
        if self._threads is None:
            raise BusClosed(f"{self.id or self.type} is not running: it has no threads")
        return self._threads.run(function, *args)
