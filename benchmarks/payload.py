"""Measures three payload sizes in each of the three formats, with 16 jobs in flight. A payload is transferred
twice.
"""

from __future__ import annotations

from itertools import product

from .bench import Context
from .jobs import ask
from .systems import SYSTEMS

NAME = "payload"
FORMATS = ("JSON", "BSON", "MessagePack")
SIZES = (100, 10_000, 1_000_000)
IN_FLIGHT = 16


async def measure(context: Context) -> None:
    """Measure each size and format in each round."""
    rounds, seconds = (1, 0.5) if context.quick else (3, 2.0)
    for _, format in product(range(rounds), FORMATS):
        with context.attempt(f"payload in {format}"):
            _measure(context, format, seconds)


def _measure(context: Context, format: str, seconds: float) -> None:
    with context.pair(SYSTEMS[0], "--format", format) as (worker, sender):
        for size in SIZES:
            ask(worker, sender, IN_FLIGHT, seconds / 3, size)  # until caches are warm
            values = ask(worker, sender, IN_FLIGHT, seconds, size)
            values["mb_per_second"] = values["per_second"] * size / 1e6
            case = {"in_flight": IN_FLIGHT, "format": format, "bytes": size}
            context.record(NAME, SYSTEMS[0].name, case, values)
