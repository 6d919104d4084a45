"""Publish four orders to two dashboards, which each get them all, and to two mailers, which share them."""

from __future__ import annotations

from twisted.internet.defer import DeferredQueue
from twisted.internet.task import react

from txmicro.testing import running

from .workers import Dashboard, Mailer

ORDERS = ["book", "lamp", "chair", "table"]


async def main(reactor: object) -> None:
    """Print who sent which mail, and what each dashboard has counted."""
    dashboards = [Dashboard(id="Dashboard:1"), Dashboard(id="Dashboard:2")]
    mailers = [Mailer(id="Mailer:1"), Mailer(id="Mailer:2")]
    async with running(*dashboards, *mailers) as client:
        mails: DeferredQueue[str] = DeferredQueue()
        await client.subscribe("mail.sent", lambda topic, text: mails.put(text))
        for order in ORDERS:
            client.publish("order.paid", order)
        for _ in ORDERS:
            print(await mails.get())
        for dashboard in dashboards:
            print(f"{dashboard.id} has counted {await client.send(dashboard.id)} orders")


react(main)
