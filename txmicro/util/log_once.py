"""Logs what goes wrong again and again only once."""

from __future__ import annotations

from collections.abc import Hashable


class LogOnce:
    """Tells the first of a kind, so that what goes wrong again and again is logged once.

    :param limit: how many kinds are told; any more are not, as there may be no end of them.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._known: set[Hashable] = set()

    def first(self, kind: Hashable) -> bool:
        """Whether *kind* has not been asked about before."""
        if kind in self._known or len(self._known) >= self._limit:
            return False
        self._known.add(kind)
        return True
