"""A durable job's message, as the broker delivered it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import topology
from .durable_headers import ATTEMPT, ATTEMPTS, COUNT, number
from .job import Job


@dataclass(slots=True, eq=False)
class Delivery:
    """A durable job's message, as the broker delivered it.

    :ivar job: what is in it; None: it cannot be read.
    :ivar settle: True acknowledges it to the broker, False gives it back. Called at most once.
    :ivar quarantined: it comes from the quarantine.
    """

    job: Job | None
    key: str
    body: bytes
    content_type: str | None
    settle: Callable[[bool], None]
    headers: dict[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    quarantined: bool = False

    @property
    def attempt(self) -> int:
        """Which attempt this is; 1 is the first."""
        return max(1, number(self.headers, ATTEMPT, 1))

    @property
    def attempts(self) -> int | None:
        """How many attempts the sender wants; None: it did not say."""
        return number(self.headers, ATTEMPTS, 0) or None

    @property
    def deadly(self) -> bool:
        """Whether it has come back from the quarantine as often as it may: it ends whoever runs it."""
        return self.quarantined and number(self.headers, COUNT, 0) >= topology.DELIVERY_LIMIT

    def is_again(self, other: Delivery) -> bool:
        """Whether this may be the message *other*, which came before; and not one that was made of it."""
        return self.redelivered and (self.key, self.attempt, self.quarantined) == (
            other.key,
            other.attempt,
            other.quarantined,
        )

    def join(self, other: Delivery) -> None:
        """*other* is the same job: settle both as one."""
        self.redelivered |= other.redelivered or other.quarantined
        first, second = self.settle, other.settle

        def settle(done: bool) -> None:
            first(done)
            second(done)

        self.settle = settle
