"""A worker that charges cards through an unreliable bank, and a shop that sends it durable jobs."""

from __future__ import annotations

from txmicro import Job, JobError, RetryPolicy, Worker


class CardExpired(JobError):
    """An error that no further attempt can help: ``retryable`` is false by default."""


class Billing(Worker):
    """A worker that charges a card. Its bank does not answer the first attempt for a customer."""

    type = "Billing"
    retry = RetryPolicy(attempts=3, steps=(0.5,))  # at most 3 attempts, half a second apart

    def opened(self) -> None:
        """Start with no known customers."""
        self.known: set[str] = set()

    async def do_job(self, job: Job) -> str:
        """Return a receipt, or raise what kept the card from being charged."""
        customer = job.data["customer"]
        if job.data["card"] == "expired":
            raise CardExpired(f"the card of {customer} has expired")
        if customer not in self.known:
            self.known.add(customer)
            raise JobError("the bank does not answer", retryable=True)
        return f"charged {customer}"


class Shop(Worker):
    """A worker that sends two jobs when it starts. The broker keeps them, so it does not wait for the results."""

    type = "Shop"

    async def opened(self) -> None:
        """Return when the broker has confirmed both jobs."""
        for customer, card in (("Ada", "valid"), ("Bob", "expired")):
            job = self.send("Billing:*", {"customer": customer, "card": card}, durable=True)
            await job.when_stored()
