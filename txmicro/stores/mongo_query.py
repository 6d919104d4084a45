"""Converts a query to MongoDB's filter, and names of fields to those that MongoDB stores.

All operators are written in this module. A user's value is only ever an operand. A user's name never begins with ``$``
or contains a dot: such characters are percent-encoded, and so is a name that the store uses itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from .query import Query
from .text_index import index_term

ID: Final = "_id"
ORDER: Final = "_order"
"""The field with the order of insertion: a 64-bit integer, microseconds since 1970 unless a clock was set back."""
WORDS: Final = "_words"
OWN: Final = frozenset({ID, ORDER, WORDS})

_EMPTY: Final = "%"  # stands for the empty name
_ESCAPED: Final = re.compile(r"[%.\0]|\A\$|\A_(?=(?:id|order|words)\Z)|\A\Z")

# The sortable types in the order of
# https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/. Types of one tuple are compared by value. A
# missing field is sorted as null.
_RANKS: Final = (("null",), ("int", "long", "double"), ("string",), ("bool",), ("date",))
_SORTABLE: Final = [kind for rank in _RANKS for kind in rank]


def stored_name(name: str) -> str:
    """Return the name of the MongoDB field that has the document's field *name*."""
    return ID if name == "id" else _ESCAPED.sub(_escape, name)


def original_name(stored: str) -> str:
    """Return the name of the document's field that the MongoDB field *stored* has."""
    return unquote(stored) if stored != _EMPTY else ""


def _escape(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}" if match[0] else _EMPTY


class Search:
    """A query in the form that pymongo takes."""

    def __init__(self, query: Query) -> None:
        self.after = query.after
        self.limit = query.limit
        self.fields = None if query.fields is None else [ID, *map(stored_name, query.fields)]
        self._keys = [(stored_name(name), descending) for name, descending in query.sort]
        last = bool(query.sort) and query.sort[-1][1]
        self._order = [*self._keys, (ORDER, last), (ID, last)]
        self._conditions = [
            *(_equals(stored_name(name), choices) for name, choices in query.filters.items()),
            *(_between(stored_name(name), low, high) for name, (low, high) in query.ranges.items()),
            *(_has_words(name, words) for name, words in query.words.items()),
            *(_is_sortable(name) for name, _ in self._keys),
        ]

    @property
    def sort(self) -> list[tuple[str, int]]:
        """Return the sort keys."""
        return [(name, -1 if descending else 1) for name, descending in self._order]

    @property
    def start(self) -> dict[str, Any]:
        """Return the filter for the document after which the page starts."""
        return _all([{ID: self.after}, *(_is_sortable(name) for name, _ in self._keys)])

    def filter(self, start: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the filter for the documents after *start*; None: for all."""
        return _all(self._conditions if start is None else [*self._conditions, self._after(start)])

    def _after(self, start: Mapping[str, Any]) -> dict[str, Any]:
        """Return the filter for what is sorted after *start*: equal in the first keys, greater in the next one."""
        alternatives: list[dict[str, Any]] = []
        equal: list[dict[str, Any]] = []
        for name, descending in self._order:
            value = start.get(name)
            alternatives += [_all([*equal, greater]) for greater in _sorted_after(name, value, descending)]
            equal.append({name: value})  # null also matches a missing field
        return {"$or": alternatives}


def _all(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the conjunction of *conditions*, as flat as possible, so that any server sees which index serves it."""
    merged: dict[str, Any] = {}
    for condition in conditions:
        if merged.keys() & condition.keys():
            return {"$and": list(conditions)}
        merged |= condition
    return merged


def _equals(name: str, choices: Sequence[Any]) -> dict[str, Any]:
    """Match a scalar only: MongoDB's equality matches a list that contains the value, and null a missing field."""
    if name == ID:  # always a text
        return {ID: choices[0] if len(choices) == 1 else {"$in": choices}}
    one = {name: {"$in": [choice for choice in choices if choice is not None], "$not": {"$type": "array"}}}
    return {"$or": [one, {name: {"$type": "null"}}]} if None in choices else one


def _between(name: str, low: Any, high: Any) -> dict[str, Any]:
    limits = {"$gte": low, "$lte": high}
    given = {operator: limit for operator, limit in limits.items() if limit is not None}
    return {name: {**given, "$not": {"$type": "array"}}}


def _has_words(name: str, words: Sequence[str]) -> dict[str, Any]:
    return {WORDS: {"$all": [index_term(name, word) for word in words]}}


def _is_sortable(name: str) -> dict[str, Any]:
    """Match a field of a sortable type, or a missing one. For ``$type``, a list also has the types of its items."""
    scalar = {name: {"$type": _SORTABLE, "$not": {"$type": "array"}, "$ne": float("nan")}}
    return {"$or": [scalar, {name: {"$exists": False}}]}


def _sorted_after(name: str, value: Any, descending: bool) -> list[dict[str, Any]]:
    """Return the alternatives in which the field is sorted after *value*. MongoDB compares only within a rank."""
    rank = _rank(value)
    others = _RANKS[:rank] if descending else _RANKS[rank + 1 :]
    alternatives: list[dict[str, Any]] = []
    if rank:
        alternatives.append({name: {"$lt" if descending else "$gt": value}})
    if descending and rank:
        alternatives.append({name: None})
    types = [kind for other in others for kind in other if kind != "null"]
    if types:
        alternatives.append({name: {"$type": types}})
    return alternatives


def _rank(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return 3
    if isinstance(value, (int, float)):
        return 1
    return 2 if isinstance(value, str) else 4
