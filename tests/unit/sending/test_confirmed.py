"""The confirmed publisher: exact sequences of publications, and the end of each wait."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.errors import ConnectionLost, NackError
from txmicro.errors import MessageTooLarge, NotStored, WorkerStopped
from txmicro.protocol.parcel import Forbidden, Parcel, Unroutable
from txmicro.sending.confirmed import (
    CONFIRM_TIMEOUT,
    QUEUE_GRACE,
    RETRY_AFTER,
    SILENCE,
    ConfirmedPublisher,
)


def parcel(key: str, patient: bool = False) -> Parcel:
    return Parcel("txmicro.to.WB", "durable", "job", key, b"body", patient=patient)


class PublisherCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.published: list[str] = []
        self.attempts: dict[str, list[Deferred[None]]] = {}
        self.renewals = 0
        self.publisher = ConfirmedPublisher(self.clock, self)
        self.connect()
        self.addCleanup(self.check_empty)

    def connect(self) -> None:
        """Connect, and let the grace for missing queues pass."""
        self.publisher.connected()
        self.publisher.resume()
        self.clock.advance(QUEUE_GRACE)

    def publish(self, parcel: Parcel) -> Deferred[None]:
        self.published.append(parcel.key)
        attempt: Deferred[None] = Deferred()
        self.attempts.setdefault(parcel.key, []).append(attempt)
        return attempt

    def record_resend(self, parcel: Parcel, copies: int) -> None:
        """Do nothing: the attempts are counted by their publications."""

    def renew(self) -> None:
        self.renewals += 1

    def news(self) -> list[str]:
        """Return what was published since the last call."""
        published, self.published = self.published, []
        return published

    def store(self, *keys: str) -> list[Deferred[None]]:
        return [self.publisher.store(parcel(key)) for key in keys]

    def confirm(self, key: str, attempt: int = -1) -> None:
        self.attempts[key][attempt].callback(None)

    def lose(self, key: str, error: Exception | None = None, attempt: int = -1) -> None:
        self.attempts[key][attempt].errback(error or ConnectionLost("gone"))

    def check_empty(self) -> None:
        """Check that nothing is left."""
        self.assertEqual(len(self.publisher), 0)
        self.clock.advance(RETRY_AFTER)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StoredTests(PublisherCase):
    def test_it_is_published_at_once_and_stored_when_confirmed(self) -> None:
        (stored,) = self.store("a")
        self.assertEqual(self.news(), ["a"])
        self.assertNoResult(stored)
        self.assertEqual(len(self.publisher), 1)
        self.confirm("a")
        self.assertIsNone(self.successResultOf(stored))

    def test_without_a_connection_parcels_wait_in_order(self) -> None:
        self.publisher.pause()
        stored = self.store("a", "b", "c")
        self.clock.advance(1000)
        self.assertEqual(self.news(), [])
        self.publisher.resume()
        self.publisher.resume()
        self.assertEqual(self.news(), ["a", "b", "c"])
        for key, waiting in zip("abc", stored, strict=True):
            self.confirm(key)
            self.successResultOf(waiting)

    def test_parcels_lost_with_a_connection_are_published_first_on_the_next(self) -> None:
        self.store("a", "b")
        self.publisher.pause()
        self.lose("a")
        self.lose("b")
        self.store("c")
        self.clock.advance(10)
        self.assertEqual(self.news(), ["a", "b"])
        self.publisher.resume()
        self.assertEqual(self.news(), ["a", "b", "c"])
        for key in "abc":
            self.confirm(key)

    def test_a_refused_parcel_is_published_again_after_a_pause(self) -> None:
        (stored,) = self.store("a")
        for _ in range(3):
            self.lose("a", NackError("full"))
            self.clock.advance(0.5)
            self.assertEqual(self.news(), ["a"])
            self.clock.pump([0.5] * 3)
        self.confirm("a")
        self.successResultOf(stored)
        self.news()

    def test_a_parcel_that_is_too_large_fails_at_once(self) -> None:
        (stored,) = self.store("a")
        self.lose("a", MessageTooLarge("20 MB"))
        self.failureResultOf(stored, MessageTooLarge)
        self.clock.advance(CONFIRM_TIMEOUT)
        self.assertEqual(self.news(), ["a"])

    def test_a_patient_parcel_that_is_too_large_is_published_again(self) -> None:
        stored = self.publisher.store(parcel("a", patient=True))
        self.lose("a", MessageTooLarge("20 MB"))
        self.assertNoResult(stored)
        self.clock.pump([RETRY_AFTER] * 2)
        self.assertEqual(self.news(), ["a", "a"])
        self.confirm("a")
        self.successResultOf(stored)

    def test_repeated_refusals_do_not_delay_the_first_parcel(self) -> None:
        """A sender continues to send to a queue that is full."""
        self.store("first")
        self.lose("first", NackError("full"))
        for number in range(20):
            key = f"late{number}"
            self.store(key)
            self.lose(key, NackError("full"))
            self.clock.advance(0.25)
            if self.published.count("first") > 1:
                break
        self.assertLessEqual(number, 8)
        for key in [key for key in self.attempts if self.publisher]:
            self.clock.advance(RETRY_AFTER)
            self.confirm(key)

    def test_a_parcel_without_a_confirm_in_time_is_published_again(self) -> None:
        (stored,) = self.store("a")
        self.clock.pump([1.0] * int(CONFIRM_TIMEOUT - 1))
        self.assertEqual(self.news(), ["a"])
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.news(), ["a"])
        self.confirm("a")
        self.successResultOf(stored)
        self.lose("a", attempt=0)

    def test_a_channel_that_is_silent_is_replaced_once_in_a_while(self) -> None:
        self.store("a", "b")
        self.clock.pump([1.0] * int(SILENCE - 1))
        self.assertEqual(self.renewals, 0)
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.renewals, 1)
        for key in ("a", "b"):
            self.lose(key)
        self.clock.pump([1.0] * int(SILENCE - 2))
        self.assertEqual(self.renewals, 1)
        self.clock.pump([1.0] * int(SILENCE))
        self.assertEqual(self.renewals, 2)
        for key in ("a", "b"):
            self.confirm(key)

    def test_a_channel_that_refuses_everything_is_replaced(self) -> None:
        self.store("a")
        for _ in range(int(SILENCE / RETRY_AFTER)):
            self.assertEqual(self.renewals, 0)
            self.lose("a", NackError("no leader"))
            self.clock.advance(RETRY_AFTER)
        self.assertEqual(self.renewals, 1)
        self.confirm("a")

    def test_a_channel_that_returns_parcels_is_not_replaced(self) -> None:
        self.publisher.store(parcel("a", patient=True))
        for _ in range(3 * int(SILENCE / RETRY_AFTER)):
            self.lose("a", Unroutable("no queue"))
            self.clock.advance(RETRY_AFTER)
        self.assertEqual(self.renewals, 0)
        self.confirm("a")

    def test_a_channel_with_confirms_is_not_replaced(self) -> None:
        for number in range(int(CONFIRM_TIMEOUT) - 1):
            self.store(str(number), f"{number} late")
            self.clock.advance(1.0)
            self.confirm(str(number))
        self.assertEqual(self.renewals, 0)
        for number in range(int(CONFIRM_TIMEOUT) - 1):
            self.confirm(f"{number} late")

    def test_a_wait_after_an_idle_time_is_no_silence(self) -> None:
        self.store("a")
        self.confirm("a")
        self.clock.pump([1.0] * int(SILENCE))
        self.store("b")
        self.clock.pump([1.0] * int(SILENCE - 1))
        self.assertEqual(self.renewals, 0)
        self.confirm("b")

    def test_one_parcel_without_a_confirm_among_others_replaces_the_channel(self) -> None:
        """Its queue has lost its leader, and the others' queues have not."""
        self.store("stuck")
        for number in range(int(CONFIRM_TIMEOUT) + 1):
            self.store(str(number))
            self.confirm(str(number))
            self.clock.advance(1.0)
        self.assertEqual(self.renewals, 1)
        self.confirm("stuck")

    def test_a_confirm_of_an_earlier_attempt_counts(self) -> None:
        (stored,) = self.store("a")
        self.clock.pump([1.0] * int(CONFIRM_TIMEOUT + 1))
        self.confirm("a", 0)
        self.successResultOf(stored)
        self.confirm("a", 1)

    def test_a_confirm_while_it_waits_counts(self) -> None:
        (stored,) = self.store("a")
        self.clock.pump([1.0] * int(CONFIRM_TIMEOUT - 1))
        self.publisher.pause()  # at this moment
        self.clock.pump([1.0] * 3)
        self.confirm("a", 0)
        self.successResultOf(stored)

    def test_the_loss_of_an_earlier_attempt_is_ignored(self) -> None:
        (stored,) = self.store("a")
        self.clock.pump([1.0] * int(CONFIRM_TIMEOUT + 1))
        self.news()
        self.lose("a", attempt=0)
        self.clock.advance(RETRY_AFTER)
        self.assertEqual(self.news(), [])
        self.confirm("a", 1)
        self.successResultOf(stored)

    def test_time_does_not_count_while_nothing_can_be_published(self) -> None:
        """While the broker blocks the connection, published messages wait in the transport's buffer."""
        (stored,) = self.store("a")
        self.clock.advance(10)
        self.publisher.pause()
        self.publisher.pause()
        self.clock.pump([1.0] * 1000)
        self.publisher.resume()
        self.clock.pump([1.0] * 15)
        self.assertEqual(self.news(), ["a"])
        self.confirm("a")
        self.successResultOf(stored)

    def test_canceling_stops_the_attempts(self) -> None:
        waiting, out, resting = self.store("waiting", "out", "resting")
        self.lose("resting")
        self.publisher.pause()
        self.news()
        (paused,) = self.store("paused")
        for stored in (waiting, out, resting, paused):
            stored.cancel()
            self.failureResultOf(stored, CancelledError)
        self.publisher.resume()
        self.clock.pump([1.0] * 40)
        self.assertEqual(self.news(), [])
        self.confirm("out")


