"""How a worker's messages are written and published.

While its place on the bus does not stand, replies, notifications and events are dropped: whoever needs them
asks again. So is what the broker's permissions forbid to publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from txmicro.amqp.errors import AccessRefused, Returned
from txmicro.amqp.properties import Properties, PropertiesTemplate
from txmicro.errors import BusClosed, MessageTooLarge, NotPermitted
from txmicro.metrics import ServiceMetrics
from txmicro.protocol import messages, topology
from txmicro.protocol.address import ANY
from txmicro.protocol.failures import describe
from txmicro.protocol.job import outcome_body
from txmicro.protocol.notifications import notification_kind
from txmicro.protocol.parcel import Forbidden, Parcel, Unroutable

from .connections import Bus
from .session import Session

APP_ID: Final = "txmicro"

_EXPIRATION_MAX: Final = 2**32 - 1  # of RabbitMQ: more closes the channel


class Publisher:
    """Writes the messages of one worker.

    :param worker: its id.
    :param returned: told the kind and the key of a message that found no queue.
    :param refused: told the kind and the key of a message that the broker does not take, and why; no key: its
        sender knows already.
    :ivar session: where to publish; None: nothing stands.
    """

    def __init__(
        self,
        bus: Bus,
        worker: str,
        metrics: ServiceMetrics,
        returned: Callable[[str, str], None],
        refused: Callable[[str, str, NotPermitted | MessageTooLarge], None],
    ) -> None:
        self.session: Session | None = None
        self._worker = worker
        self._metrics = metrics
        self._returned = returned
        self._refused = refused
        self._codec = bus.codec
        self._limit = bus.size_limit
        self._time = bus.ids.time
        self._forms: dict[tuple[str, int, str | None], PropertiesTemplate] = {}

    def encode(self, body: dict[str, Any]) -> bytes:
        """Write a body in this bus's format; raises EncodeError, or MessageTooLarge over ``max_message``.

        So it does over the limit of the broker, once that is known.
        """
        data = self._codec.encode(body)
        if len(data) > self._limit.ordinary:
            self._limit.check(len(data))
        return data

    def reencode(self, body: bytes, changes: dict[str, Any]) -> bytes:
        """A body of ours with some of its fields changed."""
        return self.encode({**self._codec.decode(body), **changes})

    def send(self, address: str, key: str, body: bytes, life: int, *, traceparent: str | None = None) -> None:
        """Publish one interactive copy of a job, which the broker drops after *life* ms.

        One that finds no queue comes back to ``returned``.
        """
        kind, _, name = address.partition(":")
        headers = {"traceparent": traceparent} if traceparent else None
        expiration = str(min(life, _EXPIRATION_MAX))
        properties = self._properties(messages.JOB, key, expiration=expiration, headers=headers)
        routing_key = name if name == ANY else address
        self._address(topology.to_exchange(kind), routing_key, messages.JOB, key, properties, body)

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Have the broker keep a message.

        Fires when it is confirmed; fails with :class:`~txmicro.protocol.parcel.Unroutable` when there is
        no queue for it,
        with :class:`~txmicro.errors.MessageTooLarge`, and with anything else when nobody knows.
        """
        return Deferred.fromCoroutine(self._store(parcel))

    async def _store(self, parcel: Parcel) -> None:
        session = self.session
        if session is None:
            raise BusClosed("nothing stands")
        try:
            there = session.knows(parcel.exchange) or await session.exists(parcel.exchange)
        except AccessRefused as error:
            self._refused(parcel.kind, "", NotPermitted(str(error)))
            raise Forbidden(str(error)) from error
        if not there:
            raise Unroutable(f"there is no {parcel.exchange}, as no worker of that type was ever here")
        self._metrics.record_message_sent(parcel.kind)
        properties = self._properties(
            parcel.kind,
            parcel.key,
            expiration=None if parcel.expiration is None else str(parcel.expiration),
            headers=parcel.headers or None,
            delivery_mode=2,
            content_type=parcel.content_type,
        )
        store = session.store if len(parcel.body) <= self._limit.ordinary else session.large.publish
        try:
            await store(parcel.exchange, parcel.routing_key, properties, parcel.body, parcel.key)
        except Returned as error:
            raise Unroutable(str(error)) from error

    def reply(self, worker: str, kind: str, key: str, body: bytes) -> None:
        """Publish a control message to *worker*'s inbox; one that finds no inbox comes back to ``returned``.

        Instead of a result that is too large for the broker *worker* is told that it is.
        """
        exchange = topology.replies_exchange(worker.partition(":")[0])
        self._address(exchange, worker, kind, key, self._properties(kind, key), body)

    async def reaches(self, worker: str) -> bool:
        """Return whether *worker* has an inbox, whatever its queue is called: publish a message that says nothing.

        Raises what :meth:`store` fails with, :class:`~txmicro.protocol.parcel.Unroutable` excepted.
        """
        body = self.encode({"worker": self._worker, "keys": []})
        exchange = topology.replies_exchange(worker.partition(":")[0])
        try:
            await self.store(Parcel(exchange, worker, messages.HEARD, worker, body))
        except Forbidden:
            raise
        except Unroutable:
            return False
        return True

    def notify(self, topic: str, body: dict[str, Any]) -> None:
        """Publish a notification."""
        self._broadcast(topology.NOTIFICATIONS, topic, notification_kind(topic), self.encode(body))

    def emit(self, topic: str, body: bytes) -> None:
        """Publish an event."""
        self._broadcast(topology.EVENTS, topic, messages.EVENT, body)

    def flush(self) -> Deferred[Any]:
        """Hand what was published in this turn to the transport now.

        Fires when also that has left which waited for word of its exchange; does not fail.
        """
        session = self.session
        if session is None:
            return succeed(None)
        return session.settled().addCallback(lambda _: session.publishing.flush())

    def _broadcast(self, exchange: str, topic: str, kind: str, body: bytes) -> None:
        if self.session is not None:
            self._publish(self.session, exchange, topic, kind, "", self._properties(kind, ""), body, False)

    def _address(
        self, exchange: str, routing_key: str, kind: str, key: str, properties: bytes, body: bytes
    ) -> None:
        """Publish what must find a queue, on an exchange that may not be there."""
        session = self.session
        if session is None:
            return
        if session.knows(exchange):
            self._publish(session, exchange, routing_key, kind, key, properties, body, True)
            return

        def known(exists: bool) -> None:
            if exists and session is self.session:
                self._address(exchange, routing_key, kind, key, properties, body)
            else:
                self._returned(kind, key)

        def unknown(failure: Failure) -> None:
            if isinstance(failure.value, AccessRefused):
                self._refused(kind, key, NotPermitted(str(failure.value)))

        session.exists(exchange).addCallbacks(known, unknown)

    def _publish(
        self,
        session: Session,
        exchange: str,
        routing_key: str,
        kind: str,
        key: str,
        properties: bytes,
        body: bytes,
        mandatory: bool,
    ) -> None:
        self._metrics.record_message_sent(kind)
        if len(body) <= self._limit.ordinary:
            session.publish(exchange, routing_key, properties, body, mandatory)
        elif not session.overflows(len(body)):
            publishing = session.large.publish(exchange, routing_key, properties, body, key, mandatory)
            publishing.addErrback(self._not_published, routing_key, kind, key)

    def _not_published(self, failure: Failure, to: str, kind: str, key: str) -> None:
        error = failure.value
        if isinstance(error, Returned):
            self._returned(kind, key)
        elif isinstance(error, MessageTooLarge):
            self._refused(kind, key, error)
            if kind == messages.RESULT:
                outcome = outcome_body(key, self._worker, {"failure": describe(error, self._worker)})
                self.reply(to, messages.FAILURE, key, self.encode(outcome))
        # Anything else came with the channel, and is asked for again by who needs it.

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
        form = self._forms.get((kind, delivery_mode, content_type))
        if form is None:
            form = self._form(kind, delivery_mode, content_type)
        return form.fill(key, int(self._time()), expiration, headers)

    def _form(self, kind: str, delivery_mode: int, content_type: str | None) -> PropertiesTemplate:
        if len(self._forms) >= 100:  # a stranger's content types, passed on with what cannot be read
            self._forms.clear()
        form = self._forms[kind, delivery_mode, content_type] = PropertiesTemplate(
            Properties(
                content_type=content_type or self._codec.content_type,
                delivery_mode=delivery_mode,
                reply_to=self._worker,
                message_type=kind,
                app_id=APP_ID,
            )
        )
        return form
