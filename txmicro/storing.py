"""Messages on their way into the broker's keeping: published until it confirms.

A state machine without I/O. A parcel is *waiting* for a session, is *out* and unconfirmed, and is then stored
or has failed. What is lost on the way (a connection, a refusal, no confirm in time) is published again under
the same id: stored twice is possible, stored never is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .clock import Clock, Timer
from .errors import JobError, NotStored, TxmicroError

CONFIRM_TIMEOUT: Final = 30.0
"""Seconds without a confirm after which a parcel is published again."""

AGAIN: Final = 1.0
"""Seconds until a parcel that the broker refused is published again."""


class Unroutable(TxmicroError):
    """What ``publish`` fails with when the broker has no queue for a parcel."""


@dataclass(slots=True, eq=False)
class Parcel:
    """A message for the broker to keep.

    :ivar kind: the message's type. :ivar key: its id, the same at every attempt.
    :ivar expiration: milliseconds that it may stay in the queue; None: for ever.
    :ivar content_type: of a body that another process wrote; None: this process's format.
    """

    exchange: str
    routing_key: str
    kind: str
    key: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    expiration: int | None = None
    content_type: str | None = None


class _Shipment:
    """A parcel, who waits for it, and which attempt is out."""

    __slots__ = ("due", "number", "parcel", "stored")

    def __init__(self, parcel: Parcel, stored: Deferred[None]) -> None:
        self.parcel = parcel
        self.stored = stored
        self.number = 0
        self.due = 0.0


class Storing:
    """What one worker has given to the broker and what is not confirmed.

    :param publish: publishes a parcel; fires when it is confirmed, fails with :class:`Unroutable`, or with
        anything else when nobody knows.
    """

    log = Logger()

    def __init__(self, clock: Clock, publish: Callable[[Parcel], Deferred[None]]) -> None:
        self._clock = clock
        self._publish = publish
        self._up = False
        self._waiting: OrderedDict[_Shipment, None] = OrderedDict()
        # All shipments wait equally long for their confirms, so the first is due first.
        self._out: OrderedDict[_Shipment, None] = OrderedDict()
        self._timer: Timer | None = None
        self._closed: JobError | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._out)

    def put(self, parcel: Parcel) -> Deferred[None]:
        """Have *parcel* stored.

        Fires with None when the broker has confirmed it; fails with :class:`NotStored` when there is no queue
        for it, or with what :meth:`close` was given. Cancelling it stops the attempts; what is out may be
        stored all the same.
        """
        stored: Deferred[None] = Deferred(lambda _: self._cancelled(shipment))
        shipment = _Shipment(parcel, stored)
        if self._closed is not None:
            stored.errback(self._closed)
            return stored
        self._waiting[shipment] = None
        self._ship()
        return stored

    def up(self) -> None:
        """A session stands: publish what waits, in order."""
        self._up = True
        self._ship()

    def down(self) -> None:
        """Nothing can be published; what is out fails by itself."""
        self._up = False

    def close(self, error: JobError) -> None:
        """Fail all that is not stored with *error*, now and from now on."""
        self._closed = error
        self._up = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        shipments = [*self._out, *self._waiting]
        self._out.clear()
        self._waiting.clear()
        for shipment in shipments:
            shipment.stored.errback(error)

    def _ship(self) -> None:
        while self._up and self._waiting:
            shipment, _ = self._waiting.popitem(last=False)
            shipment.number += 1
            shipment.due = self._clock.seconds() + CONFIRM_TIMEOUT
            self._out[shipment] = None
            number = shipment.number
            self._publish(shipment.parcel).addCallbacks(
                self._confirmed, self._lost, (shipment,), {}, (shipment, number)
            )
        self._watch()

    def _confirmed(self, _result: None, shipment: _Shipment) -> None:
        """The broker has it, by this attempt or by one before it."""
        if self._forget(shipment):
            shipment.stored.callback(None)

    def _lost(self, failure: Failure, shipment: _Shipment, number: int) -> None:
        if failure.check(Unroutable):
            if self._forget(shipment):
                shipment.stored.errback(NotStored(f"{failure.getErrorMessage()}: it is not stored"))
        elif shipment in self._out and shipment.number == number and not failure.check(CancelledError):
            self.log.debug("not confirmed, to be sent again: {reason}", reason=failure.getErrorMessage())
            shipment.due = self._clock.seconds() + AGAIN
            self._out.move_to_end(shipment, last=False)
            self._watch()

    def _cancelled(self, shipment: _Shipment) -> None:
        self._forget(shipment)

    def _forget(self, shipment: _Shipment) -> bool:
        for shipments in (self._out, self._waiting):
            if shipment in shipments:
                del shipments[shipment]
                return True
        return False

    def _watch(self) -> None:
        if self._timer is None and self._out:
            self._timer = self._clock.callLater(AGAIN, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for shipment in list(takewhile(lambda shipment: shipment.due <= now, self._out)):
            del self._out[shipment]
            self._waiting[shipment] = None
        self._ship()
