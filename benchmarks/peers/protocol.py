"""The interface of the programs that are compared, for those in Python.

A system is a program with two roles, ``program work URL`` and ``program send URL``. The worker returns the
data that it receives. It prints ``ready`` on its standard output as soon as it can. The sender sends one
request and prints ``ready`` when the answer is right. Then it runs each line of its standard input::

    100 3.0 64

keeps 100 requests in flight for 3.0 seconds, each with a text of 64 bytes. Then it prints one line of JSON:
``jobs`` (the number of answers), ``seconds`` (from the first request to the last answer), ``p50_ms`` and
``p99_ms``. It exits at the end of its input. This module imports only the standard library: each system has
an environment of its own.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, NamedTuple

TIMEOUT = 60.0
"""Seconds after which a request fails, for the systems that need such a limit."""


class Task(NamedTuple):
    """The content of a line."""

    in_flight: int
    seconds: float
    data: dict[str, str]


def payload(size: int) -> dict[str, str]:
    """Return the data to send: a small dict with a text of *size* bytes."""
    return {"method": "GET", "text": "x" * size}


def read_task() -> Task | None:
    """Return the next task, or None at the end of the input. It blocks until there is one."""
    line = sys.stdin.readline()
    if not line:
        return None
    in_flight, seconds, size = line.split()
    return Task(int(in_flight), float(seconds), payload(int(size)))


def ready() -> None:
    """Tell the benchmark that this program is ready."""
    print("ready", flush=True)


def check(answer: Any) -> None:
    """Raise if the answer to the first request is wrong."""
    if answer != payload(64):
        raise ValueError(f"the answer is not the request: {answer!r}")


def report(took: list[float], seconds: float) -> None:
    """Print the report: *took* is the duration of each request, in seconds."""
    took.sort()
    p50, p99 = (took[len(took) * percent // 100] * 1000 for percent in (50, 99))
    print(json.dumps({"jobs": len(took), "seconds": seconds, "p50_ms": p50, "p99_ms": p99}), flush=True)


async def serve(
    call: Callable[[Any], Awaitable[Any]],
    gather: Callable[[list[Coroutine[Any, Any, None]]], Awaitable[Any]],
    in_thread: Callable[[Callable[[], Task | None]], Awaitable[Task | None]],
) -> None:
    """Run a sender whose *call* can be awaited.

    :param gather: runs coroutines at once.
    :param in_thread: runs a function that blocks.
    """
    check(await call(payload(64)))
    ready()
    while (task := await in_thread(read_task)) is not None:
        took: list[float] = []
        began = perf_counter()
        await gather([_repeat(call, task, began, took) for _ in range(task.in_flight)])
        report(took, perf_counter() - began)


async def _repeat(call: Callable[[Any], Awaitable[Any]], task: Task, began: float, took: list[float]) -> None:
    now = began
    while now < began + task.seconds:
        sent = perf_counter()
        await call(task.data)
        now = perf_counter()
        took.append(now - sent)


def serve_blocking(send: Callable[[Any], Any], wait: Callable[[Any], Any]) -> None:
    """Run a sender that has only blocking calls. *wait* turns the result of *send* into the answer."""
    check(wait(send(payload(64))))
    ready()
    while (task := read_task()) is not None:
        took: list[float] = []
        began = perf_counter()
        _keep_in_flight(send, wait, task, began, took)
        report(took, perf_counter() - began)


def _keep_in_flight(
    send: Callable[[Any], Any], wait: Callable[[Any], Any], task: Task, began: float, took: list[float]
) -> None:
    """Wait for the oldest request, then send the next one."""
    window = deque((perf_counter(), send(task.data)) for _ in range(task.in_flight))
    while window:
        sent, pending = window.popleft()
        wait(pending)
        now = perf_counter()
        took.append(now - sent)
        if now < began + task.seconds:
            window.append((perf_counter(), send(task.data)))
