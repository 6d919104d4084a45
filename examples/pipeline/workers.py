"""Workers that each do one step of an order."""

from __future__ import annotations

from typing import Any

from txmicro import Forward, Job, Worker

PRICES = {"apples": 40, "pears": 50}
"""Cents apiece."""

LIMIT = 100_00
"""Cents above which a person has to approve an order."""


class Parser(Worker):
    """Takes a text such as ``3 apples``; returns the order."""

    type = "Parser"

    async def do_job(self, job: Job) -> dict[str, Any]:
        """Return the order's count and item."""
        count, item = job.data.split()
        return {"count": int(count), "item": item}


class Pricer(Worker):
    """Takes an order; returns it with its total."""

    type = "Pricer"

    async def do_job(self, job: Job) -> dict[str, Any]:
        """Return the order and what it costs."""
        order = job.data
        return {**order, "total": order["count"] * PRICES[order["item"]]}


class Desk(Worker):
    """Takes an order with its total; decides which worker goes on with it."""

    type = "Desk"

    async def do_job(self, job: Job) -> Forward:
        """Forward the order. The result goes from the next worker straight to the sender."""
        return Forward("Approval:*" if job.data["total"] > LIMIT else "Invoice:*", job.data)


class Invoice(Worker):
    """Takes a small order; returns its invoice."""

    type = "Invoice"

    async def do_job(self, job: Job) -> str:
        """Return the text of the invoice."""
        return "Invoice: {count} {item}, {total} cents".format(**job.data)


class Approval(Worker):
    """Takes a large order; returns the request to approve it."""

    type = "Approval"

    async def do_job(self, job: Job) -> str:
        """Return the text of the request."""
        return "To be approved: {count} {item}, {total} cents".format(**job.data)
