"""Durable jobs I took: attempts, retries, quarantine, and giving up.

A state machine without I/O. The broker owns a durable job until its delivery is acknowledged, and that happens
only when the next thing is safe: the handler has succeeded, or the broker has confirmed the message for the
next attempt, the quarantine, the dead letters or the next hop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from txmicro.errors import JobError, WorkerLost
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.durable_delivery import Delivery
from txmicro.protocol.failures import ErrorData, describe, from_header, to_header
from txmicro.protocol.job import Job
from txmicro.protocol.messages import JOB
from txmicro.protocol.parcel import Parcel

from .retry import RetryPolicy


class DurableIntake:
    """The durable jobs that one worker takes.

    :param kind: the worker's type.
    :param start: runs a job; one of the methods under "How it ended" must follow, also from within the call.
    :param room: whether there is room for one more job now, by all that runs in this worker.
    :param store: has the broker keep a parcel; fires when it does. Cancelling it stops the attempts.
    :param repeat: says again how the job of this key ended, to who awaits it.
    :param gave_up: told of a job that is given up unrun, and of the error that it ends with.
    :param time: Unix time, in seconds.
    :param slots: how many durable jobs run at once at most.
    :param memory: how many jobs that succeeded are remembered, by their keys.
    """

    def __init__(
        self,
        kind: str,
        policy: RetryPolicy,
        *,
        start: Callable[[Job], None],
        room: Callable[[], bool],
        store: Callable[[Parcel], Deferred[None]],
        repeat: Callable[[str], None],
        gave_up: Callable[[Job, JobError], None],
        time: Callable[[], float],
        slots: int,
        memory: int = 10_000,
    ) -> None:
        self._kind = kind
        self._policy = policy
        self._start = start
        self._room = room
        self._store = store
        self._repeat = repeat
        self._gave_up = gave_up
        self._time = time
        self._slots = slots
        self._memory = memory
        self._held: OrderedDict[str, Delivery] = OrderedDict()
        self._running: dict[str, Delivery] = {}
        self._leaving: dict[Delivery, Deferred[None]] = {}  # what the broker is to keep elsewhere
        self._succeeded: OrderedDict[str, None] = OrderedDict()
        self._starting = False
        self._draining = self._stopped = False
        self._drained: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many jobs run."""
        return len(self._running)

    @property
    def held(self) -> int:
        """How many jobs were delivered and wait for room."""
        return len(self._held)

    # What the broker brings:

    def arrived(self, delivery: Delivery) -> None:
        """Take a delivery: run it, hold it, or put it where it belongs."""
        known = self._known(delivery)
        if delivery.job is None:
            self._bury(delivery, durable_headers.UNREADABLE, durable_headers.lasting(delivery.headers))
        elif known is not None:
            known.join(delivery)
        elif delivery.key in self._succeeded:
            delivery.settle(True)
            self._repeat(delivery.key)
        elif self._stopped:
            return  # the channel is about to close, and then it goes back
        elif delivery.attempt > 1 and self._left(delivery) == 0:  # the first wait is for the broker to bound
            self._gave_up(delivery.job, from_header(delivery.headers.get(durable_headers.FAILURE)))
            self._bury(delivery, durable_headers.EXPIRED, durable_headers.lasting(delivery.headers))
        elif delivery.deadly:
            self._bury_deadly(delivery, delivery.job)
        elif delivery.redelivered and not delivery.quarantined:
            self._put(
                delivery, topology.QUARANTINE, durable_headers.lasting(delivery.headers), self._left(delivery)
            )
        else:
            self._held[delivery.key] = delivery
            self.start_held()

    def _known(self, delivery: Delivery) -> Delivery | None:
        """The same job, if it is here: the channel was lost amid the run, or the job was stored twice.

        Where it is on its way to another queue, what arrives may be what was put there, which must not be
        acknowledged with it: so only the very message counts.
        """
        if delivery.job is None:  # its key is only what somebody wrote there
            return None
        here = self._running.get(delivery.key) or self._held.get(delivery.key)
        return here or next((known for known in self._leaving if delivery.is_again(known)), None)

    def reset(self) -> None:
        """The channel is gone, and its deliveries with it: what runs goes on, what is held comes again."""
        self._held.clear()
        for delivery in [*self._running.values(), *self._leaving]:
            delivery.settle = _settle_nothing
        self._check_drained()

    def start_held(self) -> None:
        """Start what is held, while there is room."""
        if self._starting:  # a job that ended while it was started: the loop below goes on
            return
        self._starting = True
        try:
            while self._held and len(self._running) < self._slots and self._room():
                key, delivery = self._held.popitem(last=False)
                self._running[key] = delivery
                job: Any = delivery.job  # what is held could be read
                job.redelivered = delivery.redelivered or delivery.quarantined
                self._start(job)
        finally:
            self._starting = False

    # Stopping:

    def drain(self) -> Deferred[None]:
        """Nothing more is consumed: finish what is here, also what is held.

        Fires when nothing is left; cancelling stops the wait.
        """
        self._draining = True
        waiter: Deferred[None] = Deferred(self._drained.remove)
        self._drained.append(waiter)
        self._check_drained()
        return waiter

    def give_back(self) -> None:
        """There is no more time: what is held, and what the broker has not confirmed, goes back to it.

        What runs is for others to cancel.
        """
        self._stopped = True
        held, self._held = self._held, OrderedDict()
        for delivery in held.values():
            delivery.settle(False)
        for storing in list(self._leaving.values()):
            storing.cancel()
        self._check_drained()

    def _check_drained(self) -> None:
        if self._draining and not (self._held or self._running or self._leaving):
            self._stopped = True
            waiting, self._drained = self._drained, []
            for waiter in waiting:
                waiter.callback(None)

    # How it ended:

    def succeeded(self, job: Job) -> None:
        """The handler has returned, and nothing follows."""
        self._succeeded[job.key] = None
        if len(self._succeeded) > self._memory:
            self._succeeded.popitem(last=False)
        self._settle(self._running.pop(job.key), True)

    def followed(self, job: Job, parcel: Parcel) -> Deferred[None]:
        """The handler has returned, and *parcel* is the next hop.

        Fires when that is stored, and the job has ended. Fails with :class:`~txmicro.errors.NotStored` when it
        cannot be, and with something else when there is no more time: the job then still runs.
        """
        delivery = self._running[job.key]
        kept = durable_headers.lasting(delivery.headers)
        parcel.headers |= {
            name: kept[name]
            for name in (durable_headers.ATTEMPTS, durable_headers.EXPIRES, durable_headers.STORED)
            if name in kept
        }
        parcel.expiration = self._left(delivery)
        return self._send(delivery, parcel).addCallback(lambda _: self.succeeded(job))

    def failed(self, job: Job, error: BaseException, failure: ErrorData) -> bool:
        """The handler has failed; *failure* describes *error*. Returns whether that was the last attempt."""
        delivery = self._running.pop(job.key)
        headers = {
            **durable_headers.lasting(delivery.headers),
            durable_headers.FAILURE: to_header(failure),
            durable_headers.FAILED: self._now_ms(),
        }
        step = self._policy.next(delivery.attempt, delivery.attempts, error)
        left = self._left(delivery)
        if step is None:
            self._bury(
                delivery,
                durable_headers.EXHAUSTED if self._policy.retryable(error) else durable_headers.NOT_RETRYABLE,
                headers,
            )
        elif left is not None and left <= step * 1000:
            self._bury(delivery, durable_headers.EXPIRED, headers)
        else:
            self._put(
                delivery, topology.retry_key(step), {**headers, durable_headers.ATTEMPT: delivery.attempt + 1}
            )
            return False
        return True

    def stopped(self, job: Job) -> None:
        """The handler was cancelled because the worker stops: that was no attempt, the job goes back."""
        self._settle(self._running.pop(job.key), False)

    # How:

    def _bury_deadly(self, delivery: Delivery, job: Job) -> None:
        """The broker would do it at the next return, and tell nobody."""
        error = WorkerLost("each worker that ran it is gone: it may be what ends them")
        self._gave_up(job, error)
        failure = to_header(describe(error, None))
        self._bury(
            delivery,
            durable_headers.DEATHS,
            {
                **durable_headers.lasting(delivery.headers),
                durable_headers.FAILURE: failure,
                durable_headers.FAILED: self._now_ms(),
            },
        )

    def _bury(self, delivery: Delivery, reason: str, headers: dict[str, Any]) -> None:
        """Put a job to the dead letters."""
        self._put(
            delivery,
            topology.DEAD,
            {**headers, durable_headers.REASON: reason, durable_headers.ATTEMPT: delivery.attempt},
        )

    def _put(
        self, delivery: Delivery, where: str, headers: dict[str, Any], expiration: int | None = None
    ) -> None:
        """Have the broker keep a job in another of the type's queues, and then acknowledge it."""
        exchange = topology.durable_exchange(self._kind)
        parcel = Parcel(
            exchange,
            where,
            JOB,
            delivery.key,
            delivery.body,
            headers,
            expiration,
            delivery.content_type,
            patient=True,
        )
        self._send(delivery, parcel).addCallbacks(
            lambda _: self._settle(delivery, True), lambda _: self._settle(delivery, False)
        )
        self.start_held()

    def _send(self, delivery: Delivery, parcel: Parcel) -> Deferred[None]:
        def ended(result: Any) -> Any:
            del self._leaving[delivery]
            return result

        self._leaving[delivery] = storing = self._store(parcel)
        storing.addBoth(ended)
        if self._stopped:
            storing.cancel()
        return storing

    def _settle(self, delivery: Delivery, done: bool) -> None:
        delivery.settle(done)
        self.start_held()
        self._check_drained()

    def _left(self, delivery: Delivery) -> int | None:
        """Milliseconds until it expires, never negative; None: it does not."""
        expires = durable_headers.number(delivery.headers, durable_headers.EXPIRES, 0)
        return min(max(0, expires - self._now_ms()), durable_headers.LONGEST_TTL) if expires else None

    def _now_ms(self) -> int:
        return int(self._time() * 1000)


def _settle_nothing(_: bool) -> None:
    """Stand in for the settling of a delivery whose channel is gone."""
