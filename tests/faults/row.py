"""The rows of the suite: each is a fault, and the function that causes it under load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from txmicro.errors import JobError

RowFunction = Callable[[Any], Awaitable[None]]


class Unavailable(Exception):
    """This machine lacks a program or a privilege that the row needs. The message names it. The row has not passed."""


class TimedOut(Exception):
    """A condition was not met in time."""


@dataclass(frozen=True)
class Row:
    """A row of the suite.

    :ivar fault: the description of the fault.
    :ivar promise: the property that the row tests, in a sentence.
    :ivar may_fail: the errors that jobs may fail with; any other one is a problem.
    :ivar nodes: the number of brokers that the row gets; 0: it creates its own.
    :ivar limit: seconds after which the row is stopped.
    """

    number: int
    fault: str
    promise: str
    run: RowFunction
    may_fail: tuple[type[JobError], ...]
    nodes: int
    limit: float


ROWS: dict[int, Row] = {}


def row(
    number: int,
    fault: str,
    promise: str,
    *,
    may_fail: tuple[type[JobError], ...] = (),
    nodes: int = 1,
    limit: float = 1800.0,
) -> Callable[[RowFunction], RowFunction]:
    """Register a coroutine function, which takes a :class:`~tests.faults.context.RowContext`, as row *number*."""

    def register(run: RowFunction) -> RowFunction:
        ROWS[number] = Row(number, fault, promise, run, may_fail, nodes, limit)
        return run

    return register
