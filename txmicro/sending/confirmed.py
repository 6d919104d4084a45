"""Messages on their way into the broker's keeping: published until it confirms.

A state machine without I/O. A parcel is *waiting* to be published, is *out* and unconfirmed, or *rests* because it
was lost on its way (a connection, a refusal, no confirm in time), to be published again under the same id. Then it
is stored, or has failed: stored twice is possible, stored never is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.errors import JobError, MessageTooLarge, NotStored
from txmicro.protocol.parcel import Forbidden, Parcel, Unroutable
from txmicro.util.clock import Clock, Timer

CONFIRM_TIMEOUT: Final = 30.0
"""Seconds without a confirm after which a parcel is published again."""

AGAIN: Final = 1.0
"""Seconds until a parcel that was lost on its way is published again."""

RETURNING: Final = 5.0
"""Seconds after a connection for which a queue that is missing may only be late: who declares it connects, too."""


class _Shipment:
    """A parcel, who waits for it, and which attempt is out."""

    __slots__ = ("due", "number", "parcel", "stored")

    def __init__(self, parcel: Parcel, stored: Deferred[None]) -> None:
        self.parcel = parcel
        self.stored = stored
        self.number = 0
        self.due = 0.0  # in the parcels' time: when it counts as lost (out), or is to be published (resting)


class ConfirmedPublisher:
    """What one worker has given to the broker and what is not confirmed. It begins paused.

    :param publish: publishes a parcel; fires when it is confirmed, fails with :class:`Unroutable`,
        :class:`MessageTooLarge`, or with anything else when nobody knows.
    :param resent: told of each parcel that is published once more.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        publish: Callable[[Parcel], Deferred[None]],
        resent: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._resent = resent
        self._waiting: OrderedDict[_Shipment, None] = OrderedDict()
        # All shipments wait equally long for their confirms, and rest equally long: the first is due first.
        self._out: OrderedDict[_Shipment, None] = OrderedDict()
        self._resting: OrderedDict[_Shipment, None] = OrderedDict()
        self._paused_at: float | None = clock.seconds()
        self._stood = 0.0
        self._since = clock.seconds()
        self._timer: Timer | None = None
        self._closed: JobError | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._out) + len(self._resting)

    def put(self, parcel: Parcel) -> Deferred[None]:
        """Have *parcel* stored.

        Fires with None when the broker has confirmed it; fails with :class:`NotStored` when there is no queue
        for it, with :class:`MessageTooLarge`, or with what :meth:`close` was given. Cancelling it stops the
        attempts; what is out may be stored all the same.
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
        """There is a new connection."""
        self._since = self._clock.seconds()

    def resume(self) -> None:
        """The connection takes messages: publish what waits, in order."""
        if self._paused_at is None or self._closed is not None:
            return
        self._stood += self._clock.seconds() - self._paused_at
        self._paused_at = None
        self._resting.update(self._waiting)
        self._waiting, self._resting = self._resting, OrderedDict()
        self._ship()

    def pause(self) -> None:
        """The connection takes no more, or is gone: publish nothing. The parcels' time stands still."""
        if self._paused_at is None:
            self._paused_at = self._clock.seconds()

    def close(self, error: JobError) -> None:
        """Fail all that is not stored with *error*, now and from now on."""
        self._closed = error
        self.pause()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        shipments = [*self._out, *self._resting, *self._waiting]
        for place in self._places():
            place.clear()
        for shipment in shipments:
            if not shipment.stored.called:  # cancelled by who heard of another one
                shipment.stored.errback(error)

    def _places(self) -> tuple[OrderedDict[_Shipment, None], ...]:
        return self._out, self._resting, self._waiting

    def _time(self) -> float:
        """The parcels' time: the clock's, without the pauses."""
        return (self._clock.seconds() if self._paused_at is None else self._paused_at) - self._stood

    def _ship(self) -> None:
        while self._paused_at is None and self._waiting:
            shipment, _ = self._waiting.popitem(last=False)
            shipment.number += 1
            if shipment.number > 1:
                self._resent()
            shipment.due = self._time() + CONFIRM_TIMEOUT
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
        if shipment not in self._out or shipment.number != number:
            return  # the word of an attempt that another one has followed
        if failure.check(Unroutable) and not self._may_be_late(shipment.parcel, failure):
            self._forget(shipment)
            shipment.stored.errback(NotStored(f"{failure.getErrorMessage()}: it is not stored"))
            return
        if failure.check(MessageTooLarge) and not shipment.parcel.patient:
            self._forget(shipment)
            shipment.stored.errback(failure)
            return
        self.log.debug("not confirmed, to be sent again: {reason}", reason=failure.getErrorMessage())
        del self._out[shipment]
        shipment.due = self._time() + AGAIN
        self._resting[shipment] = None
        self._watch()

    def _may_be_late(self, parcel: Parcel, failure: Failure) -> bool:
        early = self._clock.seconds() < self._since + RETURNING
        return parcel.patient or (early and not failure.check(Forbidden))

    def _cancelled(self, shipment: _Shipment) -> None:
        self._forget(shipment)

    def _forget(self, shipment: _Shipment) -> bool:
        for place in self._places():
            if shipment in place:
                del place[shipment]
                return True
        return False

    def _watch(self) -> None:
        if self._timer is None and self._paused_at is None and (self._out or self._resting):
            self._timer = self._clock.callLater(AGAIN, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._time()
        for place in (self._out, self._resting):
            for shipment in list(takewhile(lambda shipment: shipment.due <= now, place)):
                del place[shipment]
                self._waiting[shipment] = None
        self._ship()
