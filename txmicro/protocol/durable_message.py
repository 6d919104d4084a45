"""A durable job's message, as the broker delivered it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import topology
from .delivery import Delivery
from .durable_headers import ATTEMPT, ATTEMPTS, COUNT, number
from .job import Job


@dataclass(slots=True, eq=False)
class DurableMessage:
    """A durable job's message, as the broker delivered it.

    :ivar job: the job in it; None: it cannot be read.
    :ivar deliveries: its delivery, and those of the same job that joined it; each is settled once.
    :ivar quarantined: whether it comes from the quarantine.
    """

    job: Job | None
    key: str
    body: bytes
    content_type: str | None
    deliveries: list[Delivery]
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
        """True if the quarantine has returned it as often as it may: it ends each worker that runs it."""
        return self.quarantined and number(self.headers, COUNT, 0) >= topology.DELIVERY_LIMIT

    def is_again(self, other: DurableMessage) -> bool:
        """Return whether this may be the message *other*, delivered again, and not one that was made of it."""
        return self.redelivered and (self.key, self.attempt, self.quarantined) == (
            other.key,
            other.attempt,
            other.quarantined,
        )

    def join(self, other: DurableMessage) -> None:
        """Settle *other*, which is the same job, together with this one."""
        self.redelivered |= other.redelivered or other.quarantined
        self.deliveries += other.deliveries

    def ack(self) -> None:
        """Tell the broker that the message is done."""
        for delivery in self.deliveries:
            delivery.ack()

    def requeue(self) -> None:
        """Return the message to its queue."""
        for delivery in self.deliveries:
            delivery.requeue()
