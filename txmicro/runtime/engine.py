"""A worker's machines, wired to each other and to its link.

Everything that goes between a worker and the bus passes here: what the machines put out becomes messages,
and what comes in becomes input to the machines.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from txmicro.bus.connections import Bus
from txmicro.bus.worker_channel import Settle, WorkerChannel
from txmicro.discovery.membership import Membership
from txmicro.errors import AddressError, JobCancelled, JobError, MessageTooLarge, WorkerStopped
from txmicro.log import log_failed_job
from txmicro.metrics import DURABLE, INTERACTIVE
from txmicro.protocol import messages, topology
from txmicro.protocol.address import parse
from txmicro.protocol.failures import describe, type_name
from txmicro.protocol.handlers import JobHandler
from txmicro.protocol.job import Job, hop_key, remaining_ms
from txmicro.protocol.notifications import Announcement, Inquiry
from txmicro.receiving.ack_batch import AckBatch
from txmicro.receiving.intake import FORWARDED, Copy, Intake, Reply
from txmicro.receiving.retry import RetryPolicy
from txmicro.receiving.runner import Runner
from txmicro.sending.forwarding import Forwarding
from txmicro.sending.future import JobFuture, JobPromise
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import Owner, PendingJob

from .control import ControlMessages
from .durable_lane import DurableLane, Terms


class Engine:
    """See the module.

    :param me: what the worker says of itself; asked anew for every announcement.
    :param handler: its ``do_job``; None: it takes no jobs.
    :param capacity: how many jobs run at once.
    :param policy: what becomes of its durable jobs that fail; None: it takes none.
    :param in_thread: runs ``f(*args)`` in a thread, for a handler that is to run there.
    :param unheard: told of jobs that failed while nobody awaited them.
    :ivar membership: it among the other workers.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        me: Callable[[], Announcement],
        *,
        handler: JobHandler | None,
        capacity: int,
        policy: RetryPolicy | None,
        in_thread: Callable[..., Deferred[Any]] | None,
        max_runtime: float,
        unheard: Callable[[JobError], None],
    ) -> None:
        self.id, self.type = me().id, me().type
        self._leave_by = 0.0
        self._bus = bus
        self._clock = bus.clock
        self._ids = bus.ids
        self._unheard = unheard
        self._max_hops = bus.config.max_hops
        self._capacity = capacity if handler is not None else 0
        self._metrics = bus.metrics.service(self.type)
        self.link = WorkerChannel(bus, self, Membership.topics(self.type), service=self.type)
        self._post = self.link.post
        self.membership = Membership(bus.clock, self._post, me, self.link.yields)
        self._outbox = Outbox(
            bus.clock,
            publish=self._publish,
            inquire=lambda address: self._post.notify("worker.next", Inquiry(address, self.id).body()),
            probe=partial(self._tell_keys, messages.PROBE),
            cancel=lambda taker, key: self._tell_keys(messages.CANCEL, taker, [key]),
            gave_up=lambda error: self._metrics.record_error(error.type),
            max_jobs=bus.config.outbox_jobs,
            max_bytes=bus.config.outbox_bytes,
        )
        self._outbox.pause()  # until the link says that it is up
        self._acks, self._heard, self._done = (
            AckBatch(bus.clock, partial(self._tell_keys, kind))
            for kind in (messages.ACK, messages.HEARD, messages.DONE)
        )
        self._runner = Runner(
            bus.clock,
            handler or (lambda job: None),  # one that takes no jobs gets none
            self._job_ended,
            worker=self.id,
            flush=self._flush,
            in_thread=in_thread,
            max_runtime=max_runtime,
        )
        self.lane = DurableLane(
            bus,
            self.link,
            self.id,
            capacity,
            policy,
            leads=lambda: self.membership.leads,
            room=self._has_room,
            start=self._runner.start,
            acks=self._acks,
            watch=self._outbox.watch,
            failed=self._outbox.failed,
            remember=self._remember,
            repeat=self._repeat,
            stored=self._outbox.stored,
        )
        self._intake = Intake(
            bus.clock,
            start=self._runner.start,
            ack=lambda job: self._acks.add(job.key, job.sender),
            answer=self._answer,
            free=lambda sender, key: self._done.add(key, sender),
            refuse=self._refuse,
            capacity=capacity,
            others=self.lane.__len__,
        )
        self._hops = Forwarding(self._send, self._hop_ended)
        self._inbox = ControlMessages(
            self.id,
            outbox=self._outbox,
            intake=self._intake,
            runner=self._runner,
            membership=self.membership,
            post=self._post,
            heard=self._heard,
        )

    def _remember(self, job: Job, reply: Reply) -> None:
        self._intake.remember(job, reply)

    def _repeat(self, key: str) -> None:
        self._intake.unanswered(key)

    def _has_room(self) -> bool:
        return not self._intake.paused and len(self._intake) + len(self.lane) < self._capacity

    @property
    def running_jobs(self) -> int:
        """How many jobs run."""
        return len(self._intake) + len(self.lane)

    @property
    def held_jobs(self) -> int:
        """How many jobs were delivered and wait for room."""
        return self._intake.held + self.lane.held

    @property
    def pending_jobs(self) -> int:
        """How many jobs, and hops of jobs that were passed on, were sent and have not ended."""
        return len(self._outbox)

    @property
    def passed_on_jobs(self) -> int:
        """How many jobs were passed on, and are not done."""
        return len(self._hops)

    # Its life

    async def enter(self) -> None:
        """Take jobs, and say so. Raises :class:`~txmicro.errors.QueueMismatch`: call :meth:`retire` then, too."""
        if self._capacity:
            await self.link.take_jobs(self._capacity)
            await self.lane.take_jobs()
        self.membership.enter()

    async def retire(self, grace: float, reason: JobError) -> None:
        """Take no more jobs, say so, and finish those that run; after *grace* seconds cancel them for *reason*.

        For as long it also watches over the hops of those that it has passed on: who sent them would find this
        worker gone, and have them run again.
        """
        self._leave_by = self._clock.seconds() + grace
        await self.link.stop_jobs()
        await self.lane.stop_jobs()
        self.membership.leave()
        patience = self._clock.callLater(grace, self._hurry, reason)
        try:
            await self._intake.drain()
            await self.lane.drain()
            await self._hops.drain()
        finally:
            if patience.active():
                patience.cancel()

    def _hurry(self, reason: JobError) -> None:
        if self.running_jobs:
            self.log.warn(
                "{worker}: grace is over; jobs that still run are cancelled: {jobs}",
                worker=self.id,
                jobs=self.running_jobs,
            )
        self.lane.give_back()
        self._runner.cancel_all(reason)
        self._hops.abandon()

    def give_up(self, reason: JobError) -> None:
        """Fail what was sent and is not done."""
        self._outbox.close(reason)
        self.lane.close(reason)

    async def leave(self) -> None:
        """Send what waits, and leave the bus."""
        self._intake.close()
        for batch in (self._acks, self._heard, self._done):
            batch.flush()
            batch.stop()
        await self._last_flush()
        self._runner.stop()
        await self.lane.leave()
        await self.link.close()

    async def _last_flush(self) -> None:
        """Wait until what was said has left, but not for ever for a broker that takes nothing."""
        left = self._leave_by - self._clock.seconds() - CLOSING
        with suppress(TimeoutError):
            await self._post.flush().addTimeout(max(LAST_FLUSH, left), self._clock)
        if self._bus.obstacle:
            reason = self._bus.obstacle
            self.log.warn("{worker}: its last messages may be lost: {reason}", worker=self.id, reason=reason)

    def _flush(self) -> Deferred[Any]:
        self._acks.flush()
        return self._post.flush()

    # Jobs that are sent

    def send(
        self, slip: list[str], data: Any, timeout: float, traceparent: str | None, redeliver: bool
    ) -> JobFuture:
        """Send a job along *slip*; :meth:`txmicro.worker.Worker.send` says the rest."""
        job = self._job(slip, data, timeout, traceparent)
        job.redeliver = redeliver
        future = JobFuture(job.id, slip[0], partial(self._outbox.cancel, job.key), self._unheard)
        self._send(job, JobPromise(future))
        return future

    def send_durable(
        self, slip: list[str], data: Any, timeout: float, traceparent: str | None, terms: Terms
    ) -> JobFuture:
        """Have the broker keep a job; :meth:`txmicro.worker.Worker.send` says the rest."""
        job = self._job(slip, data, timeout, traceparent)
        job.durable = True
        future = JobFuture(job.id, slip[0], partial(self._outbox.cancel, job.key), self._unheard)
        self.lane.send(job, JobPromise(future), terms)
        return future

    def _job(self, slip: list[str], data: Any, timeout: float, traceparent: str | None) -> Job:
        if len(slip) > self._max_hops:
            raise AddressError(f"a routing slip of {len(slip)} addresses: max_hops allows {self._max_hops}")
        for stop in slip or [""]:
            parse(stop)
        deadline = self._clock.seconds() + timeout
        return Job(self._ids.job(), data, slip, 0, self.id, self.id, deadline, traceparent=traceparent)

    def _send(self, job: Job, owner: Owner) -> bool:
        body = self._post.encode(job.body(self._clock.seconds()))
        content = body, job.traceparent
        return self._outbox.add(
            PendingJob(
                job.key,
                job.id,
                job.address,
                content,
                job.deadline,
                owner,
                size=len(body),
                redeliver=job.redeliver,
            )
        )

    def _publish(self, sent: PendingJob) -> None:
        body, traceparent = sent.body
        left = remaining_ms(sent.deadline, self._clock.seconds())
        if sent.stale:  # it waited, or is sent again: what it says of tries and time is old
            try:
                body = self._post.reencode(body, {"tries": sent.tries, "deadline": left})
            except MessageTooLarge as error:  # by what was added, or by what is known of the broker since
                self._outbox.failed(sent.key, error)
                return
        life = min(left, _COPY_LIFE) if sent.redeliver else left
        if sent.copies > 1:
            self._metrics.record_resend(INTERACTIVE)
        self._post.send(sent.address, sent.key, body, life, traceparent=traceparent)

    # Jobs that are taken

    def job_arrived(self, job: Job, settle: Settle) -> None:
        """A copy of a job (link.Occupant)."""
        self._intake.arrived(Copy(job, settle))

    def _job_ended(self, job: Job, result: Any, error: BaseException | None, seconds: float) -> None:
        """The handler is through: go on, or answer. Whatever is wrong with its result is the job's failure."""
        self._metrics.observe_job(DURABLE if job.durable else INTERACTIVE, seconds)
        if job.durable:
            self.lane.ended(job, result, error)
            self._intake.start_held()
            return
        try:
            reply = self._go_on(job, result) if error is None else self._fail(job, error)
        except Exception as wrong:  # not to be encoded, no address, too large
            error = wrong
            reply = self._fail(job, wrong)
        if error is not None:
            self._metrics.record_error(type_name(error))
        self._intake.finished(job.key, reply)
        self.lane.start_held()

    def _go_on(self, job: Job, result: Any) -> Reply:
        hop = job.followed_by(result, self.id, self._max_hops)
        if hop is None:
            return self._reply(job, messages.RESULT, {"result": result})
        self._hops.follow(job, hop)
        return Reply(hop.address, FORWARDED)

    def _fail(self, job: Job, error: BaseException) -> Reply:
        failure = describe(error, self.id)
        log_failed_job(self.log, self.id, job.id, error)
        return self._reply(job, messages.FAILURE, {"failure": failure})

    def _reply(self, job: Job, kind: str, outcome: dict[str, Any]) -> Reply:
        reply = Reply(job.origin, kind, self._post.encode(job.outcome(self.id, outcome)))
        self._answer(job.key, reply)
        return reply

    def _answer(self, key: str, reply: Reply) -> None:
        """Tell the job's origin how the job ended. Who sent it a later hop watches over that until it has heard."""
        if key.endswith(_FIRST_HOP):  # sender and origin are one: the answer is the ack
            self._acks.forget(key)
        self._post.reply(reply.to, reply.type, key, reply.body)

    def _refuse(self, job: Job, unrun: bool) -> None:
        body = {"worker": self.id, "keys": [job.key], "unrun": unrun}
        self._post.reply(job.sender, messages.REFUSED, job.sender, self._post.encode(body))

    def _hop_ended(self, job: Job, error: JobError | None) -> None:
        """The hop that was sent on behalf of *job* has ended; of *error* its origin has not heard yet.

        It is not told when it gave the job up itself, nor when this worker stops: who has the hop answers the
        origin, and if nobody has, the origin finds this worker gone and sends the job again.
        """
        if error is None:
            if not self._intake.heard(job.key):  # forgotten meanwhile
                self._done.add(job.key, job.sender)
        elif not isinstance(error, WorkerStopped | JobCancelled):
            self._intake.finished(job.key, self._fail(job, error))

    # What is said, and heard

    def told(self, kind: str, body: Any) -> None:
        """A control message (link.Occupant)."""
        self._inbox.told(kind, body)

    def _tell_keys(self, kind: str, worker: str, keys: list[str]) -> None:
        for start in range(0, len(keys), _KEYS_MAX):
            body = {"worker": self.id, "keys": keys[start : start + _KEYS_MAX]}
            self._post.reply(worker, kind, worker, self._post.encode(body))

    def notified(self, topic: str, body: Any) -> None:
        """A notification (link.Occupant)."""
        self.membership.notified(topic, body)

    # What the link says

    @property
    def leads(self) -> bool:
        """Whether it looks after what all of its type share (link.Occupant)."""
        return self.membership.leads

    def up(self) -> None:
        """Everything stands (link.Occupant)."""
        self.lane.up()
        self.membership.remind()

    def down(self) -> None:
        """Something was lost (link.Occupant)."""
        self._intake.reset()
        self._acks.clear()

    def writable(self, writable: bool) -> None:
        """Whether jobs may be published (link.Occupant). While they may not, no answer leaves: no job is started."""
        if writable:
            self._outbox.resume()
            self._intake.resume()
            self.lane.resume()
        else:
            self._outbox.pause(self._bus.obstacle or "this worker's queues are being declared")
            self._intake.pause()
            self.lane.pause()

    def returned(self, kind: str, key: str) -> None:
        """A message of ours found no queue (link.Occupant)."""
        if kind == messages.JOB:
            self._outbox.returned(key)
        elif kind == messages.PROBE:
            self._outbox.taker_gone(key)
        elif kind in (messages.RESULT, messages.FAILURE):
            self._intake.unanswered(key)

    def refused(self, key: str, error: JobError) -> None:
        """A job of ours is not taken by the broker (link.Occupant)."""
        self._outbox.failed(key, error)


CLOSING = 6.0
"""Seconds of the grace that are kept for closing the connections, 5 where the broker does not answer (client.py)."""

LAST_FLUSH = 1.0
"""Seconds that a worker waits at least for its last messages to leave."""

_FIRST_HOP = hop_key("", 0)

_KEYS_MAX = 1000
"""Keys in one control message."""

_COPY_LIFE = int(topology.COPY_TTL * 1000)