class NotStoredTests(PublisherCase):
    def test_without_a_queue_it_is_not_stored(self) -> None:
        (stored,) = self.store("a")
        self.lose("a", Unroutable("no queue"))
        error = self.failureResultOf(stored, NotStored).value
        self.assertEqual(str(error), "no queue: it is not stored")

    def test_soon_after_a_connection_the_queue_may_only_be_late(self) -> None:
        self.publisher.connected()
        late, missing = self.store("late", "missing")
        for _ in range(int(QUEUE_GRACE)):
            self.lose("late", Unroutable("no queue"))
            self.lose("missing", Unroutable("no queue"))
            self.assertNoResult(late)
            self.clock.advance(RETRY_AFTER)
        self.confirm("late")
        self.successResultOf(late)
        self.lose("missing", Unroutable("no queue"))
        self.failureResultOf(missing, NotStored)

    def test_a_parcel_that_is_not_permitted_fails_at_once(self) -> None:
        self.publisher.connected()
        (stored,) = self.store("a")
        self.lose("a", Forbidden("no right"))
        self.failureResultOf(stored, NotStored)

    def test_a_patient_parcel_waits_for_its_queue(self) -> None:
        stored = self.publisher.store(parcel("a", patient=True))
        for _ in range(100):
            self.lose("a", Unroutable("no queue"))
            self.clock.advance(RETRY_AFTER)
        self.confirm("a")
        self.successResultOf(stored)
        self.assertEqual(len(self.published), 101)

    def test_a_missing_queue_of_an_earlier_attempt_is_ignored(self) -> None:
        (stored,) = self.store("a")
        self.clock.pump([1.0] * int(CONFIRM_TIMEOUT + 1))
        self.lose("a", Unroutable("no queue"), attempt=0)
        self.assertNoResult(stored)
        self.confirm("a", 1)
        self.successResultOf(stored)


