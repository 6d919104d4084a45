"""A query as MongoDB's filter, and fields' names as they are stored.

All operators are written here. A user's value is only ever an operand, and a user's name never begins with ``$`` or
has a dot in it: in such a name, and in one that is ours, that is percent-escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from .query import Query
from .words import entry

ID: Final = "_id"
ORDER: Final = "_order"
"""The field that has the order of insertion: a 64-bit integer, microseconds since 1970 where clocks allow."""
WORDS: Final = "_words"
OWN: Final = frozenset({ID, ORDER, WORDS})

_EMPTY: Final = "%"  # what the empty name is stored as
_ODD: Final = re.compile(r"[%.\0]|\A\$|\A_(?=(?:id|order|words)\Z)|\A\Z")

# https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/, as far as it is ours: types that are
# equal in rank stand together. A missing field is sorted as a null.
_RANKS: Final = (("null",), ("int", "long", "double"), ("string",), ("bool",), ("date",))
_SORTABLE: Final = [kind for rank in _RANKS for kind in rank]


def stored_name(name: str) -> str:
    """The field that *name* is stored in."""
    return ID if name == "id" else _ODD.sub(_escape, name)


def users_name(stored: str) -> str:
    """The name that is stored in this field."""
    return unquote(stored) if stored != _EMPTY else ""


def _escape(odd: re.Match[str]) -> str:
    return f"%{ord(odd[0]):02X}" if odd[0] else _EMPTY


class Search:
    """*query* as what pymongo takes."""

    def __init__(self, query: Query) -> None:
        self.after = query.after
        self.limit = query.limit
        self.fields = None if query.fields is None else [ID, *map(stored_name, query.fields)]
        self._keys = [(stored_name(name), descends) for name, descends in query.sort]
        last = bool(query.sort) and query.sort[-1][1]
        self._order = [*self._keys, (ORDER, last), (ID, last)]
        self._conditions = [
            *(_equals(stored_name(name), choices) for name, choices in query.filters.items()),
            *(_between(stored_name(name), low, high) for name, (low, high) in query.ranges.items()),
            *(_has_words(name, words) for name, words in query.words.items()),
            *(_has_place(name) for name, _ in self._keys),
        ]

    @property
    def sort(self) -> list[tuple[str, int]]:
        """By what the documents are sorted."""
        return [(name, -1 if descends else 1) for name, descends in self._order]

    @property
    def place(self) -> dict[str, Any]:
        """Finds the document that the others come after."""
        return _all([{ID: self.after}, *(_has_place(name) for name, _ in self._keys)])

    def filter(self, place: Mapping[str, Any] | None) -> dict[str, Any]:
        """Finds the documents after *place*; None: from the beginning."""
        return _all(self._conditions if place is None else [*self._conditions, self._behind(place)])

    def _behind(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """What holds for all that come after *place*: equal in the first keys, and behind it in the next."""
        ways: list[dict[str, Any]] = []
        equal: list[dict[str, Any]] = []
        for name, descends in self._order:
            value = place.get(name)
            ways += [_all([*equal, beyond]) for beyond in _beyond(name, value, descends)]
            equal.append({name: value})  # null also equals a missing field
        return {"$or": ways}


def _all(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """That all of them hold: of as few levels as can be, so that any server sees which index serves it."""
    together: dict[str, Any] = {}
    for condition in conditions:
        if together.keys() & condition.keys():
            return {"$and": list(conditions)}
        together |= condition
    return together


def _equals(name: str, choices: Sequence[Any]) -> dict[str, Any]:
    """MongoDB would also find a list that has the value in it, and by null a field that is missing."""
    if name == ID:  # which is always a text
        return {ID: choices[0] if len(choices) == 1 else {"$in": choices}}
    one = {name: {"$in": [choice for choice in choices if choice is not None], "$not": {"$type": "array"}}}
    return {"$or": [one, {name: {"$type": "null"}}]} if None in choices else one


def _between(name: str, low: Any, high: Any) -> dict[str, Any]:
    limits = {"$gte": low, "$lte": high}
    given = {sign: limit for sign, limit in limits.items() if limit is not None}
    return {name: {**given, "$not": {"$type": "array"}}}


def _has_words(name: str, words: Sequence[str]) -> dict[str, Any]:
    return {WORDS: {"$all": [entry(name, word) for word in words]}}


def _has_place(name: str) -> dict[str, Any]:
    """That the field is of a type with an order, or missing. A list's type is the types of its items, too."""
    scalar = {name: {"$type": _SORTABLE, "$not": {"$type": "array"}, "$ne": float("nan")}}
    return {"$or": [scalar, {name: {"$exists": False}}]}


def _beyond(name: str, value: Any, descends: bool) -> list[dict[str, Any]]:
    """The ways in which the field comes after *value*. MongoDB compares only values of equal rank."""
    rank = _rank(value)
    others = _RANKS[:rank] if descends else _RANKS[rank + 1 :]
    ways: list[dict[str, Any]] = []
    if rank:
        ways.append({name: {"$lt" if descends else "$gt": value}})
    if descends and rank:
        ways.append({name: None})
    types = [kind for other in others for kind in other if kind != "null"]
    if types:
        ways.append({name: {"$type": types}})
    return ways


def _rank(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return 3
    if isinstance(value, (int, float)):
        return 1
    return 2 if isinstance(value, str) else 4
