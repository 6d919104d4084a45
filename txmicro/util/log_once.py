"""Logs a repeated problem only once."""

from __future__ import annotations

from collections.abc import Hashable


class LogOnce:
    """A filter that lets the first problem of each kind be logged.

    :param limit: the most kinds that are logged. Kinds may contain text from other programs, so their number has to be
        limited.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._known: set[Hashable] = set()

    def first(self, kind: Hashable) -> bool:
        """Return True the first time for each *kind*, unless the limit is reached."""
        if kind in self._known or len(self._known) >= self._limit:
            return False
        self._known.add(kind)
        return True
