"""Converts a query to SQL for SQLite.

The name of a field is a parameter, as its value is: nothing that a user sends becomes SQL or a JSON path. The names in
the SQL are those of the worker's indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from txmicro.protocol.codec.json import JSON

from .query import Query
from .text_index import index_term

# The sort key of a value. SQLite sorts NULL, numbers, texts and blobs in this order, so blobs represent the types that
# JSON cannot sort. The empty blob is the key of a value that cannot be sorted.
_KEY: Final = """CASE {type}
    WHEN 'false' THEN x'6230' WHEN 'true' THEN x'6231' WHEN 'array' THEN x''
    WHEN 'object' THEN CASE
        WHEN {value} <> '{{}}' AND json_remove({value}, '$."$date"') = '{{}}'
            THEN CAST('d' || rtrim(json_extract({value}, '$."$date"'), 'Z') AS BLOB)
        WHEN {value} = '{{"$numberDouble":"Infinity"}}' THEN 9e999
        WHEN {value} = '{{"$numberDouble":"-Infinity"}}' THEN -9e999
        ELSE x'' END
    ELSE {value} END"""
_EACH: Final = _KEY.format(type="type", value="value")
_ANY_KEY: Final = f"(SELECT {_EACH} FROM json_each(document) WHERE key = ?)"  # noqa: S608

_EQUALS: Final = """EXISTS (
    SELECT 1 FROM json_each(document) AS field, json_each(?, '$.wanted') AS choice
    WHERE field.key = ? AND field.value IS choice.value
        AND replace(field.type, 'integer', 'real') = replace(choice.type, 'integer', 'real'))
"""
_WANTED_KEYS: Final = f"(SELECT {_EACH} FROM json_each(?, '$.wanted'))"  # noqa: S608
_WORD: Final = "sequence IN (SELECT sequence FROM words WHERE word = ?)"
# By type, the least sort key of its values, and the least sort key above all of them.
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str, str], ...]] = (
    (str, "''", "x''"),
    (datetime, "x'64'", "x'65'"),
    ((int, float), "-9e999", "''"),
)


class SQL(NamedTuple):
    """An expression of SQL with the values of its parameters."""

    text: str
    values: tuple[Any, ...] = ()


def index_key(field: str) -> str:
    """Return the expression that the index of *field* is on. The name has only letters, digits and ``_``."""
    return _KEY.format(type=f"json_type(document, '$.{field}')", value=f"json_extract(document, '$.{field}')")


class Statement:
    """A query as two SQL statements: one for the document that the page starts after, one for the page.

    :param keys: the :func:`index_key` of each indexed field.
    """

    def __init__(self, query: Query, keys: Mapping[str, str]) -> None:
        self._query = query
        self._indexed = keys
        self._sort = [(self._key(name), descending) for name, descending in query.sort]
        self._sort.append((SQL("sequence"), bool(query.sort) and query.sort[-1][1]))
        self._conditions = [
            *(each for name, choices in query.filters.items() for each in self._equals(name, choices)),
            *(each for name, limits in query.ranges.items() for each in self._range(name, *limits)),
            *(SQL(_WORD, (index_term(name, word),)) for name, words in query.words.items() for word in words),
            *(SQL(f"{key.text} IS NOT x''", key.values) for key, _ in self._sort[:-1]),
        ]

    def start(self) -> SQL:
        """Return the statement for the sort keys of the document after which the page starts."""
        text = ", ".join(key.text for key, _ in self._sort)
        values = [value for key, _ in self._sort for value in key.values]
        return SQL(f"SELECT {text} FROM documents WHERE id = ?", (*values, self._query.after))  # noqa: S608

    def select(self, start: Sequence[Any] | None) -> SQL:
        """Return the statement for the documents after *start*, a row of sort keys; None: for all."""
        conditions = self._conditions if start is None else [*self._conditions, self._after(start)]
        where = " AND ".join(condition.text for condition in conditions) or "1"
        order = ", ".join(f"{key.text} {'DESC' if descending else 'ASC'}" for key, descending in self._sort)
        ordered = [value for key, _ in self._sort for value in key.values]
        filtered = [value for condition in conditions for value in condition.values]
        return SQL(
            f"SELECT document FROM documents WHERE {where} ORDER BY {order} LIMIT ?",  # noqa: S608
            (*filtered, *ordered, self._query.limit),
        )

    def _key(self, name: str) -> SQL:
        return SQL(self._indexed[name]) if name in self._indexed else SQL(_ANY_KEY, (name,))

    def _equals(self, name: str, choices: Sequence[Any]) -> list[SQL]:
        wanted = _json(choices)
        exactly = SQL(_EQUALS, (wanted, name))
        if name not in self._indexed or None in choices:  # NULL is never IN, so no index finds None
            return [exactly]
        return [SQL(f"{self._indexed[name]} IN {_WANTED_KEYS}", (wanted,)), exactly]

    def _range(self, name: str, low: Any, high: Any) -> list[SQL]:
        given = high if low is None else low
        least, end = next((least, end) for kind, least, end in _KINDS if isinstance(given, kind))
        key = self._key(name)
        begins = SQL(f"{key.text} >= {least}", key.values) if low is None else _bound(key, ">=", low)
        ends = SQL(f"{key.text} < {end}", key.values) if high is None else _bound(key, "<=", high)
        return [begins, ends]

    def _after(self, start: Sequence[Any]) -> SQL:
        """Return the condition for what is sorted after *start*: equal in the first keys, greater in the next one."""
        alternatives, equal = [], SQL("1")
        for (key, descending), value in zip(self._sort, start, strict=True):
            greater = SQL(
                _sorted_after(key.text, descending, value),
                (*key.values, *(() if value is None else (value,))),
            )
            alternatives.append(_both(equal, greater))
            equal = _both(equal, SQL(f"{key.text} IS ?", (*key.values, value)))
        values = tuple(value for alternative in alternatives for value in alternative.values)
        return SQL(f"({' OR '.join(alternative.text for alternative in alternatives)})", values)


def _both(one: SQL, other: SQL) -> SQL:
    return SQL(f"({one.text} AND {other.text})", one.values + other.values)


def _sorted_after(key: str, descending: bool, value: Any) -> str:
    """Return the condition that *key* is sorted after *value*. NULL is first, and no comparison with it is true."""
    if value is None:
        return f"({key} IS NULL AND 0)" if descending else f"{key} IS NOT NULL"
    return f"coalesce({key} < ?, 1)" if descending else f"{key} > ?"


def _bound(key: SQL, sign: str, limit: Any) -> SQL:
    return SQL(f"{key.text} {sign} {_WANTED_KEYS}", (*key.values, _json([limit])))


def _json(wanted: Sequence[Any]) -> str:
    return JSON.encode({"wanted": wanted}).decode()
