"""The durable jobs that a worker takes: attempts, retries, quarantine, and giving up.

A state machine without I/O. The broker owns a durable job until its delivery is acknowledged. That happens only when
the next owner is certain: the handler has succeeded, or the broker has confirmed the message for the next attempt, the
quarantine, the dead letters or the next hop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txmicro.errors import JobError, WorkerLost
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.durable_message import DurableMessage
from txmicro.protocol.failures import ErrorData, describe, from_header, to_header
from txmicro.protocol.job import Job
from txmicro.protocol.messages import JOB
from txmicro.protocol.parcel import Parcel
from txmicro.util.waiters import Waiters

from .retry import RetryPolicy
from .slots import Slots


class Lane(Protocol):
    """Does what the intake decides: the :class:`~txmicro.runtime.durable_lane.DurableLane`."""

    def start(self, job: Job) -> None:
        """Run *job*. One of the methods under "How a job ended" must follow, also from within this call."""

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Publish *parcel* until the broker confirms it.

        Fires then with None. Fails with :class:`~txmicro.errors.NotStored` when no queue takes it. Canceling it ends
        the attempts.
        """

    def repeat(self, key: str) -> None:
        """Tell the job's origin again how the job of this key ended."""

    def gave_up(self, job: Job, error: JobError) -> None:
        """Tell the job's origin that the job ended, unrun, with *error*."""


