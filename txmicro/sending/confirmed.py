"""Publishes messages that the broker is to keep, again and again until it confirms them.

A state machine without I/O. A parcel is *waiting* to be published, *published* and not confirmed, or *retrying* because
an attempt failed: the connection was lost, the broker refused it, or no confirm came in time. It is published again
under the same id. In the end it is stored, or has failed. It may be stored twice, but is never lost.

A channel may refuse all that it publishes to a quorum queue, for as long as it lives. It asks the queue's leader at its
first publication, and RabbitMQ may name a leader that was just killed (seen with 3.10.8). Another channel finds the new
leader. So a channel that confirms nothing for a while is replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.errors import JobError, MessageTooLarge, NotStored
from txmicro.protocol.parcel import Forbidden, Parcel, Unroutable
from txmicro.util.clock import Clock, Timer
from txmicro.util.pausable_clock import PausableClock

CONFIRM_TIMEOUT: Final = 30.0
"""Seconds without a confirm after which a parcel is published again."""

SILENCE: Final = 5.0
"""Seconds without any confirm, while parcels are not confirmed, after which the channel is replaced."""

RETRY_AFTER: Final = 1.0
"""Seconds until a parcel is published again whose attempt failed."""

QUEUE_GRACE: Final = 5.0
"""Seconds after a connection in which a missing queue may still be declared: its worker is connecting, too."""


class _Unconfirmed:
    """A parcel that is not confirmed.

    :ivar stored: what :meth:`ConfirmedPublisher.store` returned.
    :ivar attempt: the number of the last attempt; 0: it was not published yet.
    :ivar due: in sending time: when the attempt has failed (published), or the next one follows (retrying).
    """

    __slots__ = ("attempt", "due", "parcel", "stored")

    def __init__(self, parcel: Parcel, stored: Deferred[None]) -> None:
        self.parcel = parcel
        self.stored = stored
        self.attempt = 0
        self.due = 0.0


class ParcelPublisher(Protocol):
    """Publishes parcels: the :class:`~txmicro.runtime.durable_lane.DurableLane`."""

    def publish(self, parcel: Parcel) -> Deferred[None]:
        """Publish *parcel* once.

        Fires with None when the broker has confirmed it. Fails with :class:`~txmicro.protocol.parcel.Unroutable`, with
        :class:`~txmicro.errors.MessageTooLarge`, or with another error when it is unknown whether the broker has it.
        """

    def record_resend(self, parcel: Parcel, copies: int) -> None:
        """Count *parcel*, which is published once more: the number *copies*, from 2 on."""

    def renew(self) -> None:
        """Replace the channel that does not confirm parcels. The attempts on it fail."""


class ConfirmedPublisher:
    """The parcels of one worker that the broker has not confirmed. It is paused at first."""

    log = Logger()

    def __init__(self, clock: Clock, publisher: ParcelPublisher) -> None:
        self._clock = clock
        self._time = PausableClock(clock, paused=True)
        self._publisher = publisher
        self._waiting: OrderedDict[_Unconfirmed, None] = OrderedDict()
        # All wait equally long for their confirms, and for their next attempts: the first is due first.
        self._published: OrderedDict[_Unconfirmed, None] = OrderedDict()
        self._retrying: OrderedDict[_Unconfirmed, None] = OrderedDict()
        self._connected_at = clock.seconds()
        self._last_sign = (
            0.0  # in sending time: when the channel confirmed or returned one, or there was none before
        )
        self._timer: Timer | None = None
        self._closed: JobError | None = None

    def __len__(self) -> int:
        """Return how many parcels are not confirmed."""
        return len(self._waiting) + len(self._published) + len(self._retrying)

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Have the broker keep *parcel*.

        Fires with None when the broker has confirmed it. Fails with :class:`~txmicro.errors.NotStored` when there is no
        queue for it, with :class:`~txmicro.errors.MessageTooLarge`, or with what :meth:`close` was given. Canceling it
        stops the attempts; what is published already may be stored all the same.
        """
        stored: Deferred[None] = Deferred(lambda _: self._cancelled(unconfirmed))
        unconfirmed = _Unconfirmed(parcel, stored)
        if not len(self):
            self._last_sign = self._time.seconds()
        if self._closed is not None:
            stored.errback(self._closed)
            return stored
        self._waiting[unconfirmed] = None
        self._publish_waiting()
        return stored

    def connected(self) -> None:
        """Note that there is a new connection."""
        self._connected_at = self._clock.seconds()

    def resume(self) -> None:
        """Publish what waits, in order: the connection takes messages."""
        if not self._time.paused or self._closed is not None:
            return
        self._time.resume()
        self._last_sign = self._time.seconds()
        self._retrying.update(self._waiting)
        self._waiting, self._retrying = self._retrying, OrderedDict()
        self._publish_waiting()

    def pause(self) -> None:
        """Publish nothing, and stop the sending time: the connection takes no messages, or is lost."""
        self._time.pause()

    def close(self, error: JobError) -> None:
        """Fail all that is not stored with *error*, now and from now on."""
        self._closed = error
        self.pause()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        everything = [*self._published, *self._retrying, *self._waiting]
        for state in self._states():
            state.clear()
        for unconfirmed in everything:
            if not unconfirmed.stored.called:  # canceled in a callback of another one
                unconfirmed.stored.errback(error)

    def _states(self) -> tuple[OrderedDict[_Unconfirmed, None], ...]:
        return self._published, self._retrying, self._waiting

    def _publish_waiting(self) -> None:
        while self._waiting and not self._time.paused:
            unconfirmed, _ = self._waiting.popitem(last=False)
            unconfirmed.attempt += 1
            if unconfirmed.attempt > 1:
                self._publisher.record_resend(unconfirmed.parcel, unconfirmed.attempt)
            unconfirmed.due = self._time.seconds() + CONFIRM_TIMEOUT
            self._published[unconfirmed] = None
            self._publisher.publish(unconfirmed.parcel).addCallbacks(
                self._confirmed, self._failed, (unconfirmed,), {}, (unconfirmed, unconfirmed.attempt)
            )
        self._run_timer()

    def _confirmed(self, _result: None, unconfirmed: _Unconfirmed) -> None:
        """Note that the broker has it, by this attempt or by an earlier one."""
        self._last_sign = self._time.seconds()
        if self._forget(unconfirmed):
            unconfirmed.stored.callback(None)

    def _failed(self, failure: Failure, unconfirmed: _Unconfirmed, attempt: int) -> None:
        if unconfirmed not in self._published or unconfirmed.attempt != attempt:
            return  # it belongs to an attempt that another one has followed
        if failure.check(Unroutable):
            self._last_sign = self._time.seconds()
        if failure.check(Unroutable) and not self._may_be_declared(unconfirmed.parcel, failure):
            self._forget(unconfirmed)
            unconfirmed.stored.errback(NotStored(f"{failure.getErrorMessage()}: it is not stored"))
            return
        if failure.check(MessageTooLarge) and not unconfirmed.parcel.patient:
            self._forget(unconfirmed)
            unconfirmed.stored.errback(failure)
            return
        self.log.debug(
            "{kind} {key} is not confirmed ({reason}); it is published again in {seconds:g} s",
            kind=unconfirmed.parcel.kind,
            key=unconfirmed.parcel.key,
            reason=failure.getErrorMessage(),
            seconds=RETRY_AFTER,
        )
        del self._published[unconfirmed]
        unconfirmed.due = self._time.seconds() + RETRY_AFTER
        self._retrying[unconfirmed] = None
        self._run_timer()

    def _may_be_declared(self, parcel: Parcel, failure: Failure) -> bool:
        """Return whether the queue that is missing may be declared soon."""
        early = self._clock.seconds() < self._connected_at + QUEUE_GRACE
        return parcel.patient or (early and not failure.check(Forbidden))

    def _cancelled(self, unconfirmed: _Unconfirmed) -> None:
        self._forget(unconfirmed)

    def _forget(self, unconfirmed: _Unconfirmed) -> bool:
        for state in self._states():
            if unconfirmed in state:
                del state[unconfirmed]
                return True
        return False

    def _run_timer(self) -> None:
        if self._timer is None and not self._time.paused and (self._published or self._retrying):
            self._timer = self._clock.callLater(RETRY_AFTER, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._time.seconds()
        late = next(iter(self._published), None)
        if (late is not None and late.due <= now) or (len(self) and now >= self._last_sign + SILENCE):
            self._renew(now)
        for state in (self._published, self._retrying):
            for unconfirmed in list(takewhile(lambda unconfirmed: unconfirmed.due <= now, state)):
                del state[unconfirmed]
                self._waiting[unconfirmed] = None
        self._publish_waiting()

    def _renew(self, now: float) -> None:
        self._last_sign = now
        self.log.warn(
            "{count} durable jobs or other messages to keep are not confirmed: the broker may have lost a queue's "
            "leader, or a queue is full; they are published again, on another channel",
            count=len(self),
            recurring=True,
        )
        self._publisher.renew()
