"""Job round trips: one sender process, one worker process, a small dict in MessagePack, all systems in turn."""

from __future__ import annotations

from typing import Any

from .bench import Stage
from .programs import PATIENCE, Program
from .systems import System

NAME = "jobs"
SIZE = 64
"""Bytes of the text in the dict."""


async def measure(stage: Stage) -> None:
    """Measure each system once in each round; a fresh pair of processes each time."""
    rounds, seconds, levels = (1, 0.7, (1, 100)) if stage.quick else (3, 2.0, (1, 16, 100, 500))
    for _ in range(rounds):
        for system in stage.systems:
            if system.name not in stage.absent:
                with stage.attempt(system.name):
                    measure_one(stage, system, seconds, levels)


def measure_one(stage: Stage, system: System, seconds: float, levels: tuple[int, ...]) -> None:
    """Measure one system at several numbers of jobs in flight."""
    with stage.pair(system) as (worker, sender):
        ask(worker, sender, levels[-1], seconds / 3, SIZE)  # until caches are warm
        for in_flight in levels:
            values = ask(worker, sender, in_flight, seconds, SIZE)
            stage.record(NAME, system.name, {"in_flight": in_flight}, values)


def ask(worker: Program, sender: Program, in_flight: int, seconds: float, size: int) -> dict[str, Any]:
    """Have *sender* measure; gives the values of a sample, processor time in µs a job."""
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
