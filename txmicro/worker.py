"""The :class:`Worker`, which programs subclass or give a function to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

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
from .protocol.handlers import EventHandler, JobHandler
from .protocol.job import LONGEST_TIMEOUT, is_seconds
from .protocol.notifications import Announcement
from .protocol.span import Span, end_with
from .protocol.trace_headers import TraceContext, trace_headers
from .receiving import running_job
from .receiving.retry import RetryPolicy
from .receiving.runner import is_coroutine_function
from .runtime.durable_lane import Terms
from .runtime.engine import Engine
from .runtime.threads import Threads
from .sending.future import JobFuture
from .util.once import Once
from .util.reactor_thread import check_thread

_LOG_LINES: Final = "log."
"""The beginning of the topics of log lines, which have no spans."""


class Worker(Service):
    """A worker: it announces itself, runs jobs of its type, and sends jobs to other workers.

    Subclass it and write ``do_job``, or pass a function: ``Worker("Invoices", do_job=send_invoice)``. A worker without
    a handler runs no jobs and only sends. Add it to a :class:`~txmicro.Bus` with ``setServiceParent``.

    :cvar type: the worker's type.
    :cvar threads: whether ``do_job`` is a plain function that blocks, to be run in one of the worker's threads.
    :cvar capacity: how many jobs run at once, at least 1; None: the configuration's ``capacity``.
    :cvar max_runtime: seconds that a handler may run, above 0; None: the configuration's ``max_runtime``.
    :cvar durable: whether the worker runs durable jobs, too.
    :cvar retry: how often and when durable jobs that failed are tried again.
    :ivar id: the worker's id: the one given, or one made when the worker starts.
    :ivar bus: the bus that the worker is on. It, ``config`` and ``metrics`` are set when the worker starts.
    :ivar config: the configuration of the process.
    :ivar metrics: the metrics of the worker's type, and the registry for metrics of your own.
    """

    type: str = ""
    threads: bool = False
    capacity: int | None = None
    max_runtime: float | None = None
    durable: bool = True
    retry: RetryPolicy = RetryPolicy()
    do_job: JobHandler | None = None
    """The handler: a coroutine function, a function that returns a Deferred, or a plain function.

    Its return value is the job's result, or a :class:`~txmicro.Forward` to the next worker. The job fails with what it
    raises.
    """

    log = Logger()

    bus: Bus
    config: Config
    metrics: ServiceMetrics

    def __init__(
        self, type: str | None = None, do_job: JobHandler | None = None, *, id: str | None = None
    ) -> None:
        kind = type or self.type or (parse_id(id).type if id else "")
        if not kind:
            raise AddressError(
                f"{self.__class__.__name__} has no worker type: set type in the class, or pass one"
            )
        self.type = check_type(kind)
        if id is not None and parse_id(id).type != self.type:
            raise AddressError(
                f"{id!r} is not a valid id of a worker of type {self.type}: expected {self.type}:NAME"
            )
        self._check_limits()
        self.id = id or ""
        if do_job is not None:
            self.do_job = do_job
        self._check_handler()
        self._early_subscriptions: list[tuple[str, EventHandler, bool]] = []
        self._engine: Engine | None = None
        self._threads: Threads | None = None
        self._start: Deferred[Any] | None = None
        self._ready: Once[Worker] = Once()
        self._opened = self._started = self._closing = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id or self.type}>"

    def _check_limits(self) -> None:
        limits = {name: getattr(self, name) for name in ("capacity", "max_runtime")}
        try:
            Config(**{name: limit for name, limit in limits.items() if limit is not None})
        except ConfigError as error:
            problems = "; ".join(error.problems)
            raise ValueError(f"{type(self).__name__}: {problems}, or None for the configuration's") from None

    def _check_handler(self) -> None:
        handler: object = self.do_job
        if not (handler is None or callable(handler)):
            raise TypeError(
                f"{self!r}: do_job is {show(handler)}: expected a function, or a method of the class"
            )
        if self.threads and is_coroutine_function(self.do_job):
            raise TypeError(
                f"{type(self).__name__}: threads is True, which is for a plain function that blocks, but do_job is a "
                "coroutine function: remove threads, or make do_job a plain function"
            )

    # Hooks

    def opened(self) -> Any:
        """Prepare the worker: it is connected, and receives jobs once this is done.

        Override it. It may return a Deferred or be a coroutine function. If it fails, the worker does not start.
        """

    def closed(self) -> Any:
        """Release what :meth:`opened` acquired: no handler runs any more.

        Override it. It may return a Deferred or be a coroutine function. Jobs that this worker sent may still be
        answered meanwhile.
        """

    def treat_error(self, error: JobError, job: JobFuture) -> None:
        """Log a failed job that this worker sent and that nobody waits for. Override it to do something else."""
        self.log.error(
            "{worker}: job {job} to {address} failed, and nobody awaits it: {error}",
            worker=self.id,
            job=job.id,
            traceparent=job.traceparent,
            address=job.address,
            error=error,
            recurring=True,
        )

    # Starting and stopping

    def setServiceParent(self, parent: Bus) -> None:
        """Add the worker to a bus: it starts when the bus does, or at once if the bus is running."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start the worker. :meth:`when_ready` tells whether it has started.

        Raises TypeError if the worker is not on a bus.
        """
        if not isinstance(self.parent, Bus):
            raise TypeError(f"a worker of type {self.type} has no bus: call setServiceParent(bus) first")
        super().startService()  # type: ignore[no-untyped-call]
        self.bus, self.config = self.parent, self.parent.config
        self.metrics = self.bus.metrics.service(self.type)
        self.id = self.id or self.bus.ids.worker(self.type)
        self.started = int(self.bus.ids.time() * 1000)
        self.metrics.add_job_counts(self)
        self._threads = Threads(self.bus.clock, self._capacity, self.id)
        self._engine = engine = Engine(
            self.bus,
            self.announcement,
            handler=self.do_job,
            capacity=self._capacity,
            policy=self.retry if self.durable else None,
            in_thread=self.in_thread if self.threads else None,
            max_runtime=self.config.max_runtime if self.max_runtime is None else self.max_runtime,
            unawaited=self._report_unawaited,
        )
        self._start = Deferred.fromCoroutine(self._begin(engine)).addBoth(self._begun)

    async def _begin(self, engine: Engine) -> Worker:
        await engine.open()
        for pattern, handler, group in self._early_subscriptions:
            await self.subscribe(pattern, handler, group=group)
        try:
            await maybeDeferred(self.opened)
        except Exception:
            await engine.channel.close()
            raise
        self._opened = True
        try:
            await engine.enter()
        except QueueMismatch:
            await self._retire(engine, WorkerStopped("its worker could not start", worker=self.id))
            raise
        if self.do_job is None:  # perhaps misspelled
            text = "{worker} is ready; it has no do_job, so it takes no jobs"
        else:
            text = "{worker} is ready"
        self.log.info(text, worker=self.id)
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
        """Wait until the worker has started. Each call returns a new Deferred.

        Fires with the worker when it is announced. Fails with :class:`~txmicro.errors.DuplicateWorker`,
        :class:`~txmicro.errors.QueueMismatch`, what :meth:`opened` raised, or CancelledError if the worker was stopped
        before. Canceling it stops the wait only.
        """
        return self._ready.wait()

    def stopService(self) -> Deferred[None]:
        """Stop the worker: receive no more jobs, announce that, and let handlers run for up to ``grace`` seconds.

        Fires with None when the worker has left the bus; does not fail.
        """
        engine = self._engine if self.running else None
        super().stopService()  # type: ignore[no-untyped-call]
        return succeed(None) if engine is None else Deferred.fromCoroutine(self._stop(engine))

    async def _stop(self, engine: Engine) -> None:
        reason = WorkerStopped("stopped before the job was done", worker=self.id)
        if self._start is not None:
            self._start.cancel()
        if self._started:
            await self._retire(engine, reason)
        else:
            await self._leave(engine, reason)
        self.log.info("{worker} has stopped", worker=self.id)

    async def _retire(self, engine: Engine, reason: JobError) -> None:
        await engine.retire(self.config.grace, reason)
        await self._leave(engine, reason)

    async def _leave(self, engine: Engine, reason: JobError) -> None:
        self._closing = True
        if self._opened:
            self._opened = False
            try:
                await maybeDeferred(self.closed)
            except Exception:  # the rest must be stopped all the same
                self.log.failure("{worker}: closed() failed", level=LogLevel.error, worker=self.id)
        await engine.tell_takers()
        self._engine = None
        engine.give_up(reason)
        await engine.leave()
        self.metrics.remove_job_counts(self)
        if self._threads is not None:
            self._threads.close()

    @property
    def reactor(self) -> Any:
        """The reactor that the worker runs in, from its start on."""
        return self.bus.clock

    @property
    def pending_jobs(self) -> int:
        """How many jobs the worker has sent that have not ended, including hops of jobs that it passed on."""
        return 0 if self._engine is None else self._engine.pending_jobs

    @property
    def running_jobs(self) -> int:
        """How many jobs the worker runs."""
        return 0 if self._engine is None else self._engine.running_jobs

    @property
    def held_jobs(self) -> int:
        """How many jobs the worker has received that wait until others have ended."""
        return 0 if self._engine is None else self._engine.held_jobs

    @property
    def pending_bytes(self) -> int:
        """Size of the messages that the worker keeps for these jobs, in bytes."""
        return 0 if self._engine is None else self._engine.pending_bytes

    @property
    def job_capacity(self) -> int:
        """How many jobs the running worker runs at once; 0: it takes none."""
        return 0 if self._engine is None else self._engine.job_capacity

    @property
    def passed_on_jobs(self) -> int:
        """How many jobs the worker has passed on whose next hop has not ended."""
        return 0 if self._engine is None else self._engine.passed_on_jobs

    @property
    def obstacle(self) -> str:
        """Why the worker cannot take and send jobs now, in words; empty if it can."""
        if not self.running or self._engine is None:
            return "it is not running"
        if not self._started:
            return f"it is starting: {self._engine.channel.robust.obstacle or 'opened() has not ended'}"
        return self._engine.obstacle

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves, in words; empty if there is none."""
        return self._engine.defect if self.running and self._engine is not None else ""

    @property
    def _capacity(self) -> int:
        return self.config.capacity if self.capacity is None else self.capacity

    def announcement(self) -> Announcement:
        """Return what this worker announces of itself."""
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
        """The known workers of this type, oldest first, this one included."""
        return [] if self._engine is None else self._engine.announcer.peers.of_type(self.type)

    def _report_unawaited(self, error: JobError, job: JobFuture) -> None:
        try:
            self.treat_error(error, job)
        except Exception:  # the engine must go on all the same
            self.log.failure(
                "{worker}: treat_error() failed", level=LogLevel.error, worker=self.id, recurring=True
            )

    # Sending

    @property
    def _running_engine(self) -> Engine:
        if self._engine is None:
            raise self._not_running()
        return self._engine

    def _not_running(self) -> BusClosed:
        return BusClosed(f"{self.id or self.type} is not running: wait for when_ready() before you use it")

    def send(
        self,
        address: str | Sequence[str],
        data: Any = None,
        *,
        timeout: float | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
        redeliver: bool = True,
        durable: bool = False,
        expires: float | None = None,
        attempts: int | None = None,
    ) -> JobFuture:
        """Send a job.

        :param address: ``TYPE:*``, a worker id, or a list of these (a routing slip).
        :param data: what the handler gets as ``job.data``.
        :param timeout: seconds from now until the job fails with JobTimeout; None: the configuration's ``timeout``.
            The time that the job waits here, at the broker and at a worker counts.
        :param traceparent: W3C trace context to pass along; None: that of the job whose handler calls this, if any.
        :param tracestate: what belongs to *traceparent*; None: nothing.
        :param redeliver: whether the job may run twice. If so, it is sent again until it is done. If not, it runs at
            most once, and fails with WorkerLost when it is unknown whether it ran.
        :param durable: whether the broker keeps the job until it is done. *timeout* then bounds only the wait for its
            end, and *address* has no worker ids.
        :param expires: seconds after which a durable job is not started any more; None: it does not expire.
        :param attempts: how often a durable job is tried; None: as the ``retry`` of its worker says.
        :return: the job's future.
        :raise AddressError: *address* is not valid. :raise EncodeError: the bus's format cannot carry *data*.
        :raise MessageTooLarge: *data* is too large. :raise BusClosed: the worker is not running.
        :raise WrongThread: this is not the reactor's thread.
        :raise BusOverloaded: too many jobs that this worker sent have not ended.
        :raise ValueError: *timeout*, *expires* or *attempts* is not valid.
        """
        check_thread("send")
        slip = [address] if isinstance(address, str) else _slip(address)
        engine = self._engine
        if engine is None:
            raise self._not_running()
        if timeout is None:
            seconds = self.config.timeout
        elif is_seconds(timeout, LONGEST_TIMEOUT):
            seconds = timeout
        else:
            raise ValueError(
                f"timeout is {show(timeout)}: expected seconds above 0, at most {LONGEST_TIMEOUT:,}"
            )
        if durable and not redeliver:
            raise ValueError("redeliver=False cannot be combined with durable=True: remove one of them")
        trace = (traceparent, tracestate)
        if traceparent is None and (running := running_job.current()) is not None:
            trace = (running.traceparent, running.tracestate)
        if durable:
            return engine.send_durable(slip, data, seconds, trace, Terms(expires, attempts))
        if expires is not None or attempts is not None:
            raise ValueError(
                "expires and attempts are for durable jobs: add durable=True, or use timeout instead"
            )
        return engine.send(slip, data, seconds, trace, redeliver)

    def publish(self, topic: str, data: Any = None) -> None:
        """Publish an event, at most once: it is lost while the bus is not connected.

        Raises EncodeError, MessageTooLarge, BusClosed, or WrongThread in another thread than the reactor's.
        """
        check_thread("publish")
        publisher = self._running_engine.channel.publisher
        body = publisher.encode({"data": data, "sender": self.id})
        if topic.startswith(_LOG_LINES):  # a line about a span would otherwise be one more span
            publisher.emit(topic, body)
            return
        trace, tracer = running_job.trace(), self.bus.tracer
        if tracer is None:
            publisher.emit(topic, body, trace_headers(*trace) or None)
            return
        span, trace = tracer.publish(topic, self.id, trace)
        publisher.emit(topic, body, trace_headers(*trace) or None)
        span.end()

    def subscribe(self, pattern: str, handler: EventHandler, *, group: bool = False) -> Deferred[None]:
        """Call ``handler(topic, data)`` for each event whose topic matches *pattern*.

        Fires with None when the subscription is active, or at once before the worker is started. Fails with what the
        broker refused it for. Raises WrongThread in another thread than the reactor's.

        :param pattern: words joined by dots: ``*`` matches one word, ``#`` any number of words.
        :param handler: may return a Deferred or be a coroutine function. Its errors are logged.
        :param group: whether only one worker of this type gets each event, instead of every worker.
        """
        check_thread("subscribe")
        if self._engine is None:
            self._early_subscriptions.append((pattern, handler, group))
            return succeed(None)
        handle = partial(self._handle_event, handler, pattern)
        return Deferred.fromCoroutine(self._engine.channel.subscribe(pattern, handle, group))

    def _handle_event(
        self, handler: EventHandler, pattern: str, topic: str, data: Any, trace: TraceContext
    ) -> None:
        if self._closing:  # closed() releases what the handler needs
            return
        span: Span | None = None
        if self.bus.tracer is not None and not topic.startswith(_LOG_LINES):
            span, trace = self.bus.tracer.handle(topic, pattern, self.id, trace)
        token = running_job.enter_event(self.id, trace)
        try:
            if span is None:
                handling = maybeDeferred(handler, topic, data)
            else:
                handling = span.run(maybeDeferred, handler, topic, data)
        finally:
            running_job.leave(token)
        if span is not None:
            end_with(span, handling)

        def log_failure(failure: Failure) -> None:
            self.log.failure(
                "{worker}: the handler of {topic} failed",
                failure,
                LogLevel.error,
                worker=self.id,
                topic=topic,
                recurring=True,
            )

        handling.addErrback(log_failure)

    def list_workers(self, timeout: float = 5.0) -> Deferred[list[dict[str, Any]]]:
        """Ask a SystemManager which workers are on the bus.

        Fires with a list of announcements as dicts, each with ``state`` (``alive`` or ``suspect``) and ``age``
        (milliseconds since the manager received it). Fails with NoAnswer when no manager answers within *timeout*
        seconds. Canceling it stops the wait. Raises BusClosed before the worker is started, and WrongThread in another
        thread than the reactor's.
        """
        check_thread("list_workers")

        def late(_result: Any, _timeout: float) -> Any:
            raise NoAnswer(f"no SystemManager answered within {timeout:g} s: start one, or wait longer")

        return self._running_engine.announcer.list_workers().addTimeout(timeout, self.bus.clock, late)

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Run ``function(*args)`` in one of this worker's threads; there are as many as its ``capacity``.

        Fires with its result. Fails with what it raised, or with WorkerStopped when the worker has stopped. Canceling
        it stops the wait; a function that runs goes on. Raises BusClosed before the worker is started, and WrongThread
        in another thread than the reactor's.
        """
        check_thread("in_thread")
        if self._threads is None:
            raise self._not_running()
        return self._threads.run(function, *args)


def _slip(addresses: object) -> list[Any]:
    """Return the addresses of a routing slip. Another value is its only address, which is then refused."""
    if isinstance(addresses, Iterable) and not isinstance(addresses, bytes):
        return list(addresses)
    return [addresses]
