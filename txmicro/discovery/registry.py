"""The list of connected workers: a state machine without I/O.

A worker announces itself when it starts, and in answer to each keepalive of a SystemManager. A worker that misses
keepalives becomes suspect, and is then removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from txmicro.errors import TxmicroError
from txmicro.protocol.notifications import Announcement
from txmicro.util.clock import Clock

ALIVE: Final = "alive"
SUSPECT: Final = "suspect"

SUSPECT_AFTER: Final = 2
GONE_AFTER: Final = 3
"""How many keepalives in a row a worker misses until it is suspect, and until it is removed."""

_LATE: Final = 1.5
"""Periods after which a keepalive counts as late."""


class RegistryFull(TxmicroError):
    """More workers have announced themselves than the registry holds (100,000); further ones are ignored.

    Look for a program that announces workers that do not exist.
    """


class _Entry:
    """A worker.

    :ivar heard: the time of its last announcement. :ivar answered: whether that was after the last keepalive.
    :ivar misses: how many keepalives in a row it has missed.
    """

    __slots__ = ("announcement", "answered", "heard", "misses")

    def __init__(self, announcement: Announcement, heard: float) -> None:
        self.announcement = announcement
        self.heard = heard
        self.answered = True
        self.misses = 0


def _age(announcement: Announcement) -> tuple[int, str]:
    return announcement.started, announcement.id


class Registry:
    """The workers that one process knows.

    :param clock: gives the time; the registry sets no timers.
    :param suspect_after: how many keepalives in a row a worker misses until it is suspect.
    :param gone_after: how many keepalives in a row a worker misses until it is removed.
    :param limit: the most workers, so that forged announcements cannot fill the memory.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        suspect_after: int = SUSPECT_AFTER,
        gone_after: int = GONE_AFTER,
        limit: int = 100_000,
    ) -> None:
        self._clock = clock
        self._suspect_after = suspect_after
        self._gone_after = gone_after
        self._limit = limit
        self._entries: dict[str, _Entry] = {}
        self._types: dict[str, dict[str, _Entry]] = {}  # with types that have no workers any more
        self._last_keepalive: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: object) -> bool:
        return id in self._entries

    def add(self, announcement: Announcement) -> bool:
        """Add a worker, or replace its announcement, and return whether it is new.

        :raise RegistryFull: it is new, and the registry is full.
        """
        entry = _Entry(announcement, self._clock.seconds())
        new = announcement.id not in self._entries
        if new and len(self._entries) >= self._limit:
            raise RegistryFull(
                f"{announcement.id} is ignored: the registry already has {self._limit} workers"
            )
        self._entries[announcement.id] = entry
        self._of(announcement.type)[announcement.id] = entry
        return new

    def remove(self, id: str) -> Announcement | None:
        """Remove the worker *id*, and return its announcement; None: it is not known."""
        entry = self._entries.pop(id, None)
        if entry is None:
            return None
        del self._types[entry.announcement.type][id]
        return entry.announcement

    def keepalive(self, period: float, *, transmitted: bool = True) -> list[Announcement]:
        """Count the workers that did not answer the last keepalive, because the next one is sent now.

        Remove and return the workers that missed too many. A keepalive that is late by more than half the period counts
        nothing: this process was blocked, and answers of the workers may not have been read yet.

        :param period: the interval between keepalives, in seconds.
        :param transmitted: whether the last keepalive was transmitted. If not, no worker has missed it.
        """
        now = self._clock.seconds()
        in_time = (
            transmitted and self._last_keepalive is not None and now - self._last_keepalive <= _LATE * period
        )
        self._last_keepalive = now
        gone = []
        for entry in self._entries.values():
            if in_time and not entry.answered:
                entry.misses += 1
            entry.answered = False
            if entry.misses >= self._gone_after:
                gone.append(entry.announcement)
        for announcement in gone:
            self.remove(announcement.id)
        return gone

    def get(self, id: str) -> Announcement | None:
        """Return the last announcement of the worker *id*; None: it is not known."""
        entry = self._entries.get(id)
        return entry.announcement if entry is not None else None

    def of_type(self, type: str) -> list[Announcement]:
        """Return the workers of *type*, also suspect ones, oldest first, and by id if they started at the same time."""
        return sorted((entry.announcement for entry in self._types.get(type, {}).values()), key=_age)

    def eldest(self, type: str) -> Announcement | None:
        """Return the oldest worker of *type*; None: there is none."""
        return min(
            (entry.announcement for entry in self._types.get(type, {}).values()), key=_age, default=None
        )

    def counts(self) -> dict[str, int]:
        """Return the number of workers of each type, also 0 for types that had workers before."""
        return {type: len(entries) for type, entries in self._types.items()}

    def listing(self) -> list[dict[str, Any]]:
        """Return the answer to ``worker.list``: announcements with ``state`` and ``age``, the ms since the last one."""
        return [
            {**worker.body(), "state": state, "age": round(age * 1000)}
            for worker, state, age in self.states()
        ]

    def states(self) -> Iterator[tuple[Announcement, str, float]]:
        """Yield each worker, its state, and the seconds since its last announcement."""
        now = self._clock.seconds()
        for entry in self._entries.values():
            state = SUSPECT if entry.misses >= self._suspect_after else ALIVE
            yield entry.announcement, state, now - entry.heard

    def _of(self, type: str) -> dict[str, _Entry]:
        if type not in self._types and len(self._types) >= self._limit:
            self._types = {known: entries for known, entries in self._types.items() if entries}
        return self._types.setdefault(type, {})