class DurableIntake:
    """The durable jobs that one worker takes.

    :param kind: the worker's type.
    :param slots: counts the jobs of both lanes.
    :param most: how many durable jobs run at once at most.
    :param time: returns the Unix time, in seconds.
    :param memory: how many jobs that succeeded are remembered, by their keys.
    """

    def __init__(
        self,
        kind: str,
        policy: RetryPolicy,
        slots: Slots,
        lane: Lane,
        *,
        most: int,
        time: Callable[[], float],
        memory: int = 10_000,
    ) -> None:
        self._kind = kind
        self._policy = policy
        self._slots = slots
        self._lane = lane
        self._most = most
        self._time = time
        self._memory = memory
        self._held: OrderedDict[str, DurableMessage] = OrderedDict()
        self._running: dict[str, DurableMessage] = {}
        self._leaving: dict[
            DurableMessage, Deferred[None]
        ] = {}  # the broker is to keep these in another queue
        self._succeeded: OrderedDict[str, None] = OrderedDict()
        self._starting = False
        self._draining = self._stopped = False
        self._drained = Waiters()

    def __len__(self) -> int:
        """Return how many jobs run."""
        return len(self._running)

    @property
    def held(self) -> int:
        """How many jobs were delivered and wait for a slot."""
        return len(self._held)

    # Deliveries of the broker:

    def arrived(self, message: DurableMessage) -> None:
        """Take a message: run its job, hold it, or move it to another queue."""
        known = self._known(message)
        if message.job is None:
            self._bury(message, durable_headers.UNREADABLE, durable_headers.lasting(message.headers))
        elif known is not None:
            known.join(message)
        elif message.key in self._succeeded:
            message.ack()
            self._lane.repeat(message.key)
        elif self._stopped:
            return  # the channel is about to be closed, which returns the message to the broker
        elif message.attempt > 1 and self._left(message) == 0:  # the broker itself bounds the first wait
            self._lane.gave_up(message.job, from_header(message.headers.get(durable_headers.FAILURE)))
            self._bury(message, durable_headers.EXPIRED, durable_headers.lasting(message.headers))
        elif message.deadly:
            self._bury_deadly(message, message.job)
        elif message.redelivered and not message.quarantined:
            self._move(
                message, topology.QUARANTINE, durable_headers.lasting(message.headers), self._left(message)
            )
        else:
            self._held[message.key] = message
            self.start_held()

    def _known(self, message: DurableMessage) -> DurableMessage | None:
        """Return the message of the same job that is here: its channel was lost during the run, or it was stored twice.

        A message that is being moved counts only if it was delivered again itself. Otherwise the new one may be what
        was moved, which must not be acknowledged with it.
        """
        if message.job is None:  # its key is not verified
            return None
        here = self._running.get(message.key) or self._held.get(message.key)
        return here or next((known for known in self._leaving if message.is_again(known)), None)

    def reset(self) -> None:
        """Forget what is held: the channel is closed, and the broker delivers it again. Running jobs go on."""
        self._held.clear()
        self._check_drained()

    def start_held(self) -> None:
        """Start what is held, while a slot is free."""
        if self._starting:  # a job ended while it was started; the loop below goes on
            return
        self._starting = True
        try:
            while self._held and len(self._running) < self._most and self._slots.free:
                key, message = self._held.popitem(last=False)
                self._running[key] = message
                self._slots.running += 1
                job: Any = message.job  # not None: what is held could be read
                job.redelivered = message.redelivered or message.quarantined
                self._lane.start(job)
        finally:
            self._starting = False

    # Stopping:

    def drain(self) -> Deferred[None]:
        """Finish what is here, also what is held; the caller has ended the consumers.

        Return a new Deferred, which fires with None when nothing is left, and does not fail. Canceling it stops this
        wait and nothing else.
        """
        self._draining = True
        waiter = self._drained.wait()
        self._check_drained()
        return waiter

    def give_back(self) -> None:
        """Return to the broker what is held, and what it has not confirmed. The caller cancels what runs."""
        self._stopped = True
        held, self._held = self._held, OrderedDict()
        for message in held.values():
            message.requeue()
        for storing in list(self._leaving.values()):
            storing.cancel()
        self._check_drained()

    def _check_drained(self) -> None:
        if self._draining and not (self._held or self._running or self._leaving):
            self._stopped = True
            self._drained.fire()

    # How a job ended:

    def succeeded(self, job: Job) -> None:
        """Acknowledge a job whose handler has returned, and after which no hop follows."""
        self._succeeded[job.key] = None
        if len(self._succeeded) > self._memory:
            self._succeeded.popitem(last=False)
        self._settle(self._end(job), True)

    def followed(self, job: Job, parcel: Parcel) -> Deferred[None]:
        """Store *parcel*, the next hop of a job whose handler has returned, and acknowledge the job then.

        Fires with None when that is done. Fails with :class:`~txmicro.errors.NotStored` when no queue takes the
        parcel, and with another error when the worker has no more time. The job still runs then.
        """
        message = self._running[job.key]
        kept = durable_headers.lasting(message.headers)
        parcel.headers |= {
            name: kept[name]
            for name in (durable_headers.ATTEMPTS, durable_headers.EXPIRES, durable_headers.STORED)
            if name in kept
        }
        parcel.expiration = self._left(message)
        return self._store(message, parcel).addCallback(lambda _: self.succeeded(job))

    def failed(self, job: Job, error: BaseException, failure: ErrorData) -> bool:
        """Move a job whose handler has failed to its next attempt, or to the dead letters.

        :param failure: describes *error*.
        :return: whether this was the last attempt.
        """
        message = self._end(job)
        headers = {
            **durable_headers.lasting(message.headers),
            durable_headers.FAILURE: to_header(failure),
            durable_headers.FAILED: self._now_ms(),
        }
        if job.span is not None:
            headers[durable_headers.RUN] = job.traceparent
        step = self._policy.next(message.attempt, message.attempts, error)
        left = self._left(message)
        if step is None:
            self._bury(
                message,
                durable_headers.EXHAUSTED if self._policy.retryable(error) else durable_headers.NOT_RETRYABLE,
                headers,
            )
        elif left is not None and left <= step * 1000:
            self._bury(message, durable_headers.EXPIRED, headers)
        else:
            self._move(
                message, topology.retry_key(step), {**headers, durable_headers.ATTEMPT: message.attempt + 1}
            )
            return False
        return True

    def stopped(self, job: Job) -> None:
        """Return a job to the broker: its handler was canceled because the worker stops. This is not an attempt."""
        self._settle(self._end(job), False)

    # How:

    def _end(self, job: Job) -> DurableMessage:
        message = self._running.pop(job.key)
        self._slots.running -= 1
        return message

    def _bury_deadly(self, message: DurableMessage, job: Job) -> None:
        """Move a job to the dead letters that the broker would move there at its next return, and tell nobody."""
        error = WorkerLost("each worker that ran it is gone: it may be what ends them")
        self._lane.gave_up(job, error)
        failure = to_header(describe(error, None))
        self._bury(
            message,
            durable_headers.DEATHS,
            {
                **durable_headers.lasting(message.headers),
                durable_headers.FAILURE: failure,
                durable_headers.FAILED: self._now_ms(),
            },
        )

    def _bury(self, message: DurableMessage, reason: str, headers: dict[str, Any]) -> None:
        """Move a job to the dead letters."""
        self._move(
            message,
            topology.DEAD,
            {**headers, durable_headers.REASON: reason, durable_headers.ATTEMPT: message.attempt},
        )

    def _move(
        self, message: DurableMessage, where: str, headers: dict[str, Any], expiration: int | None = None
    ) -> None:
        """Store a job in another of the type's queues, and acknowledge it then."""
        parcel = Parcel(
            topology.durable_exchange(self._kind),
            where,
            JOB,
            message.key,
            message.body,
            headers,
            expiration,
            message.content_type,
            patient=True,
        )
        self._store(message, parcel).addCallbacks(
            lambda _: self._settle(message, True), lambda _: self._settle(message, False)
        )
        self.start_held()

    def _store(self, message: DurableMessage, parcel: Parcel) -> Deferred[None]:
        def ended(result: Any) -> Any:
            del self._leaving[message]
            return result

        self._leaving[message] = storing = self._lane.store(parcel)
        storing.addBoth(ended)
        if self._stopped:
            storing.cancel()
        return storing

    def _settle(self, message: DurableMessage, done: bool) -> None:
        if done:
            message.ack()
        else:
            message.requeue()
        self.start_held()
        self._check_drained()

    def _left(self, message: DurableMessage) -> int | None:
        """Return the milliseconds until it expires, never negative; None: it does not expire."""
        expires = durable_headers.number(message.headers, durable_headers.EXPIRES, 0)
        return min(max(0, expires - self._now_ms()), durable_headers.LONGEST_TTL) if expires else None

    def _now_ms(self) -> int:
        return int(self._time() * 1000)
