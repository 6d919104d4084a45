"""Workers that subscribe to the events of a shop."""

from __future__ import annotations

from txmicro import Job, Worker


class Dashboard(Worker):
    """A worker that counts orders. Each dashboard gets each event."""

    type = "Dashboard"

    async def opened(self) -> None:
        """Subscribe before the first job arrives."""
        self.orders = 0
        await self.subscribe("order.*", self.count)

    def count(self, topic: str, order: str) -> None:
        """Count one order."""
        self.orders += 1

    async def do_job(self, job: Job) -> int:
        """Return how many orders this dashboard has counted."""
        return self.orders


class Mailer(Worker):
    """A worker that sends a mail for each order. The mailers are a group: one of them gets each event."""

    type = "Mailer"

    async def opened(self) -> None:
        """Subscribe as a group."""
        await self.subscribe("order.*", self.mail, group=True)

    def mail(self, topic: str, order: str) -> None:
        """Send the mail, and publish that it was sent."""
        self.publish("mail.sent", f"{self.id} sent a mail about the {order}")
