"""Workers that each do one step of an order."""

from __future__ import annotations

from typing import Any

from txmicro import Forward, Job, Worker

PRICES = {"apples": 40, "pears": 50}
"""Cents apiece."""

LIMIT = 100_00
"""Cents above which a person has to approve an order."""


class Parser(Worker):
    """A worker that takes a text such as ``3 apples`` and returns an order."""

    type = "Parser"

    async def do_job(self, job: Job) -> dict[str, Any]:
        """Return the count and the item."""
        count, item = job.data.split()
        return {"count": int(count), "item": item}


class Pricer(Worker):
    """A worker that takes an order and returns it with its total."""

    type = "Pricer"

    async def do_job(self, job: Job) -> dict[str, Any]:
        """Return the order with its total in cents."""
        order = job.data
        return {**order, "total": order["count"] * PRICES[order["item"]]}


class Desk(Worker):
    """A worker that decides which worker goes on with a priced order."""

    type = "Desk"

    async def do_job(self, job: Job) -> Forward:
        """Forward the order. The result goes from the next worker straight to the sender."""
        return Forward("Approval:*" if job.data["total"] > LIMIT else "Invoice:*", job.data)


class Invoice(Worker):
    """A worker that takes a small order and returns its invoice."""

    type = "Invoice"

    async def do_job(self, job: Job) -> str:
        """Return the text of the invoice."""
        return "Invoice: {count} {item}, {total} cents".format(**job.data)


class Approval(Worker):
    """A worker that takes a large order and returns the request to approve it."""

    type = "Approval"

    async def do_job(self, job: Job) -> str:
        """Return the text of the request."""
        return "To be approved: {count} {item}, {total} cents".format(**job.data)
