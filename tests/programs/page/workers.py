"""The workers of a system with something to see: a shop, its stock and prices, and a bank that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall

from txmicro import Forward, Job, JobError, JobFuture, RetryPolicy, Worker

EXPIRED = ("Ada", "Bob", "Cy", "Dora", "<img src=x onerror=alert(1)>")
"""The customers whose cards have expired: one group of failures."""

CLOSED = ("Fay", "Gus", "Hal")
"""The customers of the bank that is closed: another one, of which each job has two attempts."""

REPAIRED = Path("repaired")
"""If this file is there, no job of the bank fails."""

CHARGED = Path("charged")
"""The file to which the bank writes its jobs, one on a line."""


class CardExpired(JobError):
    """An error that no further attempt can help."""


class BankClosed(JobError):
    """An error after which a job is tried again."""

    retryable = True


class Shop(Worker):
    """The sender of all jobs: the durable ones once, the others all the time."""

    type = "Shop"

    async def opened(self) -> None:
        """Send the durable jobs, and start to send the others."""
        for customer in (*EXPIRED, *CLOSED):
            await self.send("Bank:*", {"customer": customer}, durable=True).when_stored()
        self._orders = LoopingCall(self._order)
        self._orders.clock = self.reactor
        self._orders.start(0.1, now=False)

    def closed(self) -> None:
        """Send no more."""
        self._orders.stop()

    def _order(self) -> None:
        self.send("Stock:*", {"item": "apples"})

    def treat_error(self, error: JobError, job: JobFuture) -> None:
        """Do nothing: the failures are wanted."""


class Stock(Worker):
    """A worker that forwards its jobs."""

    type = "Stock"

    async def do_job(self, job: Job) -> Forward:
        """Forward the job to the prices."""
        return Forward("Price:*", job.data)


class Price(Worker):
    """A worker that answers."""

    type = "Price"

    async def do_job(self, job: Job) -> int:
        """Return the price."""
        return len(job.data["item"])


class Bank(Worker):
    """A worker whose jobs fail until it is repaired."""

    type = "Bank"
    retry = RetryPolicy(attempts=2, steps=(0.2,))

    def opened(self) -> None:
        """Start with no charges."""
        self.charged: list[Any] = []

    async def do_job(self, job: Job) -> str:
        """Charge a customer, or fail."""
        customer = job.data["customer"]
        if not REPAIRED.exists():
            self.log.warn("cannot charge {customer}", customer=customer)
            if customer in EXPIRED:
                raise CardExpired(f"the card of '{customer}' has expired")
            raise BankClosed("the bank does not answer within 5 s")
        self.charged.append({"job": job.id, "customer": customer})
        CHARGED.write_text(json.dumps(self.charged))
        return f"charged {customer}"
