"""Measures job round trips of all systems in turn: one sender process, one worker process, a small dict in
MessagePack.
"""

from __future__ import annotations

from typing import Any

from .bench import Context
from .programs import PATIENCE, Program
from .systems import System

NAME = "jobs"
SIZE = 64
"""Bytes of the text in the dict."""


async def measure(context: Context) -> None:
    """Measure each system once in each round, with new processes each time."""
    rounds, seconds, levels = (1, 0.7, (1, 100)) if context.quick else (3, 2.0, (1, 16, 100, 500))
    for _ in range(rounds):
        for system in context.systems:
            if system.name not in context.absent:
                with context.attempt(system.name):
                    measure_one(context, system, seconds, levels)


def measure_one(context: Context, system: System, seconds: float, levels: tuple[int, ...]) -> None:
    """Measure one system with several numbers of jobs in flight."""
    with context.pair(system) as (worker, sender):
        ask(worker, sender, levels[-1], seconds / 3, SIZE)  # until caches are warm
        for in_flight in levels:
            values = ask(worker, sender, in_flight, seconds, SIZE)
            context.record(NAME, system.name, {"in_flight": in_flight}, values)


def ask(worker: Program, sender: Program, in_flight: int, seconds: float, size: int) -> dict[str, Any]:
    """Let *sender* measure; return the values of a sample. The processor time is in µs per job."""
    before = worker.cpu(), sender.cpu()
    answer = sender.ask(f"{in_flight} {seconds} {size}", seconds + PATIENCE)
    jobs = answer["jobs"]
    return {
        "per_second": jobs / answer["seconds"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "worker_us": (worker.cpu() - before[0]) / jobs * 1e6,
        "sender_us": (sender.cpu() - before[1]) / jobs * 1e6,
    }
