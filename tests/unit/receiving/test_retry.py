from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import BadRequest, JobTimeout, RemoteError
from txmicro.receiving.retry import LONGEST, RetryPolicy

AGAIN = JobTimeout("late")  # it is retryable
NEVER = BadRequest("nonsense")


class PolicyTests(SynchronousTestCase):
    def test_steps_grow_and_the_last_one_is_repeated(self) -> None:
        policy = RetryPolicy(attempts=6, steps=(1.0, 5.0, 30.0))
        self.assertEqual(
            [policy.next(attempt, None, AGAIN) for attempt in range(1, 8)],
            [1.0, 5.0, 30.0, 30.0, 30.0, None, None],
        )

    def test_by_default_there_are_five_attempts(self) -> None:
        policy = RetryPolicy()
        self.assertEqual(
            [policy.next(attempt, None, AGAIN) for attempt in range(1, 6)], [1.0, 5.0, 30.0, 120.0, None]
        )

    def test_the_senders_number_of_attempts_applies(self) -> None:
        policy = RetryPolicy(attempts=2, steps=(1.0,))
        self.assertEqual([policy.next(attempt, 3, AGAIN) for attempt in (1, 2, 3)], [1.0, 1.0, None])
        self.assertIsNone(policy.next(1, 1, AGAIN))

    def test_an_error_says_whether_it_is_retryable(self) -> None:
        self.assertIsNone(RetryPolicy().next(1, None, NEVER))
        self.assertEqual(RetryPolicy().next(1, None, BadRequest("not yet", retryable=True)), 1.0)

    def test_an_unexpected_error_is_retryable(self) -> None:
        self.assertEqual(RetryPolicy().next(1, None, ZeroDivisionError()), 1.0)

    def test_an_unexpected_error_of_another_worker_is_retryable(self) -> None:
        self.assertEqual(RetryPolicy().next(1, None, RemoteError("broken", type="KeyError")), 1.0)

    def test_a_policy_may_say_which_errors_are_retryable(self) -> None:
        policy = RetryPolicy(retryable=lambda error: isinstance(error, BadRequest))
        self.assertEqual(policy.next(1, None, NEVER), 1.0)
        self.assertIsNone(policy.next(1, None, AGAIN))

    def test_an_invalid_policy_is_refused(self) -> None:
        self.assertRaises(ValueError, RetryPolicy, attempts=0)
        for steps in ((), (0.0,), (-1.0,), (1.0, LONGEST + 1), (float("nan"),), (float("inf"),)):
            self.assertRaises(ValueError, RetryPolicy, steps=steps)
