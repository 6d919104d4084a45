"""How often a durable job is tried, and how long it waits between two attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from txmicro.errors import JobError, RemoteError

STEPS: Final = (1.0, 5.0, 30.0, 120.0)
"""Seconds before the second, third, … attempt. The last step counts for all later attempts, too."""

LONGEST: Final = 24 * 3600.0
"""The longest step, in seconds. Each step is a queue of the type at the broker."""


def is_retryable(error: BaseException) -> bool:
    """Return whether a later attempt may succeed: as a JobError says, and True for an exception that is unexpected.

    A RemoteError is one that was unexpected at the worker whose job the handler awaited.
    """
    return error.retryable if isinstance(error, JobError) and not isinstance(error, RemoteError) else True


@dataclass(frozen=True)
class RetryPolicy:
    """Decides whether and when a durable job whose handler failed is tried again.

    :ivar attempts: how often it is tried, the first time included.
    :ivar steps: seconds before the second, third, … attempt.
    :ivar retryable: whether to try again after an error; otherwise it is given up at once.
    """

    attempts: int = 5
    steps: tuple[float, ...] = STEPS
    retryable: Callable[[BaseException], bool] = is_retryable

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: a job is tried at least once")
        if not self.steps or not all(0.001 <= step <= LONGEST for step in self.steps):
            raise ValueError(f"steps are {self.steps}: expected seconds, each from 0.001 to {LONGEST:g}")

    def next(self, attempt: int, attempts: int | None, error: BaseException) -> float | None:
        """Return the seconds to wait after *attempt* (1 is the first) failed with *error*; None: give the job up.

        *attempts*, if the sender asked for a number of its own, counts instead of this policy's.
        """
        if attempt >= (attempts or self.attempts) or not self.retryable(error):
            return None
        return self.steps[min(attempt, len(self.steps)) - 1]
