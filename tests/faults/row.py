"""Rows of the suite: what a fault is called, and how it is played."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from txmicro.errors import JobError

Play = Callable[[Any], Awaitable[None]]


class Unavailable(Exception):
    """This machine lacks what the row needs; the text says what. The row has then not passed."""


class Unmet(Exception):
    """Something did not come about in time."""


@dataclass(frozen=True)
class Row:
    """A row of the suite.

    :ivar fault: as the issue that asks for it has it. :ivar promise: what it shows, in a sentence.
    :ivar may_fail: the errors that jobs may fail with; one that fails with any other is a problem.
    :ivar nodes: how many brokers it wants; 0: it makes its own. :ivar limit: seconds after which it is given up.
    """

    number: int
    fault: str
    promise: str
    play: Play
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
) -> Callable[[Play], Play]:
    """Register a coroutine function, which takes a :class:`~tests.faults.stage.Stage`, as row *number*."""

    def register(play: Play) -> Play:
        ROWS[number] = Row(number, fault, promise, play, may_fail, nodes, limit)
        return play

    return register
