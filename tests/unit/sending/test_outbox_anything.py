from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.outbox import TICK, RecordingOwner, leftovers
from txmicro.errors import JobError, RemoteError
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import ENDED, OUT, WAITING, PendingJob


class NotedRequests:
    """Records the requests of the outbox."""

    def __init__(self, clock: Clock, events: list[tuple[Any, ...]]) -> None:
        self._clock = clock
        self._events = events

    def inquire(self, address: str) -> None:
        self._events.append(("inquire", address, self._clock.seconds()))

    def probe(self, worker: str, keys: list[str]) -> None:
        self._events.append(("probe", worker))

    def cancel(self, worker: str, key: str) -> None:
        self._events.append(("cancel", key))

    def record_failure(self, error: JobError) -> None:
        """Do not record it."""


class AnythingMayHappen(RuleBasedStateMachine):
    """Acks, losses, returns and pauses in any order: the window keeps its limit, and each job ends once."""

    workers = st.sampled_from(["WB:1", "WB:2", "WB:3", "WB:4"])
    addresses = st.sampled_from(["WB:*", "WC:*"])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.jobs: list[PendingJob] = []
        self.paused = False
        self.outbox = Outbox(
            self.clock,
            self,
            NotedRequests(self.clock, self.events),
            window=3,
            tick=TICK,
        )

    def send_job(self, job: PendingJob) -> None:
        assert not self.paused
        self.events.append(("publish", job.key))

    def some(self, number: int) -> str:
        """Return a job's key, perhaps of one that has ended: messages may arrive late."""
        return self.jobs[number % len(self.jobs)].key

    @rule(address=addresses, deadline=st.integers(1, 40), count=st.integers(1, 4))
    def add(self, address: str, deadline: int, count: int) -> None:
        for _ in range(count):
            key = f"{len(self.jobs)}/0"
            at = self.clock.seconds() + deadline
            sent = PendingJob(key, key, address, b"", at, RecordingOwner(self.events, key))
            self.jobs.append(sent)
            self.outbox.add(sent)

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, numbers=st.lists(st.integers(0, 99), max_size=4))
    def acked(self, worker: str, numbers: list[int]) -> None:
        self.outbox.acked(worker, [self.some(number) for number in numbers])

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, number=st.integers(0, 99))
    def succeeded(self, worker: str, number: int) -> None:
        self.outbox.succeeded(self.some(number), worker, number)

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def failed(self, number: int) -> None:
        self.outbox.failed(self.some(number), RemoteError("no"))

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def returned(self, number: int) -> None:
        self.outbox.returned(self.some(number))

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        self.outbox.cancel(self.some(number))

    @precondition(lambda self: self.jobs)
    @rule(
        worker=workers,
        running=st.integers(0, 99),
        forwarded=st.integers(0, 99),
        unknown=st.lists(st.integers(0, 99), max_size=4),
    )
    def status(self, worker: str, running: int, forwarded: int, unknown: list[int]) -> None:
        keys = [self.some(number) for number in unknown]
        self.outbox.status(worker, [self.some(running)], [self.some(forwarded)], keys)

    @precondition(lambda self: self.jobs)
    @rule(worker=workers, number=st.integers(0, 99), unrun=st.booleans())
    def refused(self, worker: str, number: int, unrun: bool) -> None:
        self.outbox.refused(worker, [self.some(number)], unrun=unrun)

    @rule(worker=workers)
    def taker_gone(self, worker: str) -> None:
        self.outbox.taker_gone(worker)

    @rule(address=addresses)
    def nobody(self, address: str) -> None:
        self.outbox.no_worker(address)

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.outbox.pause()

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.outbox.resume()

    @rule(ticks=st.integers(1, 40))
    def wait(self, ticks: int) -> None:
        self.clock.pump([TICK] * ticks)

    @rule(seconds=st.integers(1, 5))
    def stand_still(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_window_holds_and_is_used(self) -> None:
        for address in ("WB:*", "WC:*"):
            states = Counter(job.state for job in self.jobs if job.address == address)
            assert states[OUT] <= 3
            assert self.paused or states[OUT] == 3 or not states[WAITING]

    @invariant()
    def those_that_have_not_ended_are_here(self) -> None:
        assert len(self.outbox) == sum(job.state != ENDED for job in self.jobs)

    def teardown(self) -> None:
        self.resume()
        self.clock.pump([TICK] * int(45 / TICK))
        ended = Counter(event[1] for event in self.events if event[0] in ("done", "failed"))
        assert ended == {job.key: 1 for job in self.jobs}
        assert leftovers(self.outbox) == {}
        assert self.clock.getDelayedCalls() == []
        for address in ("WB:*", "WC:*"):
            asked = [event[2] for event in self.events if event[:2] == ("inquire", address)]
            assert all(later - earlier >= 2 for earlier, later in pairwise(asked))


class AnythingMayHappenTests(SynchronousTestCase):
    def test_each_job_ends_once_and_nothing_is_left(self) -> None:
        run_state_machine_as_test(
            AnythingMayHappen,
            settings=settings(max_examples=60, stateful_step_count=40),
        )
