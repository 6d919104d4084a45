"""Measures many workers, ten per process, of one type and of fifty, and a manager that starts late."""

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

from .bench import Context
from .programs import Program, twistd

NAME = "workers"
EACH = 10
"""The number of workers per process."""
AT_ONCE = 8
"""The number of processes that start at the same time. More of them would only wait for each other."""
KEEPALIVE = 10.0
"""Seconds."""
PATIENCE = 120.0


async def measure(context: Context) -> None:
    """Measure each number of workers with each number of types."""
    for count in (1, 10, 100) if context.quick else (1, 10, 100, 1000):
        for types in (1,) if context.quick else (1, 50):
            with (
                context.attempt(f"{count} workers of {types} types"),
                crowd(context, count, types) as programs,
            ):
                await _measure(context, count, types, programs)


async def _measure(context: Context, count: int, types: int, programs: list[Program]) -> None:
    rounds, keepalive = (1, KEEPALIVE / 2) if context.quick else (3, KEEPALIVE)
    command = [sys.executable, "-m", "benchmarks.late_manager", context.node.url, str(count)]
    began = time.monotonic()
    with Program([*command, str(int(keepalive * 1000))], context.log("manager")) as manager:
        values = json.loads(manager.says("known_s", PATIENCE))
        values["known_after_exec_s"] = time.monotonic() - began
        values |= await _keepalives(context.node, manager, keepalive, rounds)
    values["rss_kb_per_worker"] = sum(program.rss() for program in programs) / count / 1e3
    context.record(NAME, "txmicro", {"workers": count, "types": types}, values)


async def _keepalives(node: Node, manager: Program, keepalive: float, rounds: int) -> dict[str, float]:
    """Return the processor time of a manager, and the number of messages, while nothing else happens."""
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
    """Return how many messages the broker has received since its start."""
    counters = await node.ctl("eval", "rabbit_global_counters:overview().")
    return sum(map(int, re.findall(r"messages_received_total\s*=>\s*(\d+)", counters)))


@contextmanager
def crowd(context: Context, count: int, types: int) -> Iterator[list[Program]]:
    """Run the processes of *count* workers, all of them announced."""
    settings = {
        "TXMICRO_BROKER_URL": context.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
        "TXMICRO_WORKER_TYPES": json.dumps(dict.fromkeys(map(_kind, range(types)), "benchmarks.crowd:Echo")),
    }
    lines = [f"txmicro-worker {_types(first, min(EACH, count), types)}" for first in range(0, count, EACH)]
    with ExitStack() as stack:
        programs: list[Program] = []
        for first in range(0, len(lines), AT_ONCE):
            started = [
                Program(twistd(line), context.log("crowd"), settings)
                for line in lines[first : first + AT_ONCE]
            ]
            programs += map(stack.enter_context, started)
            for program in started:
                for _ in range(min(EACH, count)):
                    program.says("is ready", PATIENCE)
        yield programs


def _kind(number: int) -> str:
    return f"T{number:02}"


def _types(first: int, count: int, types: int) -> str:
    """Return the options of a process with *count* workers, the first of which is number *first* of all."""
    if types == 1:
        return f"--type {_kind(0)} --count {count}"
    return " ".join(f"--type {_kind(number % types)}" for number in range(first, first + count))
