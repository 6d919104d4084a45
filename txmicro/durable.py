"""Durable jobs I took: attempts, retries, quarantine, and giving up.

A state machine without I/O. The broker owns a durable job until its delivery is acknowledged, and that happens
only when the next thing is safe: the handler has succeeded, or the broker has confirmed the message for the
next attempt, the quarantine, the dead letters or the next hop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from . import topology
from .errors import Failure
from .messages import JOB, Job
from .retry import RetryPolicy
from .storing import Parcel

# Headers of a durable job's message.
ATTEMPT: Final = "txmicro-attempt"  # 1 at first
ATTEMPTS: Final = "txmicro-attempts"  # how many its sender wants, if it said so
EXPIRES: Final = "txmicro-expires"  # Unix time in ms after which it is not started any more
STORED: Final = "txmicro-stored"  # Unix time in ms at which it was sent first
FAILURE: Final = "txmicro-failure"  # the last failure: type, message, retryable, worker
REASON: Final = "txmicro-reason"  # why it was given up
FAILED: Final = "txmicro-failed"  # Unix time in ms of the last failure

# Why a job was given up; besides, the broker says ``delivery_limit`` and ``expired`` in ``x-death``.
EXHAUSTED: Final = "attempts"
NOT_RETRYABLE: Final = "failed"
UNREADABLE: Final = "unreadable"
EXPIRED: Final = "expired"


@dataclass(slots=True, eq=False)
class Delivery:
    """A durable job's message, as the broker delivered it.

    :ivar job: what is in it; None: it cannot be read.
    :ivar settle: True acknowledges it to the broker, False gives it back. Called at most once.
    :ivar quarantined: it comes from the quarantine.
    """

    job: Job | None
    key: str
    body: bytes
    content_type: str | None
    settle: Callable[[bool], None]
    headers: dict[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    quarantined: bool = False

    @property
    def attempt(self) -> int:
        """Which attempt this is; 1 is the first."""
        return max(1, number(self.headers, ATTEMPT, 1))

    @property
    def attempts(self) -> int | None:
        """How many attempts the sender wants; None: it did not say."""
        return number(self.headers, ATTEMPTS, 0) or None


def number(headers: dict[str, Any], name: str, default: int) -> int:
    """A header that is a whole number, whatever a stranger wrote there."""
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


class DurableIntake:
    """The durable jobs that one worker takes.

    :param kind: the worker's type.
    :param start: runs a job; one of the methods under "How it ended" must follow, also from within the call.
    :param room: whether there is room for one more job now, by all that runs in this worker.
    :param store: has the broker keep a parcel; fires when it does.
    :param time: Unix time, in seconds.
    :param slots: how many durable jobs run at once at most.
    :param memory: how many jobs that succeeded are remembered.
    """

    def __init__(
        self,
        kind: str,
        policy: RetryPolicy,
        *,
        start: Callable[[Job], None],
        room: Callable[[], bool],
        store: Callable[[Parcel], Deferred[None]],
        time: Callable[[], float],
        slots: int,
        memory: int = 10_000,
    ) -> None:
        self._kind = kind
        self._policy = policy
        self._start = start
        self._room = room
        self._store = store
        self._time = time
        self._slots = slots
        self._memory = memory
        self._held: OrderedDict[str, Delivery] = OrderedDict()
        self._running: dict[str, Delivery] = {}
        self._succeeded: OrderedDict[str, None] = OrderedDict()
        self._starting = False
        self._draining = False
        self._drained: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many jobs run, or have run and are being put away."""
        return len(self._running)

    def __contains__(self, key: object) -> bool:
        return key in self._running

    # What the broker brings:

    def arrived(self, delivery: Delivery) -> None:
        """Take a delivery: run it, hold it, or put it where it belongs."""
        key = delivery.key
        if delivery.job is None:
            self.bury(delivery, UNREADABLE)
        elif key in self._running:  # its channel was lost amid the run: this is the delivery to acknowledge
            self._running[key].settle = delivery.settle
        elif key in self._succeeded:
            delivery.settle(True)
        elif self._left(delivery) == 0:
            self.bury(delivery, EXPIRED)
        elif delivery.redelivered and not delivery.quarantined:
            self._put(delivery, topology.QUARANTINE, delivery.headers)
        elif self._draining:
            delivery.settle(False)
        else:
            self._held[key] = delivery
            self.start_held()

    def reset(self) -> None:
        """The channel is gone, and its deliveries with it: what runs goes on, what is held comes again."""
        self._held.clear()
        for delivery in self._running.values():
            delivery.settle = _settle_nothing

    def start_held(self) -> None:
        """Start what is held, while there is room."""
        if self._starting:  # a job that ended while it was started: the loop below goes on
            return
        self._starting = True
        try:
            while self._held and len(self._running) < self._slots and self._room():
                key, delivery = self._held.popitem(last=False)
                self._running[key] = delivery
                if delivery.job is not None:
                    self._start(delivery.job)
        finally:
            self._starting = False

    def drain(self) -> Deferred[None]:
        """Take nothing more, give back what is held. Fires when nothing runs; cancelling stops the wait."""
        self._draining = True
        held, self._held = self._held, OrderedDict()
        for delivery in held.values():
            delivery.settle(False)
        if not self._running:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._drained.remove)
        self._drained.append(waiter)
        return waiter

    # How it ended:

    def succeeded(self, job: Job) -> None:
        """The handler has returned, and nothing follows."""
        self._succeeded[job.key] = None
        if len(self._succeeded) > self._memory:
            self._succeeded.popitem(last=False)
        self._running[job.key].settle(True)
        self._ended(job.key)

    def followed(self, job: Job, parcel: Parcel) -> None:
        """The handler has returned, and *parcel* is the next hop."""
        delivery = self._running[job.key]
        parcel.headers = {**self._lasting(delivery), **parcel.headers}
        parcel.expiration = self._left(delivery)
        self._hand_over(delivery, parcel)

    def failed(self, job: Job, error: BaseException, failure: Failure) -> bool:
        """The handler has failed; *failure* describes *error*. Returns whether that was the last attempt."""
        delivery = self._running[job.key]
        step = self._policy.next(delivery.attempt, delivery.attempts, error)
        headers = {**self._lasting(delivery), FAILURE: dict(failure), FAILED: self._now_ms()}
        if step is None:
            final = not self._policy.retryable(error)
            self.bury(delivery, NOT_RETRYABLE if final else EXHAUSTED, headers)
            return True
        headers[ATTEMPT] = delivery.attempt + 1
        self._put(delivery, topology.retry_key(step), headers)
        return False

    def stopped(self, job: Job) -> None:
        """The handler was cancelled because the worker stops: that was no attempt, the job goes back."""
        self._running[job.key].settle(False)
        self._ended(job.key)

    def bury(self, delivery: Delivery, reason: str, headers: dict[str, Any] | None = None) -> None:
        """Put a job to the dead letters."""
        headers = self._lasting(delivery) if headers is None else headers
        self._put(delivery, topology.DEAD, {**headers, REASON: reason, ATTEMPT: delivery.attempt})

    # How:

    def _put(self, delivery: Delivery, where: str, headers: dict[str, Any]) -> None:
        lasts = where == topology.DEAD
        parcel = Parcel(
            topology.durable_exchange(self._kind),
            where,
            JOB,
            delivery.key,
            delivery.body,
            headers,
            None if lasts else self._left(delivery),
            delivery.content_type,
        )
        self._hand_over(delivery, parcel)

    def _hand_over(self, delivery: Delivery, parcel: Parcel) -> None:
        def stored(_: Any) -> None:
            delivery.settle(True)
            self._ended(delivery.key)

        def not_stored(_: Any) -> None:
            delivery.settle(False)
            self._ended(delivery.key)

        self._store(parcel).addCallbacks(stored, not_stored)

    def _ended(self, key: str) -> None:
        self._running.pop(key, None)
        self.start_held()
        if not self._running:
            waiting, self._drained = self._drained, []
            for waiter in waiting:
                waiter.callback(None)

    def _left(self, delivery: Delivery) -> int | None:
        """Milliseconds until it expires, never negative; None: it does not."""
        expires = number(delivery.headers, EXPIRES, 0)
        return max(0, expires - self._now_ms()) if expires else None

    def _now_ms(self) -> int:
        return int(self._time() * 1000)

    @staticmethod
    def _lasting(delivery: Delivery) -> dict[str, Any]:
        """The headers that stay with a job: ours; the broker's ``x-`` ones start anew."""
        return {name: value for name, value in delivery.headers.items() if not name.startswith("x-")}


def _settle_nothing(_: bool) -> None:
    """Stand in for the settling of a delivery whose channel is gone."""
