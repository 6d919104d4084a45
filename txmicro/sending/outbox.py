"""Jobs I sent: who has them, when to send them again, when to give up.

A state machine without I/O. What happens comes in through methods; what must go out leaves through the
callables given to the constructor. They may call back into the outbox before they return.

A job here is one hop (:class:`~txmicro.sending.pending.PendingJob`). It *waits* for its address' window to
open, is *out* as a copy that
nobody has acknowledged, is *taken* by a worker, and has *ended*. A durable one is *kept* by the broker, and
only its end is awaited here. Its owner hears of the end exactly once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any, Final

from twisted.logger import Logger

from txmicro.errors import BusOverloaded, JobCancelled, JobError, JobTimeout, NoWorkerAvailable, WorkerLost
from txmicro.protocol.messages import NO_WORKER_TEXT
from txmicro.util.clock import Clock, Timer
from txmicro.util.expiring import ExpiringKeys

from .pending import ENDED, KEPT, OUT, TAKEN, WAITING, PendingJob
from .probing import Probing

_LATE: Final = 0.5
_ASTRAY: Final = 3
"""Copies that left and did not come back, beyond which somebody may have one. A worker whose event loop stands stays on
the bus for two heartbeat intervals, and gets more. Fewer may lie in the queue of workers that are gone: RabbitMQ 4.3
keeps it for 10 seconds, and a manager says that nobody is there before the fourth copy leaves.
"""

_DEATHS: Final = 3  # takers that are missing and took nothing after a job, until that is given up
_LOSSES: Final = 20  # takers that are missing, whatever they took after it: it may end them some time later
_WORTH_SAYING: Final = 0.5  # seconds
_ABANDONED: Final = 2  # retry intervals: longer than a copy lives, at the broker and held by a taker
_MOST_ABANDONED: Final = 10_000


class _Line:
    """The jobs of one address that nobody has taken: how many are out, and which wait, in order."""

    __slots__ = ("out", "waiting")

    def __init__(self) -> None:
        self.out = 0
        self.waiting: OrderedDict[str, PendingJob] = OrderedDict()


class Outbox:
    """The jobs that one worker has sent and that have not ended.

    :param clock: gives the time and the one timer, which runs only while there is something to watch.
    :param publish: sends a copy of a job. If it raises, that is logged, and the copy counts as lost.
    :param inquire: asks the SystemManagers whether anyone can take jobs for an address; at most once per
        address and *retry*.
    :param probe: asks a worker which of these keys it has.
    :param cancel: tells a worker that nobody awaits the job of this key any more.
    :param gave_up: told of each job that fails here and not at a worker: too late, nobody there, or lost.
    :param window: how many untaken copies may be out per address; the jobs beyond wait, in order.
    :param max_jobs: how many jobs are kept. :param max_bytes: how many bytes they may take.
    :param retry: seconds after which a copy that nobody acknowledged is sent again.
    :param probe_every: seconds between two probes of a worker, and before the first one.
    :param tick: seconds between two looks at what is due.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        *,
        publish: Callable[[PendingJob], None],
        inquire: Callable[[str], None],
        probe: Callable[[str, list[str]], None],
        cancel: Callable[[str, str], None],
        gave_up: Callable[[JobError], None],
        window: int = 1000,
        max_jobs: int = 200_000,
        max_bytes: int = 256 * 1024 * 1024,
        retry: float = 2.0,
        probe_every: float = 2.0,
        tick: float = 0.1,
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._inquire = inquire
        self._probe = probe
        self._cancel = cancel
        self._gave_up = gave_up
        self._window = window
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._retry = retry
        self._tick = tick

        self._jobs: dict[str, PendingJob] = {}
        self._bytes = 0
        self._deadlines: list[tuple[float, str]] = []  # a heap; entries of jobs that have ended are stale
        self._lines: dict[str, _Line] = {}
        # All copies wait equally long, so what is sent last is due last, and needs no heap.
        self._out: OrderedDict[str, PendingJob] = OrderedDict()
        self._takers = Probing(probe_every)
        self._asked = ExpiringKeys(retry, max_jobs)  # the addresses of inquiries
        self._abandoned = ExpiringKeys(
            _ABANDONED * retry, _MOST_ABANDONED
        )  # the keys of what was given up untaken

        self._closed: JobError | None = None
        self._timer: Timer | None = None
        self._expected = 0.0
        self._skipped = False
        self._paused_at: float | None = None
        self._obstacle = ""
        self._stood = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    # What the sender does:

    def add(self, sent: PendingJob) -> bool:
        """Take on a job: publish it now if its address' window is open, else when its turn comes.

        Returns False, and does nothing, if a job with this key is here already. After :meth:`close` the owner
        hears at once that the job failed. Raises BusOverloaded when there are too many.
        """
        if sent.key in self._jobs:
            return False
        if self._closed is not None:
            self._safely(sent.owner.failed, self._closed)
            return True
        self._keep(sent)
        line = self._line(sent.address)
        if line.out < self._window and not line.waiting and self._paused_at is None:
            line.out += 1
            self._put_out(sent)
        else:
            line.waiting[sent.key] = sent
        sent.stale = True
        return True

    def watch(self, sent: PendingJob) -> None:
        """Wait for the end of a durable job: the broker has it, so nothing is sent, resent or probed here.

        Raises BusOverloaded when there are too many.
        """
        if self._closed is not None:
            self._safely(sent.owner.failed, self._closed)
            return
        sent.state = KEPT
        self._keep(sent)

    def stored(self, key: str) -> None:
        """The broker has the durable job of this key: it takes no more bytes here."""
        sent = self._jobs.get(key)
        if sent is not None:
            sent.stored = True
            self._bytes -= sent.size
            sent.size = 0

    def check_room(self, size: int = 0) -> None:
        """Raises BusOverloaded when there are too many jobs for another one of *size* bytes."""
        jobs, taken = len(self._jobs), self._bytes
        if jobs >= self._max_jobs or taken + size > self._max_bytes:
            raise BusOverloaded(f"{jobs} jobs of {taken} bytes are under way: no room for {size} more")

    def _keep(self, sent: PendingJob) -> None:
        self.check_room(sent.size)
        sent.added = now = self._clock.seconds()
        sent.began = self._time(now)
        self._jobs[sent.key] = sent
        self._bytes += sent.size
        heappush(self._deadlines, (sent.deadline, sent.key))
        self._run_timer()

    def cancel(self, key: str) -> None:
        """Give a job up: it fails with :class:`JobCancelled`, and its taker is told."""
        sent = self._end_one(key)
        if sent is not None:
            self._tell_taker(sent)
            self._safely(sent.owner.failed, JobCancelled("cancelled by its sender"))

    def pause(self, reason: str = "") -> None:
        """Publish nothing until :meth:`resume`: the connection takes nothing. The copies' time stands still.

        Deadlines go on, and what arrives counts.

        :param reason: why, for the errors of jobs that fail for it.
        """
        self._obstacle = reason
        if self._paused_at is None:
            self._paused_at = self._clock.seconds()

    def resume(self) -> None:
        """Publish again: what waits, as far as the windows are open."""
        if self._paused_at is None:
            return
        self._stood += self._clock.seconds() - self._paused_at
        self._paused_at = None
        for address in list(self._lines):
            self._refill(address)

    def close(self, error: JobError) -> None:
        """Fail all jobs with *error*, now and from now on. Takers are not told: their work may count."""
        self._closed = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        jobs = list(self._jobs.values())
        for sent in jobs:
            self._remove(sent.key)
        for sent in jobs:
            self._safely(sent.owner.failed, error)
        self._deadlines.clear()
        self._asked.clear()
        self._abandoned.clear()

    # What the workers say:

    def acked(self, worker: str, keys: Iterable[str]) -> None:
        """*worker* took these jobs. If two workers took one, the latest to say so is probed."""
        self._takers.heard(worker)
        for key in keys:
            sent = self._jobs.get(key)
            if sent is None:
                if self._abandoned.pop(key):
                    self._safely(self._cancel, worker, key)
            elif sent.state is KEPT:
                sent.heard = worker
                self._safely(sent.owner.accepted, worker)
            elif sent.taker != worker:
                self._taken(sent, worker)

    def succeeded(self, key: str, worker: str, result: Any) -> None:
        """*worker* has the job's result. The first one wins; one for an unknown key is ignored."""
        sent = self._end_one(key)
        if sent is not None:
            self._safely(sent.owner.succeeded, worker, result)

    def failed(self, key: str, error: JobError) -> None:
        """The job failed at a worker."""
        sent = self._end_one(key)
        if sent is not None:
            self._safely(sent.owner.failed, error)

    def done(self, worker: str, keys: Iterable[str]) -> None:
        """What followed these hops is done, so *worker* need not be watched over them any more."""
        for sent in self._end(keys):
            self._safely(sent.owner.succeeded, worker, None)

    def status(
        self, worker: str, running: Iterable[str], forwarded: Iterable[str], unknown: Iterable[str]
    ) -> None:
        """A probe's answer. What *worker* does not know is sent again at once, unless another has it.

        What must not run twice fails with :class:`WorkerLost` instead.
        """
        self.acked(worker, running)
        self.acked(worker, forwarded)
        for sent in self._of(worker, forwarded):
            sent.forwarded = True
        jobs = self._of(worker, unknown)
        suspect = jobs[-1] if jobs else None
        again, lost = _part(jobs, suspect)
        for sent in again:  # it was started again, under the same id
            self._takers.leave(sent, worker)
            sent.lost = (*sent.lost, worker)
            if sent is suspect:
                sent.blamed = (*sent.blamed, worker)
        self._again(again)
        self._lose(lost)

    def _of(self, worker: str, keys: Iterable[str]) -> list[PendingJob]:
        """Those of these jobs that *worker* has taken."""
        jobs = [self._jobs[key] for key in dict.fromkeys(keys) if key in self._jobs]
        return [sent for sent in jobs if sent.taker == worker]

    def taker_gone(self, worker: str) -> None:
        """*worker* has no inbox: what it had is sent again at once, in order.

        It may be dead, or reconnecting. What must not run twice, and what two other workers had that are missing,
        too, stays with it for some probes more, and fails with :class:`WorkerLost` unless they reach it.
        """
        jobs, suspect, too_long = self._takers.gone(worker, self._time())
        again, lost = _part(jobs, suspect)
        for sent in again:
            if sent.forwarded:  # it has done its part
                self._takers.leave(sent, worker)
            else:
                self._takers.miss(sent, worker)
        self._again(again)
        if too_long:
            self._lose(lost)

    def refused(self, worker: str, keys: Iterable[str], *, unrun: bool) -> None:
        """*worker* did not run its copies of these jobs.

        :param unrun: whether no one else did either, so that they are sent again in their time; otherwise the
            broker had given them to somebody before. Who has acked a job answers for it; without an ack it is sent
            again at once, or, if it must not run twice, fails with :class:`WorkerLost`.
        """
        out = [sent for sent in map(self._jobs.get, keys) if sent is not None and sent.state is OUT]
        if unrun:
            for sent in out:
                self._came_back(sent)
            return
        self._lose([sent for sent in out if not sent.redeliver])
        for sent in out:
            if sent.redeliver and sent.state is OUT and self._paused_at is None:
                self._out.move_to_end(sent.key)
                self._put_out(sent)

    # What the bus and the SystemManager say:

    def returned(self, key: str) -> None:
        """A copy came back, because no queue takes its address: ask who could.

        The job is sent again when it would have been, and until then keeps its place in the window: an
        address without a queue costs no more than one with a slow worker.
        """
        sent = self._jobs.get(key)
        if sent is not None and sent.state is OUT:
            self._came_back(sent)
            self._ask(sent.address)

    def _came_back(self, sent: PendingJob) -> None:
        sent.unrun = True
        sent.loose = max(0, sent.loose - 1)

    def nobody(self, address: str) -> None:
        """Nobody can take jobs for *address*: those that no one has fail with :class:`NoWorkerAvailable`.

        A job that was taken may be running, at a worker that is off the bus. So may one of which several copies left
        and did not come back: there was a queue for longer than a worker takes to ack, unless its event loop stands.
        These wait on.
        """
        if address not in self._lines:
            return
        out = [sent for sent in self._out.values() if sent.address == address]
        untaken = [sent.key for sent in (*out, *self._lines[address].waiting.values()) if not _may_run(sent)]
        for sent in self._end(untaken):
            note = (
                " (a copy of the job reached a queue, and nobody said that it took it)" if sent.loose else ""
            )
            self._fail(sent, NoWorkerAvailable(f"{NO_WORKER_TEXT}: {address}{note}"))

    # Where a job is:

    def _line(self, address: str) -> _Line:
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line()
        return line

    def _refill(self, address: str) -> None:
        line = self._lines.get(address)
        while line is not None and line.waiting and line.out < self._window and self._paused_at is None:
            _, sent = line.waiting.popitem(last=False)
            line.out += 1
            self._put_out(sent)

    def _put_out(self, sent: PendingJob) -> None:
        sent.state = OUT
        sent.copies += 1
        sent.loose += 1
        sent.unrun = False
        self._await_ack(sent)
        if sent.copies == 1:
            sent.left = sent.due - self._retry
        else:
            self._ask(sent.address)
        self._safely(self._publish, sent)

    def _await_ack(self, sent: PendingJob) -> None:
        sent.due = self._time() + self._retry
        self._out[sent.key] = sent

    def _taken(self, sent: PendingJob, worker: str) -> None:
        self._withdraw(sent)
        self._takers.take(sent, worker, self._time())
        self._refill(sent.address)
        self._safely(sent.owner.accepted, worker)

    def _again(self, jobs: list[PendingJob]) -> None:
        """Send to others, in order, what nobody has any more."""
        for sent in reversed(jobs):
            sent.state, sent.taker = WAITING, None
            waiting = self._line(sent.address).waiting
            waiting[sent.key] = sent
            waiting.move_to_end(sent.key, last=False)
        for address in {sent.address: None for sent in jobs}:
            self._refill(address)

    def _lose(self, jobs: list[PendingJob]) -> None:
        """Fail jobs that must not run once more, and may have run."""
        for sent in self._end([sent.key for sent in jobs]):
            self._fail(sent, WorkerLost(_obituary(sent)))

    def _end(self, keys: Iterable[str]) -> list[PendingJob]:
        """End those that are here, and let others take their places only when all have left."""
        jobs = [sent for sent in map(self._remove, keys) if sent is not None]
        for address in {sent.address: None for sent in jobs}:
            self._refill(address)
        return jobs

    def _end_one(self, key: str) -> PendingJob | None:
        sent = self._remove(key)
        if sent is not None:
            self._refill(sent.address)
        return sent

    def _remove(self, key: str) -> PendingJob | None:
        sent = self._jobs.pop(key, None)
        if sent is not None:
            self._withdraw(sent)
            if sent.lost:
                self._takers.forget(sent)
            self._bytes -= sent.size
            sent.state = ENDED
        return sent

    def _withdraw(self, sent: PendingJob) -> None:
        """Take it from where its state says that it is."""
        if sent.state is TAKEN and sent.taker is not None:
            self._takers.leave(sent, sent.taker)
            return
        if sent.state is KEPT:
            return
        line = self._lines[sent.address]
        if sent.state is OUT:
            del self._out[sent.key]
            line.out -= 1
        else:
            del line.waiting[sent.key]
        if not (line.out or line.waiting):
            del self._lines[sent.address]

    # What is due:

    def _run_timer(self) -> None:
        if self._timer is None:
            self._expected = self._clock.seconds() + self._tick
            self._timer = self._clock.callLater(self._tick, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        # Late means that this process stood still: what the others said meanwhile may wait to be read.
        late = self._clock.seconds() - self._expected > _LATE
        self._skipped = late and not self._skipped
        if not self._skipped:
            self._expire()
            self._asked.forget(self._clock.seconds())
            self._abandoned.forget(self._clock.seconds())
            self._resend()
            self._probe_takers()
        if self._skipped or self._jobs or self._asked or self._abandoned:
            self._run_timer()

    def _time(self, now: float | None = None) -> float:
        """The copies' time: the clock's, which is *now*, without the pauses."""
        if self._paused_at is not None:
            now = self._paused_at
        return (self._clock.seconds() if now is None else now) - self._stood

    def _expire(self) -> None:
        now = self._clock.seconds()
        due = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heappop(self._deadlines)
            if key in self._jobs and self._jobs[key].deadline == deadline:
                due.append(key)
        stories = [self._story(self._jobs[key]) for key in due]  # before they leave their lines
        for sent, story in zip(self._end(due), stories, strict=True):
            self._tell_taker(sent)
            self._fail(sent, JobTimeout(story))
        if len(self._deadlines) > 2 * len(self._jobs):  # mostly stale
            self._deadlines = [(sent.deadline, key) for key, sent in self._jobs.items()]
            heapify(self._deadlines)

    def _resend(self) -> None:
        now = self._time()
        while self._out and self._paused_at is None:
            sent = next(iter(self._out.values()))
            if sent.due > now:
                break
            self._out.move_to_end(sent.key)
            if sent.redeliver or sent.unrun:
                self._put_out(sent)
            else:  # its one copy may wait at the broker until the deadline
                self._await_ack(sent)
                self._ask(sent.address)

    def _probe_takers(self) -> None:
        now = self._time()
        while self._paused_at is None and (due := self._takers.next_due(now)) is not None:
            self._safely(self._probe, *due)

    def _ask(self, address: str) -> None:
        if address not in self._asked:
            self._asked.add(address, self._clock.seconds())
            self._safely(self._inquire, address)

    # What others are told:

    def _story(self, sent: PendingJob) -> str:
        """What became of a job until its deadline."""
        lived = self._clock.seconds() - sent.added
        stood = lived - (self._time() - sent.began)
        parts = [f"{sent.address} gave no result within {lived:.1f} s: {self._whereabouts(sent)}"]
        if sent.lost:
            parts.append(f"taken before by {', '.join(sent.lost)}, missing since")
        if stood >= _WORTH_SAYING:
            parts.append(f"for {stood:.1f} s nothing could be published: {self._obstacle or 'it was paused'}")
        return "; ".join(parts)

    def _whereabouts(self, sent: PendingJob) -> str:
        if sent.state is KEPT:
            if not sent.stored:
                return "the broker has not confirmed that it has the job"
            taken = f"{sent.heard} took it" if sent.heard else "nobody has taken it yet"
            return f"the broker has the job, and it may be done yet; {taken}"
        if not sent.copies and sent.taker is None:
            line = self._lines[sent.address]
            return (
                f"not sent; {line.out} jobs for the address were sent and untaken, {len(line.waiting)} waited"
            )
        times = "once" if sent.copies == 1 else f"{sent.copies} times"
        sends = f"sent {times}, first after {sent.left - sent.began:.1f} s"
        if sent.taker is not None:
            return f"{sends}, taken by {sent.taker} after {sent.since - sent.began:.1f} s"
        if not sent.loose:
            return f"{sends}, taken by nobody, as no queue was there for it"
        return f"{sends}; nobody has said that it took it: all are busy, or whoever has it cannot answer"

    def _fail(self, sent: PendingJob, error: JobError) -> None:
        self._safely(self._gave_up, error)
        self._safely(sent.owner.failed, error)

    def _tell_taker(self, sent: PendingJob) -> None:
        """Nobody awaits it any more."""
        if sent.taker is not None:
            self._safely(self._cancel, sent.taker, sent.key)
        elif sent.copies and self._closed is None:
            self._abandon(sent.key)

    def _abandon(self, key: str) -> None:
        """Somebody may be taking it now, and is told when the ack comes."""
        self._abandoned.add(key, self._clock.seconds())
        self._run_timer()

    def _safely(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception:  # one owner's mistake must not cost the others their jobs
            self._log.failure("{function} failed; the other jobs go on", function=function, recurring=True)


def _part(jobs: list[PendingJob], suspect: PendingJob | None) -> tuple[list[PendingJob], list[PendingJob]]:
    """Of jobs whose taker has them no more: those that may be sent to another one, and the others.

    :param suspect: the one that it took last.
    """
    again: list[PendingJob] = []
    lost: list[PendingJob] = []
    for sent in jobs:
        deadly = len(sent.lost) + 1 >= _LOSSES or (sent is suspect and len(sent.blamed) + 1 >= _DEATHS)
        may = sent.redeliver and (sent.forwarded or not deadly)
        (again if may else lost).append(sent)
    return again, lost


def _may_run(sent: PendingJob) -> bool:
    """Whether somebody who is off the bus may run an untaken job."""
    return sent.heard is not None or sent.loose > _ASTRAY


def _obituary(sent: PendingJob) -> str:
    who = sent.taker or "a worker that did not say that it took it"
    if not sent.redeliver:
        return f"it may have run at {who}, which is gone"
    return f"{', '.join((*sent.lost, who))} took it, and none has it any more: it may be what ends them"
