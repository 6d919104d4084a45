"""Send orders along a routing slip and print what comes back."""

from __future__ import annotations

from twisted.internet.task import react

from txmicro.testing import running

from .workers import Approval, Desk, Invoice, Parser, Pricer

SLIP = ["Parser:*", "Pricer:*", "Desk:*"]
"""Each worker's result is the data of the next one."""


async def main(reactor: object) -> None:
    """Send a priced order, a small one and a large one."""
    async with running(Parser(), Pricer(), Desk(), Invoice(), Approval()) as client:
        print(await client.send(SLIP[:2], "3 apples"))
        print(await client.send(SLIP, "3 apples"))
        print(await client.send(SLIP, "900 pears"))


react(main)
