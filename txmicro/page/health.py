"""The health pages of a process: ``GET /health/live`` and ``GET /health/ready``.

A process is *live* as long as a restart would not help it. It is *ready* when it can do its work now. A broker that is
down makes it not ready, and leaves it live: a restart would not bring the broker back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from twisted.web.server import Request

from txmicro.broker.service import EmbeddedBroker
from txmicro.bus.connections import Bus

from .site import Answer, PageRoute, json_answer

FAILING: Final = 503
"""The status of an answer that has problems."""

_HEADERS: Final = {"cache-control": "no-store"}


class Member(Protocol):
    """A worker or a SystemManager."""

    id: str

    @property
    def obstacle(self) -> str:
        """Why it cannot do its work now; empty: it can."""

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves; empty: there is none."""


class Problem(NamedTuple):
    """A problem of a part of the process.

    :ivar part: ``broker``, ``bus``, or the id of a worker or SystemManager.
    """

    part: str
    problem: str


class Health:
    """Tells what is wrong with a process.

    :param bus: its connections; None: it has none.
    :param broker: the embedded broker that runs in it; None: there is none.
    """

    def __init__(self, members: Sequence[Member], bus: Bus | None, broker: EmbeddedBroker | None) -> None:
        self._members = members
        self._bus = bus
        self._broker = broker

    @property
    def routes(self) -> list[PageRoute]:
        """The routes of the pages."""
        return [PageRoute("GET", "/health/live", self._live), PageRoute("GET", "/health/ready", self._ready)]

    def defects(self) -> list[Problem]:
        """Return the problems that only a restart of the process solves."""
        return list(self._defects())

    def obstacles(self) -> list[Problem]:
        """Return why the process cannot do its work now."""
        return list(self._obstacles())

    def _live(self, _request: Request) -> Answer:
        return _answer("live", self.defects())

    def _ready(self, _request: Request) -> Answer:
        return _answer("ready", self.obstacles())

    def _defects(self) -> Iterator[Problem]:
        if self._bus is not None and self._bus.defect:
            yield Problem("bus", self._bus.defect)
        for member in self._members:
            if member.defect:
                yield Problem(member.id, member.defect)

    def _obstacles(self) -> Iterator[Problem]:
        if self._broker is not None and not self._broker.listening:
            yield Problem("broker", "it does not listen")
        if self._bus is not None and self._bus.outage:
            yield Problem("bus", self._bus.outage)
        for member in self._members:
            if member.obstacle:
                yield Problem(member.id, member.obstacle)


def _answer(status: str, problems: Sequence[Problem]) -> Answer:
    content = {
        "status": f"not {status}" if problems else status,
        "problems": [problem._asdict() for problem in problems],
    }
    return json_answer(content, FAILING if problems else 200, _HEADERS)
