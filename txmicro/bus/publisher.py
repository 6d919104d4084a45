"""Encodes and publishes a worker's messages.

While its channel is not built, replies, notifications and events are dropped: those who need them ask again. So are
messages that the broker's permissions forbid.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.amqp.errors import AccessRefused, Returned
from txmicro.amqp.properties import Properties, PropertiesTemplate
from txmicro.errors import BusClosed, MessageTooLarge, NotPermitted
from txmicro.metrics import INTERACTIVE, ServiceMetrics
from txmicro.protocol import messages, topology
from txmicro.protocol.address import ANY
from txmicro.protocol.failures import describe
from txmicro.protocol.job import outcome_body, remaining_ms
from txmicro.protocol.notifications import notification_kind
from txmicro.protocol.parcel import Forbidden, Parcel, Unroutable
from txmicro.protocol.trace_headers import trace_headers
from txmicro.util.log_once import LogOnce

from .connections import Bus
from .route import Route, Routes
from .session import Session

APP_ID: Final = "txmicro"

_EXPIRATION_MAX: Final = 2**32 - 1
"""The largest ``expiration``, in milliseconds: RabbitMQ closes the channel at more."""

_COPY_LIFE: Final = str(int(topology.COPY_TTL * 1000))
"""Milliseconds that the broker keeps a copy of a job at most: its sender sends another one."""


class OutgoingJob(Protocol):
    """A job to be published: a :class:`~txmicro.sending.pending.PendingJob`."""

    @property
    def key(self) -> str:
        """The hop's key."""

    @property
    def address(self) -> str:
        """The address that it goes to."""

    @property
    def body(self) -> bytes:
        """The encoded body."""

    @property
    def traceparent(self) -> str | None:
        """W3C trace context; None: there is none."""

    @property
    def tracestate(self) -> str | None:
        """The state that belongs to the trace context; None: nothing."""

    @property
    def deadline(self) -> float:
        """When it fails, in the clock's seconds."""

    @property
    def redeliver(self) -> bool:
        """True if it may run twice."""

    @property
    def stale(self) -> bool:
        """True if the body was encoded for an earlier moment."""

    @property
    def copies(self) -> int:
        """How many copies were published, this one included."""

    @property
    def tries(self) -> int:
        """How many copies were published before."""

    @property
    def missing_takers(self) -> tuple[str, ...]:
        """Ids of the workers that took it and are missing."""


class Returns(Protocol):
    """Handles what comes back."""

    def returned(self, kind: str, key: str) -> None:
        """Note that the message of type *kind* about the job *key* found no queue."""

    def refused(self, key: str, error: NotPermitted | MessageTooLarge) -> None:
        """Note that the broker does not take the job *key*."""


class Resends(Protocol):
    """Records jobs that are published again: the :class:`~txmicro.monitoring.recorder.Recorder`."""

    def resent(
        self, key: str, address: str, *, durable: bool, copies: int, traceparent: str | None, reason: str
    ) -> None:
        """Note that the hop of this key was published again, for *reason*; *copies* were published by now."""


