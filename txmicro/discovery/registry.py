"""Who is on the bus: alive, suspect, gone.

A state machine without I/O. A worker is heard of when it announces itself: at its start, and in answer to a
SystemManager's keepalive. One that misses keepalives becomes suspect, and then is gone.
"""

from __future__ import annotations

from typing import Any, Final

from txmicro.errors import TxmicroError
from txmicro.protocol.notifications import Announcement
from txmicro.util.clock import Clock

ALIVE: Final = "alive"
SUSPECT: Final = "suspect"

_LATE: Final = 1.5  # periods


class RegistryFull(TxmicroError):
    """More workers announce themselves than the registry may hold."""


class _Entry:
    """A worker, when it was last heard, whether that was since the last keepalive, and how many it missed."""

    __slots__ = ("announcement", "answered", "heard", "misses")

    def __init__(self, announcement: Announcement, heard: float) -> None:
        self.announcement = announcement
        self.heard = heard
        self.answered = True
        self.misses = 0


def _age(announcement: Announcement) -> tuple[int, str]:
    return announcement.started, announcement.id


class Registry:
    """The live workers, as one process knows them.

    :param clock: gives the time; the registry sets no timers.
    :param suspect_after: how many keepalives in a row a worker misses to be suspect.
    :param gone_after: how many in a row it misses to be gone.
    :param limit: how many workers it holds at most, so that forged announcements cannot fill the memory.
    """

    def __init__(
        self, clock: Clock, *, suspect_after: int = 2, gone_after: int = 3, limit: int = 100_000
    ) -> None:
        self._clock = clock
        self._suspect_after = suspect_after
        self._gone_after = gone_after
        self._limit = limit
        self._entries: dict[str, _Entry] = {}
        self._types: dict[str, dict[str, _Entry]] = {}  # also those that nobody is of any more
        self._last_round: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: object) -> bool:
        return id in self._entries

    def known(self, id: str) -> Announcement | None:
        """Return what worker *id* last said of itself; None: it is not known."""
        entry = self._entries.get(id)
        return None if entry is None else entry.announcement

    def heard(self, announcement: Announcement) -> bool:
        """Note that a worker is alive; what it says of itself replaces what it said before.

        Returns whether it is new. Raises :class:`RegistryFull` if it is, and there is no room.
        """
        entry = _Entry(announcement, self._clock.seconds())
        new = announcement.id not in self._entries
        if new and len(self._entries) >= self._limit:
            raise RegistryFull(f"no room for {announcement.id}: {self._limit} workers are on the bus")
        self._entries[announcement.id] = entry
        self._of(announcement.type)[announcement.id] = entry
        return new

    def deleted(self, id: str) -> Announcement | None:
        """Forget a worker; gives its announcement, or None if it is not known."""
        entry = self._entries.pop(id, None)
        if entry is None:
            return None
        del self._types[entry.announcement.type][id]
        return entry.announcement

    def round(self, period: float, *, heard: bool = True) -> list[Announcement]:
        """A keepalive goes out now; the one before went out *period* seconds ago, if all is well.

        *heard*: whether that one has gone over the bus. If not, nobody can have answered it, and none has missed it.
        Otherwise whoever was not heard since then has missed one. Gives those that are gone by that, and forgets them.
        A round that is late by more than half its period counts nothing: this process stood still, and what
        the workers answered meanwhile may wait to be read.
        """
        now = self._clock.seconds()
        in_time = heard and self._last_round is not None and now - self._last_round <= _LATE * period
        self._last_round = now
        gone = []
        for entry in self._entries.values():
            if in_time and not entry.answered:
                entry.misses += 1
            entry.answered = False
            if entry.misses >= self._gone_after:
                gone.append(entry.announcement)
        for announcement in gone:
            self.deleted(announcement.id)
        return gone

    def get(self, id: str) -> Announcement | None:
        """What the worker *id* said of itself; None if it is not known."""
        entry = self._entries.get(id)
        return entry.announcement if entry is not None else None

    def of_type(self, type: str) -> list[Announcement]:
        """The workers of *type*, suspects included, eldest first; the id decides between twins."""
        return sorted((entry.announcement for entry in self._types.get(type, {}).values()), key=_age)

    def eldest(self, type: str) -> Announcement | None:
        """The eldest worker of *type*; None if there is none."""
        return min(
            (entry.announcement for entry in self._types.get(type, {}).values()), key=_age, default=None
        )

    def counts(self) -> dict[str, int]:
        """How many workers there are of each type; 0 for one that had workers once."""
        return {type: len(entries) for type, entries in self._types.items()}

    def listing(self) -> list[dict[str, Any]]:
        """What ``worker.list`` answers: the announcements, with ``state`` and ``age`` (ms unheard of)."""
        now = self._clock.seconds()
        return [
            {
                **entry.announcement.body(),
                "state": SUSPECT if entry.misses >= self._suspect_after else ALIVE,
                "age": round((now - entry.heard) * 1000),
            }
            for entry in self._entries.values()
        ]

    def _of(self, type: str) -> dict[str, _Entry]:
        if type not in self._types and len(self._types) >= self._limit:
            self._types = {known: entries for known, entries in self._types.items() if entries}
        return self._types.setdefault(type, {})
