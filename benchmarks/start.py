"""Start and size: from exec to announced; what a worker has in memory, idle and after many jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .bench import Stage
from .programs import Program, twistd
from .systems import SYSTEMS

NAME = "start"
FURTHER = 50
"""How many workers more there are in the process that has more."""
IN_FLIGHT = 100
SIZE = 64
KB, MB = 1e3, 1e6


async def measure(stage: Stage) -> None:
    """Start workers, then have one do many jobs."""
    for _ in range(3 if stage.quick else 10):
        with stage.attempt("start"):
            values = _start(stage)
            stage.record(NAME, "txmicro", {"workers": 1}, values)
    with stage.attempt("many jobs"):
        stage.record(
            NAME, "txmicro", {"in_flight": IN_FLIGHT}, _many(stage, 20_000 if stage.quick else 1_000_000)
        )


def _start(stage: Stage) -> dict[str, float]:
    began = time.monotonic()
    with worker(stage, 1) as alone:
        announced = time.monotonic() - began
        idle = alone.rss()
    with worker(stage, 1 + FURTHER) as crowded:
        further = (crowded.rss() - idle) / FURTHER
    return {"announced_s": announced, "rss_idle_mb": idle / MB, "rss_kb_per_further_worker": further / KB}


@contextmanager
def worker(stage: Stage, count: int) -> Iterator[Program]:
    """A process with *count* workers, all of them announced."""
    line = f"txmicro-worker --class benchmarks.crowd:Echo --count {count}"
    settings = {
        "TXMICRO_BROKER_URL": stage.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
    }
    with Program(twistd(line), stage.log("start"), settings) as program:
        for _ in range(count):
            program.says("is ready")
        yield program


def _many(stage: Stage, jobs: int) -> dict[str, float]:
    """RSS of a worker after a tenth of the jobs, when all that is kept is full, and after all of them."""
    with stage.pair(SYSTEMS[0]) as (worker, sender):
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
