"""Many workers: ten in a process, of one type and of fifty; a manager comes late, and stays."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from tests.support.rabbitmq import Node

from .bench import Stage
from .programs import Program, twistd

NAME = "workers"
EACH = 10
"""How many workers a process has."""
AT_ONCE = 8
"""How many processes start at once: more would only wait for each other."""
KEEPALIVE = 10.0
"""Seconds."""
PATIENCE = 120.0


async def measure(stage: Stage) -> None:
    """Measure each number of workers with each number of types."""
    for count in (1, 10, 100) if stage.quick else (1, 10, 100, 1000):
        for types in (1,) if stage.quick else (1, 50):
            with stage.attempt(f"{count} workers of {types} types"), crowd(stage, count, types) as programs:
                await _measure(stage, count, types, programs)


async def _measure(stage: Stage, count: int, types: int, programs: list[Program]) -> None:
    rounds, keepalive = (1, KEEPALIVE / 2) if stage.quick else (3, KEEPALIVE)
    command = [sys.executable, "-m", "benchmarks.late_manager", stage.node.url, str(count)]
    began = time.monotonic()
    with Program([*command, str(int(keepalive * 1000))], stage.log("manager")) as manager:
        values = json.loads(manager.says("known_s", PATIENCE))
        values["known_after_exec_s"] = time.monotonic() - began
        values |= await _keepalives(stage.node, manager, keepalive, rounds)
    values["rss_kb_per_worker"] = sum(program.rss() for program in programs) / count / 1e3
    stage.record(NAME, "txmicro", {"workers": count, "types": types}, values)


async def _keepalives(node: Node, manager: Program, keepalive: float, rounds: int) -> dict[str, float]:
    """What a manager uses of a processor, and what travels on the bus, while nothing else happens."""
    await _pause(keepalive / 2)  # between two rounds
    messages, cpu = await messages_received(node), manager.cpu()
    await _pause(rounds * keepalive)
    cpu = manager.cpu() - cpu
    messages = await messages_received(node) - messages
    return {
        "manager_cpu_percent": cpu
        / rounds
        / KEEPALIVE
        * 100,  # a quick keepalive costs no more than a slow one
        "messages_per_keepalive": messages / rounds,
    }


async def _pause(seconds: float) -> None:
    await deferLater(_reactor, seconds)


async def messages_received(node: Node) -> int:
    """How many messages the broker was ever given."""
    counters = await node.ctl("eval", "rabbit_global_counters:overview().")
    return sum(map(int, re.findall(r"messages_received_total\s*=>\s*(\d+)", counters)))


@contextmanager
def crowd(stage: Stage, count: int, types: int) -> Iterator[list[Program]]:
    """The processes of *count* workers, all of them announced."""
    settings = {
        "TXMICRO_BROKER_URL": stage.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
        "TXMICRO_WORKER_TYPES": json.dumps(dict.fromkeys(map(_kind, range(types)), "benchmarks.crowd:Echo")),
    }
    lines = [f"txmicro-worker {_types(first, min(EACH, count), types)}" for first in range(0, count, EACH)]
    with ExitStack() as stack:
        programs: list[Program] = []
        for first in range(0, len(lines), AT_ONCE):
            started = [
                Program(twistd(line), stage.log("crowd"), settings) for line in lines[first : first + AT_ONCE]
            ]
            programs += map(stack.enter_context, started)
            for program in started:
                for _ in range(min(EACH, count)):
                    program.says("is ready", PATIENCE)
        yield programs


def _kind(number: int) -> str:
    return f"T{number:02}"


def _types(first: int, count: int, types: int) -> str:
    """What makes a process run *count* workers, the first of them the *first* of all."""
    if types == 1:
        return f"--type {_kind(0)} --count {count}"
    return " ".join(f"--type {_kind(number % types)}" for number in range(first, first + count))