class Publisher:
    """Publishes the messages of one worker.

    :param worker: its id.
    :ivar session: the session to publish on; None: the channel is not built.
    :ivar returns: handles what comes back; None: nobody does.
    :ivar resends: records what is published again; None: nobody does.
    """

    log = Logger()

    def __init__(self, bus: Bus, worker: str, metrics: ServiceMetrics) -> None:
        self.session: Session | None = None
        self.returns: Returns | None = None
        self.resends: Resends | None = None
        self._worker = worker
        self._metrics = metrics
        self._sent = metrics.sent
        self._confirms = bus.metrics.bus.confirms.durations
        self._codec = bus.codec
        self._limit = bus.size_limit
        self._time = bus.ids.time
        self._clock = bus.clock
        self._logged = LogOnce()
        self._templates: dict[tuple[str, int, str | None], PropertiesTemplate] = {}
        self._job_template = self._template(messages.JOB, 1, None)
        self._jobs = Routes(_job_route)
        self._replies = Routes(_reply_route)

    def connected(self, session: Session) -> None:
        """Publish on *session* from now on."""
        self.session = session
        self._jobs.known.clear()
        self._replies.known.clear()

    def disconnected(self) -> None:
        """Publish nothing until :meth:`connected`."""
        self.session = None

    # Encoding

    def encode(self, body: dict[str, Any]) -> bytes:
        """Return *body* in this bus's format.

        Raises EncodeError, and MessageTooLarge when it is larger than ``max_message``, or than the broker is known to
        take.
        """
        data = self._codec.encode(body)
        if len(data) > self._limit.ordinary:
            self._limit.check(len(data))
        return data

    def reencode(self, body: bytes, changes: dict[str, Any]) -> bytes:
        """Return a body that :meth:`encode` made, with some of its fields changed."""
        return self.encode({**self._codec.decode(body), **changes})

    # Publishing

    def send_job(self, job: OutgoingJob) -> None:
        """Publish one copy of an interactive job, which the broker drops after a while.

        A copy that finds no queue comes back to ``returns``, and so does a job that the broker does not take.
        """
        body = job.body
        now = self._clock.seconds()
        if job.stale:  # it waited, or is sent again: its body has the tries and the time of before
            try:
                body = self.reencode(body, {"tries": job.tries, "deadline": remaining_ms(job.deadline, now)})
            except MessageTooLarge as error:  # by the new values, or by what is known of the broker since
                if self.returns is not None:
                    self.returns.refused(job.key, error)
                return
        if job.redeliver and job.deadline - now > topology.COPY_TTL:
            life = _COPY_LIFE
        else:
            life = str(min(remaining_ms(job.deadline, now), _EXPIRATION_MAX))
        if job.copies > 1:
            self._metrics.record_resend(INTERACTIVE)
            if self.resends is not None:
                self.resends.resent(
                    job.key,
                    job.address,
                    durable=False,
                    copies=job.copies,
                    traceparent=job.traceparent,
                    reason=_why_again(job),
                )
        session = self.session
        if session is None:
            return
        headers = trace_headers(job.traceparent, job.tracestate) if job.traceparent else None
        properties = self._job_template.fill(job.key, int(self._time()), life, headers)
        route = self._jobs.known.get(job.address)
        if route is None:
            self._ask(session, self._jobs, job.address, messages.JOB, job.key, properties, body)
        else:
            self._publish(session, route, messages.JOB, job.key, properties, body)

    def reply(self, worker: str, kind: str, key: str, body: bytes) -> None:
        """Publish a control message to *worker*'s inbox; one that finds no inbox comes back to ``returns``.

        If a result is too large for the broker, *worker* is told so instead.
        """
        session = self.session
        if session is None:
            return
        template = self._templates.get((kind, 1, None)) or self._template(kind, 1, None)
        properties = template.fill(key, int(self._time()))
        route = self._replies.known.get(worker)
        if route is None:
            self._ask(session, self._replies, worker, kind, key, properties, body)
        else:
            self._publish(session, route, kind, key, properties, body)

    def notify(self, topic: str, body: dict[str, Any]) -> None:
        """Publish a notification."""
        self._broadcast(topology.NOTIFICATIONS, topic, notification_kind(topic), self.encode(body))

    def emit(self, topic: str, body: bytes, headers: dict[str, Any] | None = None) -> None:
        """Publish an event."""
        self._broadcast(topology.EVENTS, topic, messages.EVENT, body, headers)

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Publish a message for the broker to keep.

        Fires with None when the broker has confirmed it. Fails with :class:`~txmicro.protocol.parcel.Unroutable` when
        no queue takes it, with :class:`~txmicro.errors.MessageTooLarge`, and with another error when nobody knows.
        Canceling it stops the wait; the message may be stored.
        """
        return Deferred.fromCoroutine(self._store(parcel))

    def renew(self) -> None:
        """Replace the channel of :meth:`store`. Publications that it has not confirmed fail."""
        if self.session is not None:
            self.session.renew_keeper()

    async def reaches(self, worker: str) -> bool:
        """Return whether *worker* has an inbox, whatever its queue is called, by publishing an empty message to it.

        Raises what :meth:`store` fails with, except :class:`~txmicro.protocol.parcel.Unroutable`.
        """
        body = self.encode({"worker": self._worker, "keys": []})
        exchange, key = _reply_route(worker)
        try:
            await self.store(Parcel(exchange, key, messages.HEARD, worker, body))
        except Forbidden:
            raise
        except Unroutable:
            return False
        return True

    def flush(self) -> Deferred[Any]:
        """Give the transport now what was published in this turn of the reactor.

        Fires when also those messages are written that waited to hear whether their exchange exists; does not fail.
        Canceling it stops the wait.
        """
        session = self.session
        if session is None:
            return succeed(None)
        return session.settled().addCallback(lambda _: session.publishing.flush())

    def came_back(self, kind: str, key: str) -> None:
        """Tell ``returns`` that a message found no queue."""
        if self.returns is not None:
            self.returns.returned(kind, key)

    # How

    def _publish(
        self, session: Session, route: Route, kind: str, key: str, properties: bytes, body: bytes
    ) -> None:
        """Publish a message that must find a queue, on an exchange that exists."""
        self._sent[kind].value += 1
        if len(body) <= self._limit.ordinary:
            session.publish(route.frame, properties, body)
        else:
            self._publish_large(session, route.exchange, route.routing_key, kind, key, properties, body)

    def _publish_large(
        self,
        session: Session,
        exchange: str,
        routing_key: str,
        kind: str,
        key: str,
        properties: bytes,
        body: bytes,
        mandatory: bool = True,
    ) -> None:
        if not session.overflows(len(body)):
            publishing = session.large.publish(exchange, routing_key, properties, body, key, mandatory)
            publishing.addErrback(self._not_published, routing_key, kind, key)

    def _broadcast(
        self, exchange: str, topic: str, kind: str, body: bytes, headers: dict[str, Any] | None = None
    ) -> None:
        session = self.session
        if session is None:
            return
        self._sent[kind].value += 1
        properties = self._properties(kind, "", headers=headers)
        if len(body) <= self._limit.ordinary:
            session.publish(session.frame(exchange, topic, mandatory=False), properties, body)
        else:
            self._publish_large(session, exchange, topic, kind, "", properties, body, False)

    def _ask(
        self,
        session: Session,
        routes: Routes,
        address: str,
        kind: str,
        key: str,
        properties: bytes,
        body: bytes,
    ) -> None:
        """Publish a message on an exchange that may not exist: publishing there would close the channel."""
        route = routes.make(session, address)
        if session.knows(route.exchange):
            self._publish(session, route, kind, key, properties, body)
            return

        def known(exists: bool) -> None:
            if exists and session is self.session:
                self._publish(session, route, kind, key, properties, body)
            else:
                self.came_back(kind, key)

        def unknown(failure: Failure) -> None:
            if isinstance(failure.value, AccessRefused):
                self._refused(kind, key, NotPermitted(str(failure.value)))

        session.exists(route.exchange).addCallbacks(known, unknown)

    async def _store(self, parcel: Parcel) -> None:
        session = self.session
        if session is None:
            raise BusClosed("the channel is not built")
        try:
            there = session.knows(parcel.exchange) or await session.exists(parcel.exchange)
        except AccessRefused as error:
            self._refused(parcel.kind, "", NotPermitted(str(error)))
            raise Forbidden(str(error)) from error
        if not there:
            raise Unroutable(
                f"no worker of that type has ever connected: there is no exchange {parcel.exchange}"
            )
        self._sent[parcel.kind].value += 1
        properties = self._properties(
            parcel.kind,
            parcel.key,
            expiration=None if parcel.expiration is None else str(parcel.expiration),
            headers=parcel.headers or None,
            delivery_mode=2,
            content_type=parcel.content_type,
        )
        store = session.store if len(parcel.body) <= self._limit.ordinary else session.large.publish
        began = self._clock.seconds()
        try:
            await store(parcel.exchange, parcel.routing_key, properties, parcel.body, parcel.key)
        except Returned as error:
            raise Unroutable(str(error)) from error
        self._confirms.observe(self._clock.seconds() - began)

    def _not_published(self, failure: Failure, to: str, kind: str, key: str) -> None:
        error = failure.value
        if isinstance(error, Returned):
            self.came_back(kind, key)
        elif isinstance(error, MessageTooLarge):
            self._refused(kind, key, error)
            if kind == messages.RESULT:
                outcome = outcome_body(key, self._worker, {"failure": describe(error, self._worker)})
                self.reply(to, messages.FAILURE, key, self.encode(outcome))
        # Any other error means that the channel was closed: those who need the message ask again.

    def _refused(self, kind: str, key: str, error: NotPermitted | MessageTooLarge) -> None:
        """Count and log that the broker does not take a message. *key* is empty where the sender knows already."""
        self._metrics.record_error(error.type)
        if self._logged.first(str(error) if isinstance(error, NotPermitted) else f"{kind} is too large"):
            self.log.error(
                "{worker}: the broker does not take a message of type {kind!r} (logged once): {error}",
                worker=self._worker,
                kind=kind,
                error=error,
            )
        if kind == messages.JOB and key and self.returns is not None:
            self.returns.refused(key, error)

    def _properties(
        self,
        kind: str,
        key: str,
        *,
        expiration: str | None = None,
        headers: dict[str, Any] | None = None,
        delivery_mode: int = 1,
        content_type: str | None = None,
    ) -> bytes:
        template = self._templates.get((kind, delivery_mode, content_type))
        if template is None:
            template = self._template(kind, delivery_mode, content_type)
        return template.fill(key, int(self._time()), expiration, headers)

    def _template(self, kind: str, delivery_mode: int, content_type: str | None) -> PropertiesTemplate:
        if len(self._templates) >= 100:  # a content type may come from a message that cannot be read
            self._templates.clear()
        template = self._templates[kind, delivery_mode, content_type] = PropertiesTemplate(
            Properties(
                content_type=content_type or self._codec.content_type,
                delivery_mode=delivery_mode,
                reply_to=self._worker,
                message_type=kind,
                app_id=APP_ID,
            )
        )
        return template


def _why_again(job: OutgoingJob) -> str:
    """Return why *job* is published again."""
    return f"{job.missing_takers[-1]} is missing" if job.missing_takers else "no worker has it"


def _job_route(address: str) -> tuple[str, str]:
    kind, _, name = address.partition(":")
    return topology.to_exchange(kind), name if name == ANY else address


def _reply_route(worker: str) -> tuple[str, str]:
    return topology.replies_exchange(worker.partition(":")[0]), worker
