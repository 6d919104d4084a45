from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import JobError
from txmicro.stores import StoreError, StoreTimeout
from txmicro.stores.batching import MAX_BATCH, Batcher, Operation


class BatcherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batches: list[tuple[Sequence[Operation], Deferred[list[Any]]]] = []
        self.batcher = self.make(1)

    def make(self, concurrency: int) -> Batcher[Operation]:
        return Batcher(self.clock, self.run_batch, lambda error: StoreError(str(error)), concurrency)

    def run_batch(self, operations: Sequence[Operation]) -> Deferred[list[Any]]:
        self.batches.append((operations, Deferred()))
        return self.batches[-1][1]

    def add(self, number: int, deadline: float = 10) -> list[Operation]:
        operations = [Operation(deadline) for _ in range(number)]
        for operation in operations:
            self.batcher.add(operation)
        return operations

    def test_operations_that_arrive_during_a_batch_form_the_next_one(self) -> None:
        operations = self.add(3)
        self.assertEqual([batch for batch, _ in self.batches], [operations[:1]])
        self.batches[0][1].callback(["first"])
        self.assertEqual([batch for batch, _ in self.batches], [operations[:1], operations[1:]])
        self.batches[1][1].callback(["second", StoreError("third")])
        self.assertEqual(
            [self.successResultOf(operation.done) for operation in operations[:2]], ["first", "second"]
        )
        self.failureResultOf(operations[2].done, StoreError)

    def test_a_batch_has_a_limit(self) -> None:
        self.add(MAX_BATCH + 2)
        self.batches[0][1].callback([None])
        self.batches[1][1].callback([None] * MAX_BATCH)
        self.assertEqual([len(batch) for batch, _ in self.batches], [1, MAX_BATCH, 1])

    def test_several_batches_may_run_at_a_time(self) -> None:
        self.batcher = self.make(2)
        self.add(5)
        self.batches[1][1].callback([None])
        self.assertEqual([len(batch) for batch, _ in self.batches], [1, 1, 3])

    def test_a_failure_of_a_batch_fails_each_operation(self) -> None:
        operations = self.add(1)
        self.batches[0][1].errback(ZeroDivisionError("odd"))
        self.assertEqual(str(self.failureResultOf(operations[0].done, StoreError).value), "odd")

    def test_an_operation_after_its_deadline_is_not_run(self) -> None:
        self.add(1)
        late, good = self.add(1, deadline=1) + self.add(1)
        self.clock.advance(1)
        self.batches[0][1].callback([None])
        self.failureResultOf(late.done, StoreTimeout)
        self.assertEqual(self.batches[1][0], [good])

    def test_no_batch_runs_if_all_deadlines_have_passed(self) -> None:
        self.add(1)
        late = self.add(2, deadline=1)
        self.clock.advance(1)
        self.batches[0][1].callback([None])
        for operation in late:
            self.failureResultOf(operation.done, StoreTimeout)
        self.assertEqual(len(self.batches), 1)

    def test_a_canceled_operation_runs_to_its_end(self) -> None:
        (operation,) = self.add(1)
        operation.done.cancel()
        self.batches[0][1].callback(["done"])
        self.failureResultOf(operation.done, CancelledError)

    def test_it_is_idle_when_no_operation_waits_or_runs(self) -> None:
        self.add(2)
        idle = Deferred.fromCoroutine(self.batcher.when_idle())
        self.batches[0][1].callback([None])
        self.assertNoResult(idle)
        self.batches[1][1].callback([None])
        self.successResultOf(idle)
        self.successResultOf(Deferred.fromCoroutine(self.batcher.when_idle()))


class OperationTests(SynchronousTestCase):
    def test_an_outcome_that_is_an_error_fails_it(self) -> None:
        operation = Operation(1)
        operation.finish(JobError("no"))
        self.failureResultOf(operation.done, JobError)
