"""Sends the copies of jobs that no worker has taken: within the window of each address, and again in time.

Part of :mod:`txmicro.sending.outbox`. Times are sending time, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from twisted.logger import Logger

from txmicro.util.clock import Clock
from txmicro.util.expiring import ExpiringKeys
from txmicro.util.pausable_clock import PausableClock

from .pending import OUT, WAITING, PendingJob


class JobPublisher(Protocol):
    """Publishes jobs: the :class:`~txmicro.bus.publisher.Publisher`."""

    def send_job(self, job: PendingJob) -> None:
        """Publish a copy of *job*. If it raises, that is logged, and the copy counts as lost."""


class Inquirer(Protocol):
    """Asks the SystemManagers."""

    def inquire(self, address: str) -> None:
        """Ask whether a worker runs jobs for *address*."""


class Window:
    """The jobs of one address that no worker has taken.

    :ivar out: how many are out.
    :ivar waiting: those that wait until fewer are out, in order.
    """

    __slots__ = ("out", "waiting")

    def __init__(self) -> None:
        self.out = 0
        self.waiting: OrderedDict[str, PendingJob] = OrderedDict()


class _Windows(dict[str, Window]):
    """Windows by address. One that exists costs a dict's lookup."""

    def __missing__(self, address: str) -> Window:
        window = self[address] = Window()
        return window


class Resending:
    """The jobs of one outbox that no worker has taken.

    :param time: the sending time; while it is paused, nothing is sent.
    :param inquirer: is called at most once per address and *retry*.
    :param window: how many untaken jobs may be out per address; the jobs beyond wait, in order.
    :param retry: seconds after which a job that no worker acknowledged is sent again.
    :param max_addresses: how many addresses of inquiries are remembered.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        time: PausableClock,
        *,
        publisher: JobPublisher,
        inquirer: Inquirer,
        window: int,
        retry: float,
        max_addresses: int,
    ) -> None:
        self._clock = clock
        self._time = time
        self._publisher = publisher
        self._inquirer = inquirer
        self._size = window
        self._retry = retry
        self._windows = _Windows()
        # All copies wait equally long for an ack, so the one that is sent last is due last: no heap is needed.
        self._out: OrderedDict[str, PendingJob] = OrderedDict()
        self._asked = ExpiringKeys(retry, max_addresses)

    @property
    def has_asked(self) -> bool:
        """True if an address was asked for so recently that it is not asked for again."""
        return bool(self._asked)

    def add(self, job: PendingJob, now: float) -> None:
        """Send *job* if its address's window is open, else when its turn comes."""
        window = self._windows[job.address]
        if window.out < self._size and not window.waiting and not self._time.paused:
            window.out += 1
            self._send(job, now)
        else:
            window.waiting[job.key] = job
        job.stale = True

    def put_back(self, jobs: list[PendingJob]) -> None:
        """Send jobs that were taken and that no worker has any more, in order, before those that wait."""
        for job in reversed(jobs):
            job.state, job.taker = WAITING, None
            waiting = self._windows[job.address].waiting
            waiting[job.key] = job
            waiting.move_to_end(job.key, last=False)
        self.refill_all({job.address: None for job in jobs})

    def remove(self, job: PendingJob) -> bool:
        """Forget *job*, which is waiting or out: a worker has taken it, or it has ended.

        Return whether others wait for its address, so that :meth:`refill` must follow.
        """
        window = self._windows[job.address]
        if job.state is OUT:
            del self._out[job.key]
            window.out -= 1
        else:
            del window.waiting[job.key]
        if window.waiting:
            return True
        if not window.out:
            del self._windows[job.address]
        return False

    def refill(self, address: str) -> None:
        """Send what waits for *address*, as far as its window is open."""
        window = self._windows.get(address)
        if window is None or not window.waiting:
            return
        now = self._time.seconds()
        while window.waiting and window.out < self._size and not self._time.paused:
            _, job = window.waiting.popitem(last=False)
            window.out += 1
            self._send(job, now)

    def refill_all(self, addresses: Iterable[str] | None = None) -> None:
        """Send what waits for *addresses*, or (None) for all."""
        for address in list(self._windows) if addresses is None else addresses:
            self.refill(address)

    def came_back(self, job: PendingJob) -> None:
        """Note that a copy of *job*, which is out, came back without having run.

        The job is sent again when it would have been, and keeps its place in the window until then: an address without
        a queue costs no more than one with a slow worker.
        """
        job.unrun = True
        job.unreturned = max(0, job.unreturned - 1)

    def resend(self, job: PendingJob) -> None:
        """Send *job*, which is out, again at once, unless sending is paused."""
        if not self._time.paused:
            self._out.move_to_end(job.key)
            self._send(job, self._time.seconds())

    def resend_due(self) -> None:
        """Send the jobs again that no worker acknowledged in time, and ask for their addresses."""
        now = self._time.seconds()
        while self._out and not self._time.paused:
            job = next(iter(self._out.values()))
            if job.due > now:
                break
            self._out.move_to_end(job.key)
            if job.redeliver or job.unrun:
                self._send(job, now)
            else:  # its one copy may wait at the broker until the deadline
                job.due = now + self._retry
                self.ask(job.address)

    def ask(self, address: str) -> None:
        """Ask the SystemManagers for *address*, unless they were asked lately."""
        if address in self._asked:
            return
        self._asked.add(address, self._clock.seconds())
        try:
            self._inquirer.inquire(address)
        except Exception:  # the jobs are sent again all the same
            self.log.failure("inquiry for {address} failed; it is repeated", address=address, recurring=True)

    def forget_inquiries(self) -> None:
        """Let addresses be asked for again that were asked for long ago."""
        self._asked.forget(self._clock.seconds())

    def untaken(self, address: str) -> list[PendingJob]:
        """Return the jobs for *address*: first those that are out, then those that wait, in order."""
        window = self._windows.get(address)
        if window is None:
            return []
        out = [job for job in self._out.values() if job.address == address]
        return [*out, *window.waiting.values()]

    def counts(self, address: str) -> tuple[int, int]:
        """Return how many jobs for *address* are out, and how many wait."""
        window = self._windows.get(address)
        return (0, 0) if window is None else (window.out, len(window.waiting))

    def clear(self) -> None:
        """Forget the inquiries."""
        self._asked.clear()

    def _send(self, job: PendingJob, now: float) -> None:
        job.state = OUT
        job.copies += 1
        job.unreturned += 1
        job.unrun = False
        job.due = now + self._retry
        self._out[job.key] = job
        if job.copies == 1:
            job.sent_at = now
        else:
            job.owner.resent(job.copies)
            self.ask(job.address)
        try:
            self._publisher.send_job(job)
        except Exception:  # one job's mistake must not cost the others their turns
            self.log.failure(
                "job {job} to {address} cannot be published; it is tried again in {seconds:g} s",
                job=job.job_id,
                traceparent=job.traceparent,
                address=job.address,
                seconds=self._retry,
                recurring=True,
            )