class ClosingTests(PublisherCase):
    def test_closing_fails_all_parcels_that_are_not_stored(self) -> None:
        out, resting = self.store("out", "resting")
        self.lose("resting")
        self.publisher.pause()
        (waiting,) = self.store("waiting")
        self.publisher.close(WorkerStopped("stopped"))
        for stored in (waiting, out, resting, *self.store("late")):
            self.failureResultOf(stored, WorkerStopped)
        self.publisher.resume()
        self.news()
        self.confirm("out")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_without_parcels_does_nothing(self) -> None:
        self.publisher.close(WorkerStopped("stopped"))

    def test_the_callback_of_one_parcel_may_cancel_another(self) -> None:
        first, second = self.store("first", "second")
        first.addErrback(lambda _: second.cancel())
        self.publisher.close(WorkerStopped("stopped"))
        self.failureResultOf(second, CancelledError)


class Anything(RuleBasedStateMachine):
    """Any order of events: each parcel ends once, and is stored only if it was confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.out: list[tuple[str, Deferred[None]]] = []
        self.confirmed: set[str] = set()
        self.ended: dict[str, list[Any]] = {}
        self.waits: dict[str, Deferred[None]] = {}
        self.blocked = True
        self.publisher = ConfirmedPublisher(self.clock, self)

    def publish(self, parcel: Parcel) -> Deferred[None]:
        assert not self.blocked
        attempt: Deferred[None] = Deferred()
        self.out.append((parcel.key, attempt))
        return attempt

    def record_resend(self, parcel: Parcel, copies: int) -> None:
        """Do nothing: the attempts are counted by their publications."""

    def renew(self) -> None:
        """Do nothing: attempts are lost by a rule."""

    @rule(patient=st.booleans())
    def store(self, patient: bool) -> None:
        key = str(len(self.ended))
        self.ended[key] = []
        self.waits[key] = self.publisher.store(parcel(key, patient))
        self.waits[key].addBoth(self.ended[key].append)

    @rule(data=st.data(), how=st.sampled_from(("confirm", "lost", "nack", "returned", "forbidden")))
    def word(self, data: st.DataObject, how: str) -> None:
        if not self.out:
            return
        key, attempt = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if how == "confirm":
            self.confirmed.add(key)
            attempt.callback(None)
        else:
            attempt.errback(
                {
                    "lost": ConnectionLost("gone"),
                    "nack": NackError("full"),
                    "returned": Unroutable("no queue"),
                    "forbidden": Forbidden("no right"),
                }[how]
            )

    @rule()
    def connection_lost(self) -> None:
        self.block()
        out, self.out = self.out, []
        for _, attempt in out:
            attempt.errback(ConnectionLost("gone"))

    @rule()
    def block(self) -> None:
        self.blocked = True
        self.publisher.pause()

    @rule(new=st.booleans())
    def resume(self, new: bool) -> None:
        self.blocked = False
        if new:
            self.publisher.connected()
        self.publisher.resume()

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waits:
            self.waits[data.draw(st.sampled_from(sorted(self.waits)))].cancel()

    @invariant()
    def each_ends_once_and_as_it_should(self) -> None:
        for key, results in self.ended.items():
            assert len(results) <= 1
            if results == [None]:
                assert key in self.confirmed
        assert len(self.publisher) == sum(not results for results in self.ended.values())

    def teardown(self) -> None:
        """Let the broker confirm everything; then nothing is left."""
        self.resume(True)
        for _ in range(3):
            self.clock.advance(CONFIRM_TIMEOUT + RETRY_AFTER)
            while self.out:
                key, attempt = self.out.pop()
                self.confirmed.add(key)
                attempt.callback(None)
        self.each_ends_once_and_as_it_should()
        assert len(self.publisher) == 0
        self.clock.advance(RETRY_AFTER)
        assert self.clock.getDelayedCalls() == []


class AnythingTests(SynchronousTestCase):
    def test_anything_in_any_order(self) -> None:
        run_state_machine_as_test(
            Anything,
            settings=settings(max_examples=100, stateful_step_count=40),
        )
