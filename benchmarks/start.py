"""Measures the time from exec to the announcement, and a worker's memory when idle and after many jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .bench import Context
from .programs import Program, twistd
from .systems import SYSTEMS

NAME = "start"
FURTHER = 50
"""The number of further workers in the process that has more than one."""
IN_FLIGHT = 100
SIZE = 64
KB, MB = 1e3, 1e6


async def measure(context: Context) -> None:
    """Start workers, then let one of them run many jobs."""
    for _ in range(3 if context.quick else 10):
        with context.attempt("start"):
            values = _start(context)
            context.record(NAME, "txmicro", {"workers": 1}, values)
    with context.attempt("many jobs"):
        context.record(
            NAME, "txmicro", {"in_flight": IN_FLIGHT}, _many(context, 20_000 if context.quick else 1_000_000)
        )


def _start(context: Context) -> dict[str, float]:
    began = time.monotonic()
    with worker(context, 1) as alone:
        announced = time.monotonic() - began
        idle = alone.rss()
    with worker(context, 1 + FURTHER) as crowded:
        further = (crowded.rss() - idle) / FURTHER
    return {"announced_s": announced, "rss_idle_mb": idle / MB, "rss_kb_per_further_worker": further / KB}


@contextmanager
def worker(context: Context, count: int) -> Iterator[Program]:
    """Run a process with *count* workers, all of them announced."""
    line = f"txmicro-worker --class benchmarks.crowd:Echo --count {count}"
    settings = {
        "TXMICRO_BROKER_URL": context.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
    }
    with Program(twistd(line), context.log("start"), settings) as program:
        for _ in range(count):
            program.says("is ready")
        yield program


def _many(context: Context, jobs: int) -> dict[str, float]:
    """Return the RSS of a worker after a tenth of the jobs, when its caches are full, and after all of them."""
    with context.pair(SYSTEMS[0]) as (worker, sender):
        done = _do(sender, 0, jobs // 10)
        warm = worker.rss()
        done = _do(sender, done, jobs)
        return {
            "jobs": done,
            "rss_warm_mb": warm / MB,
            "rss_then_mb": worker.rss() / MB,
            "rss_sender_mb": sender.rss() / MB,
        }


def _do(sender: Program, done: int, jobs: int) -> int:
    while done < jobs:
        done += sender.ask(f"{IN_FLIGHT} 1 {SIZE}")["jobs"]
    return done
