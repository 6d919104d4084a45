"""Send a durable job that succeeds at its second attempt, and one that becomes a dead letter."""

from __future__ import annotations

from twisted.internet.task import react

from txmicro.testing import running

from .workers import Billing, CardExpired


async def main(reactor: object) -> None:
    """Print what happens to both jobs."""
    async with running(Billing()) as client:
        job = client.send("Billing:*", {"customer": "Ada", "card": "valid"}, durable=True)
        await job.when_stored()
        print("stored: from now on the broker keeps the job until it is done")
        print(f"done: {await job}")
        try:
            await client.send("Billing:*", {"customer": "Bob", "card": "expired"}, durable=True)
        except CardExpired as error:
            print(f"moved to the dead letters: {error.message}")


react(main)
