"""Pages of the list of dead letters: the opaque ``next`` and ``after``."""

from __future__ import annotations

from typing import Final, NamedTuple

from txmicro.operations.dead_letter import LetterRow

from .schema import Schema, text

_LONGEST: Final = 1_000

AFTER: Final[Schema] = text(_LONGEST + 17, pattern=f"^([0-9]{{1,16}}_[\\s\\S]{{1,{_LONGEST}}})?$")
"""The schema of ``after``; empty: the first page."""


class Place(NamedTuple):
    """The place of a dead letter in the list. The highest is the first.

    :ivar died: in milliseconds of Unix time; 0: unknown.
    """

    died: int
    key: str


def place_of(row: LetterRow) -> Place:
    """Return the place of *row*."""
    return Place(max(0, round((row.died or 0.0) * 1000)), row.key)


def encode(place: Place) -> str:
    """Return the ``next`` of a page that ends with *place*."""
    return f"{place.died}_{place.key}"


def decode(after: str) -> Place:
    """Return the place in *after*, which matches :data:`AFTER` and is not empty."""
    died, _, key = after.partition("_")
    return Place(int(died), key)
