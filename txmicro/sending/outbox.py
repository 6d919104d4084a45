"""The jobs that a worker has sent: which worker has each, when it is sent again, when it fails.

A state machine without I/O. Events come in through methods. Messages leave through the constructor's collaborators,
which may call back into the outbox before they return.

A job here is one hop, a :class:`~txmicro.sending.pending.PendingJob`. It is *waiting* until the window of its address
opens, *out* as a copy that no worker has acknowledged, *taken* by a worker, and *ended*. A *durable* one is kept by the
broker, and the outbox only waits for its end. The owner of a job is told of its end exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from txmicro.errors import BusOverloaded, JobCancelled, JobError, JobTimeout, NoWorkerAvailable, WorkerLost
from txmicro.util.clock import Clock
from txmicro.util.expiring import ExpiringKeys
from txmicro.util.pausable_clock import PausableClock
from txmicro.util.sweeper import Sweeper
from txmicro.util.waiters import Waiters

from .deadlines import Deadlines
from .losses import may_have_run, split
from .pending import DURABLE, ENDED, OUT, TAKEN, PendingJob
from .probing import Probing
from .reasons import why_late, why_lost, why_no_worker
from .resending import Inquirer, JobPublisher, Resending

_ABANDONED: Final = 2
"""Retry intervals for which jobs that were given up untaken are remembered: longer than a copy lives."""

_MAX_ABANDONED: Final = 10_000


class RequestSender(Inquirer, Protocol):
    """Sends what the outbox asks of others: the :class:`~txmicro.runtime.control_sender.ControlSender`."""

    def probe(self, worker: str, keys: list[str]) -> None:
        """Ask *worker* which jobs of these keys it has."""

    def cancel(self, worker: str, key: str) -> None:
        """Tell *worker* that the job of this key is given up."""

    def record_failure(self, error: JobError) -> None:
        """Count a job that fails here and not at a worker: too late, no worker there, or lost."""


class Outbox:
    """The jobs that one worker has sent and that have not ended.

    :param clock: tells the time, and calls the one timer, which runs only while there is something to watch.
    :param window: how many untaken jobs may be out per address; the jobs beyond wait, in order.
    :param max_jobs: how many jobs are kept. :param max_bytes: how many bytes they may need.
    :param retry: seconds after which a job that no worker acknowledged is sent again.
    :param probe_every: seconds between two probes of a worker, and before the first one.
    :param tick: seconds between two sweeps, which do what is due.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        publisher: JobPublisher,
        requests: RequestSender,
        *,
        window: int = 1000,
        max_jobs: int = 200_000,
        max_bytes: int = 256 * 1024 * 1024,
        retry: float = 2.0,
        probe_every: float = 2.0,
        tick: float = 0.1,
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes

        self._jobs: dict[str, PendingJob] = {}
        self._bytes = 0
        self._time = PausableClock(clock)
        self._resending = Resending(
            clock,
            self._time,
            publisher=publisher,
            inquirer=requests,
            window=window,
            retry=retry,
            max_addresses=max_jobs,
        )
        self._takers = Probing(probe_every)
        self._deadlines = Deadlines(self._jobs)
        self._abandoned = ExpiringKeys(_ABANDONED * retry, _MAX_ABANDONED)  # keys of jobs given up untaken
        self._forgotten = Waiters()

        self._closed: JobError | None = None
        self._obstacle = ""
        self._sweeper = Sweeper(clock, tick, self._sweep)

    def __len__(self) -> int:
        """Return how many jobs have not ended."""
        return len(self._jobs)

    @property
    def size(self) -> int:
        """Bytes of memory that the messages of its jobs need."""
        return self._bytes

    # Calls of the sender

    def add(self, job: PendingJob) -> bool:
        """Send *job* now if the window of its address is open, else when its turn comes.

        Returns False, and does nothing, if the outbox has a job with this key. After :meth:`close` the owner is told at
        once that the job failed. Raises :class:`~txmicro.errors.BusOverloaded` if there are too many jobs.
        """
        if job.key in self._jobs:
            return False
        if self._closed is not None:
            self._safely(job.owner.failed, self._closed)
            return True
        self._keep(job)
        self._resending.add(job, job.queued_at)
        return True

    def watch(self, job: PendingJob) -> None:
        """Wait for the end of a durable job. The broker keeps it, so it is not sent, sent again or probed for here.

        Raises :class:`~txmicro.errors.BusOverloaded` if there are too many jobs.
        """
        if self._closed is not None:
            self._safely(job.owner.failed, self._closed)
            return
        job.state = DURABLE
        self._keep(job)

    def stored(self, key: str) -> None:
        """Note that the broker has the durable job of this key, which needs no more bytes here."""
        job = self._jobs.get(key)
        if job is not None:
            job.stored = True
            self._bytes -= job.size
            job.size = 0

    def _keep(self, job: PendingJob) -> None:
        if len(self._jobs) >= self._max_jobs or self._bytes + job.size > self._max_bytes:
            raise BusOverloaded(
                f"{len(self._jobs)} jobs of {self._bytes} bytes have not ended: there is no room for {job.size} bytes "
                "more; wait for some of them, or raise outbox_jobs or outbox_bytes"
            )
        job.added_at = now = self._clock.seconds()
        job.queued_at = self._time.at(now)
        self._jobs[job.key] = job
        self._bytes += job.size
        self._deadlines.add(job)
        if not self._sweeper.runs:
            self._sweeper.start()

    def cancel(self, key: str) -> None:
        """Give a job up: it fails with :class:`~txmicro.errors.JobCancelled`, and its taker is told."""
        job = self._end_one(key)
        if job is not None:
            self._tell_taker(job)
            self._safely(job.owner.failed, JobCancelled("canceled by its sender"))

    def when_takers_told(self) -> Deferred[None]:
        """Wait until the workers that took jobs which were given up untaken are told, as soon as their acks come.

        Fires with None, at once if there are no such jobs; does not fail. A copy may be lost, so it may not fire.
        Canceling it stops the wait.
        """
        return self._forgotten.wait() if self._abandoned else succeed(None)

    def pause(self, reason: str = "") -> None:
        """Publish nothing until :meth:`resume`, and stop the sending time. Deadlines still pass.

        :param reason: why nothing can be published, for the errors of jobs that are late.
        """
        self._obstacle = reason
        self._time.pause()

    def resume(self) -> None:
        """Publish again, and send what waits, as far as the windows are open."""
        if self._time.paused:
            self._time.resume()
            self._resending.refill_all()

    def close(self, error: JobError) -> None:
        """Fail all jobs with *error*, now and from now on. Takers are not told: their results may count."""
        self._closed = error
        self._sweeper.stop()
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            self._release(job)
        for job in jobs:
            self._safely(job.owner.failed, error)
        self._deadlines.clear()
        self._resending.clear()
        self._abandoned.clear()

    # Messages of the workers

    def acked(self, worker: str, keys: Iterable[str]) -> None:
        """Note that *worker* has these jobs. If two workers have one, the latest that said so is probed."""
        self._takers.seen(worker)
        for key in keys:
            job = self._jobs.get(key)
            if job is None:
                if self._abandoned.pop(key):
                    self._safely(self._requests.cancel, worker, key)
                    if not self._abandoned:
                        self._forgotten.fire()
            elif job.state is DURABLE:
                job.last_taker = worker
                self._safely(job.owner.accepted, worker)
            elif job.taker != worker:
                self._take(job, worker)

    def succeeded(self, key: str, worker: str, result: Any) -> None:
        """End a job with the result that *worker* sent. Later results, and those of unknown jobs, are ignored."""
        job = self._end_one(key)
        if job is not None:
            try:
                job.owner.succeeded(worker, result)
            except Exception:  # as in _safely, without the call: most jobs end here
                self._log_failure(job.owner.succeeded)

    def failed(self, key: str, error: JobError) -> None:
        """End a job with *error*, which a worker sent."""
        job = self._end_one(key)
        if job is not None:
            self._safely(job.owner.failed, error)

    def done(self, worker: str, keys: Iterable[str]) -> None:
        """End hops that *worker* has passed on, as the jobs' origins have the results: nobody need watch over them."""
        for job in self._end(keys):
            self._safely(job.owner.succeeded, worker, None)

    def status(
        self, worker: str, running: Iterable[str], forwarded: Iterable[str], unknown: Iterable[str]
    ) -> None:
        """Read the answer of *worker* to a probe.

        The worker was started again under the same id if it does not know a job. The job is sent again at once unless
        another worker has it. A job that must not run twice fails with :class:`~txmicro.errors.WorkerLost` instead.
        """
        self.acked(worker, running)
        self.acked(worker, forwarded)
        for job in self._taken_by(worker, forwarded):
            job.forwarded = True
        jobs = self._taken_by(worker, unknown)
        suspect = jobs[-1] if jobs else None
        again, lost = split(jobs, suspect)
        for job in again:
            self._takers.leave(job, worker)
            job.missing_takers = (*job.missing_takers, worker)
            if job is suspect:
                job.blamed_takers = (*job.blamed_takers, worker)
        self._resending.put_back(again)
        self._lose(lost)

    def taker_gone(self, worker: str) -> None:
        """Note that *worker* has no inbox. Its jobs are sent again at once, in order.

        It may be dead, or reconnecting. So jobs that must not run again stay with it for some probes more, and fail
        with :class:`~txmicro.errors.WorkerLost` unless a probe reaches it.
        """
        missing = self._takers.gone(worker, self._time.seconds())
        again, lost = split(missing.jobs, missing.suspect)
        for job in again:
            if job.forwarded:  # it has done its part
                self._takers.leave(job, worker)
            else:
                self._takers.miss(job, worker)
        self._resending.put_back(again)
        if missing.too_long:
            self._lose(lost)

    def refused(self, worker: str, keys: Iterable[str], *, unrun: bool) -> None:
        """Note that *worker* did not run its copies of these jobs.

        A job that another worker has acknowledged stays with that worker.

        :param unrun: whether no other worker ran them either, so that they are sent again in their time. If not, the
            broker gave them to a worker before: they are sent again at once, or, if they must not run twice, fail with
            :class:`~txmicro.errors.WorkerLost`.
        """
        out = [job for job in map(self._jobs.get, keys) if job is not None and job.state is OUT]
        if unrun:
            for job in out:
                self._resending.came_back(job)
            return
        self._lose([job for job in out if not job.redeliver])
        for job in out:
            if job.redeliver and job.state is OUT:
                self._resending.resend(job)

    def _taken_by(self, worker: str, keys: Iterable[str]) -> list[PendingJob]:
        """Return those of these jobs that *worker* has."""
        jobs = [self._jobs[key] for key in dict.fromkeys(keys) if key in self._jobs]
        return [job for job in jobs if job.taker == worker]

    # Messages of the broker and the SystemManager

    def returned(self, key: str) -> None:
        """Note that a copy came back because no queue takes its address, and ask whether a worker could."""
        job = self._jobs.get(key)
        if job is not None and job.state is OUT:
            self._resending.came_back(job)
            self._resending.ask(job.address)

    def no_worker(self, address: str) -> None:
        """Fail the untaken jobs for *address* with :class:`~txmicro.errors.NoWorkerAvailable`: no worker runs them.

        Jobs wait on that a worker which is not connected may have. One took them before, or several copies did not come
        back: there was a queue for longer than a worker needs to acknowledge them.
        """
        untaken = [job.key for job in self._resending.untaken(address) if not may_have_run(job)]
        for job in self._end(untaken):
            self._fail(job, NoWorkerAvailable(why_no_worker(job)))

    # Where a job is

    def _take(self, job: PendingJob, worker: str) -> None:
        if job.state is TAKEN and job.taker is not None:
            self._takers.leave(job, job.taker)
            self._takers.take(job, worker, self._time.seconds())
        else:
            others_wait = self._resending.remove(job)
            self._takers.take(job, worker, self._time.seconds())
            if others_wait:
                self._resending.refill(job.address)
        self._safely(job.owner.accepted, worker)

    def _lose(self, jobs: list[PendingJob]) -> None:
        """Fail jobs that must not run again, and may have run."""
        for job in self._end([job.key for job in jobs]):
            self._fail(job, WorkerLost(why_lost(job)))

    def _end(self, keys: Iterable[str]) -> list[PendingJob]:
        """End jobs. Others are sent in their place only when all have ended."""
        jobs = [job for key in keys if (job := self._jobs.pop(key, None)) is not None]
        for job in jobs:
            self._release(job)
        self._resending.refill_all({job.address: None for job in jobs})
        return jobs

    def _end_one(self, key: str) -> PendingJob | None:
        """End a job, and send another one in its place."""
        job = self._jobs.pop(key, None)
        if job is not None and self._release(job):
            self._resending.refill(job.address)
        return job

    def _release(self, job: PendingJob) -> bool:
        """Forget *job*, which has ended. Return whether another one waits for its place."""
        others_wait = False
        if job.state is TAKEN and job.taker is not None:
            self._takers.leave(job, job.taker)
        elif job.state is not DURABLE:
            others_wait = self._resending.remove(job)
        if job.missing_takers:
            self._takers.forget(job)
        self._bytes -= job.size
        job.state = ENDED
        return others_wait

    # The sweep

    def _sweep(self) -> bool:
        """Do what is due. Return whether there is something left to watch."""
        self._expire()
        self._resending.forget_inquiries()
        self._abandoned.forget(self._clock.seconds())
        self._resending.resend_due()
        self._probe_takers()
        return bool(self._jobs or self._abandoned or self._resending.has_asked)

    def _expire(self) -> None:
        due = self._deadlines.take_due(self._clock.seconds())
        texts = [self._why_late(job) for job in due]  # before the jobs leave their windows
        for job, text in zip(self._end([job.key for job in due]), texts, strict=True):
            self._tell_taker(job)
            self._fail(job, JobTimeout(text))
        self._deadlines.compact()

    def _why_late(self, job: PendingJob) -> str:
        lived = self._clock.seconds() - job.added_at
        paused = lived - (self._time.seconds() - job.queued_at)
        return why_late(job, lived, paused, self._obstacle, self._resending.counts(job.address))

    def _probe_takers(self) -> None:
        now = self._time.seconds()
        while not self._time.paused and (due := self._takers.next_due(now)) is not None:
            self._safely(self._requests.probe, *due)

    # Calls of the collaborators

    def _fail(self, job: PendingJob, error: JobError) -> None:
        self._safely(self._requests.record_failure, error)
        self._safely(job.owner.failed, error)

    def _tell_taker(self, job: PendingJob) -> None:
        """Tell the job's taker that it is given up. If no worker has acknowledged it, one is told when it does."""
        if job.taker is not None:
            self._safely(self._requests.cancel, job.taker, job.key)
        elif job.copies and self._closed is None:
            self._abandoned.add(job.key, self._clock.seconds())
            self._sweeper.start()

    def _safely(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception:  # one owner's mistake must not cost the others their jobs
            self._log_failure(function)

    def _log_failure(self, function: Callable[..., None]) -> None:
        self.log.failure("{function} failed; the other jobs go on", function=function, recurring=True)
