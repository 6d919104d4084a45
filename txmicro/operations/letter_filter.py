"""Chooses dead letters by their content."""

from __future__ import annotations

from typing import NamedTuple

from txmicro.monitoring.grouping import normalize

from .dead_letter import LetterRow


class FailureGroup(NamedTuple):
    """The dead letters of a group of failures: those that are known, and those that failed in the same way.

    :ivar keys: the keys of those that are known to belong to the group.
    :ivar error: the error's type; None: the group has no error of its own.
    :ivar message: the error's message, as :func:`~txmicro.monitoring.grouping.normalize` returns it.
    """

    keys: frozenset[str]
    error: str | None
    message: str

    def has(self, row: LetterRow) -> bool:
        """Return whether the letter of *row* belongs to the group."""
        return row.key in self.keys or (row.error == self.error and normalize(row.message) == self.message)


class LetterFilter(NamedTuple):
    """Chooses dead letters. An empty text chooses all.

    :ivar search: a text that the key, the address, the reason, or the error's type or message contains, in any case.
    :ivar error: the error's type. :ivar reason: the reason.
    :ivar message: the error's message; messages that differ only in numbers, ids and quoted values are the same.
    :ivar group: the group of failures that the letter belongs to; None: any.
    """

    search: str = ""
    error: str = ""
    message: str = ""
    reason: str = ""
    group: FailureGroup | None = None

    def matches(self, row: LetterRow) -> bool:
        """Return whether the letter of *row* is chosen."""
        return (
            (self.group is None or self.group.has(row))
            and (not self.reason or row.reason == self.reason)
            and (not self.error or row.error == self.error)
            and (not self.message or normalize(row.message) == normalize(self.message))
            and (not self.search or self._is_found(row))
        )

    def _is_found(self, row: LetterRow) -> bool:
        wanted = self.search.casefold()
        return any(
            wanted in text.casefold() for text in (row.key, row.address, row.reason, row.error, row.message)
        )


EVERY = LetterFilter()
"""Chooses all dead letters."""
