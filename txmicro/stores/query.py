"""Queries: checked, and in one form that every store reads.

Names and values are data, never operators. The argument in which a value comes decides how it is compared, so no text
can turn a filter into an operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from txmicro.errors import BadRequest, show

from .text_index import words_of

MAX_CONDITIONS: Final = 32
"""The most fields in filters, ranges and words together."""
MAX_CHOICES: Final = 1000
"""The most values of one filter."""
MAX_FIELDS: Final = 100
"""The most fields to return."""
MAX_SORT: Final = 4
"""The most fields to sort by."""
MAX_WORDS: Final = 32
"""The most words to search in one field."""

_SCALARS: Final = (str, int, float, bytes, datetime, type(None))
_INT64: Final = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    :ivar filters: by field, the values of which one has to match.
    :ivar ranges: by field, the least and the greatest value; None: no such limit.
    :ivar words: by field, the words that it has to contain.
    :ivar fields: the fields to return besides ``id``; None: all.
    :ivar sort: the fields to sort by, each with whether it is descending.
    :ivar limit: the most documents to return. :ivar after: the id of the last document of the page before.
    """

    filters: Mapping[str, Sequence[Any]]
    ranges: Mapping[str, tuple[Any, Any]]
    words: Mapping[str, Sequence[str]]
    fields: tuple[str, ...] | None
    sort: tuple[tuple[str, bool], ...]
    limit: int
    after: str | None

    @property
    def id(self) -> str | None:
        """Return the id if the query is for one id and has no other condition."""
        ids = self.filters.get("id", ())
        others = len(self.filters) > 1 or self.ranges or self.words or self.sort or self.after
        return ids[0] if len(ids) == 1 and isinstance(ids[0], str) and not others else None

    def pick(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return *document* with the fields that are to be returned."""
        if self.fields is None:
            return document
        wanted = ("id", *self.fields)
        return {name: value for name, value in document.items() if name in wanted}


def read_query(
    filters: Mapping[str, Any],
    limit: int,
    after: str | None,
    *,
    ranges: Mapping[str, Sequence[Any]],
    words: Mapping[str, str],
    fields: Sequence[str] | None,
    sort: Sequence[str],
    texts: Sequence[str],
) -> Query:
    """Return the query for the arguments of :meth:`Store.find <txmicro.stores.Store.find>`.

    :param texts: the fields that can be searched by their words.
    :raise BadRequest: an argument is not valid; the message names it.
    """
    if type(limit) is not int or limit < 1:
        raise BadRequest(f"limit: {show(limit)} is not valid: expected a whole number of at least 1")
    if not isinstance(after, str | None):
        raise BadRequest(f"after: {show(after)} is not an id: expected a text")
    _check_number("filters, ranges and words", len(filters) + len(ranges) + len(words), MAX_CONDITIONS)
    _check_names("filters", [*filters, *ranges, *words])
    return Query(
        {name: _choices(name, value) for name, value in filters.items()},
        {name: _range(name, value) for name, value in ranges.items()},
        {name: _words(name, value, texts) for name, value in words.items()},
        None if fields is None else tuple(_names("fields", fields, MAX_FIELDS)),
        tuple((name.removeprefix("-"), name.startswith("-")) for name in _names("sort", sort, MAX_SORT)),
        limit,
        after,
    )


def _check_number(what: str, number: int, most: int) -> None:
    if number > most:
        raise BadRequest(f"{number} {what}: expected at most {most}")


def _check_names(what: str, names: Sequence[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise BadRequest(f"{what}: {show(name)} is not the name of a field: expected a text")


def _names(what: str, names: Any, most: int) -> Sequence[str]:
    if not isinstance(names, (list, tuple)):
        raise BadRequest(f"{what}: expected a list of names of fields, got {show(names)}")
    _check_number(what, len(names), most)
    _check_names(what, names)
    return names


def _choices(name: str, value: Any) -> Sequence[Any]:
    choices = list(value) if isinstance(value, (list, tuple)) else [value]
    _check_number(f"values of the filter {name!r:.100}", len(choices), MAX_CHOICES)
    for choice in choices:
        if not isinstance(choice, _SCALARS):
            raise BadRequest(
                f"filter {name!r:.100}: expected a scalar or a list of scalars, got {show(value)}"
            )
        _check_integer(name, choice)
    return choices


def _check_integer(name: str, value: Any) -> None:
    if isinstance(value, int) and value not in _INT64:
        raise BadRequest(f"filter {name!r:.100}: {show(value)} is too large: expected an integer of 64 bits")


def _range(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise BadRequest(f"range {name!r:.100}: expected the least and the greatest value, got {show(value)}")
    kinds = {_kind(limit) for limit in value if limit is not None}
    if len(kinds) != 1 or kinds == {None}:
        raise BadRequest(f"range {name!r:.100}: expected two numbers, texts or dates, got {show(value)}")
    for limit in value:
        _check_integer(name, limit)
    return value[0], value[1]


def _kind(value: Any) -> type | None:
    """Return which of the types that have ranges *value* is of; None: of none."""
    if isinstance(value, bool) or value != value:  # NaN
        return None
    return next((kind for kind in (str, datetime, (int, float)) if isinstance(value, kind)), None)  # type: ignore[return-value]


def _words(name: str, value: Any, texts: Sequence[str]) -> Sequence[str]:
    if name not in texts:
        raise BadRequest(
            f"words: the field {name!r:.100} has no text index: expected one of {', '.join(texts) or 'none'}"
        )
    words = sorted(words_of(value)) if isinstance(value, str) else []
    if not words:
        raise BadRequest(f"words {name!r:.100}: expected a text that has words, got {show(value)}")
    _check_number(f"words for {name!r:.100}", len(words), MAX_WORDS)
    return words
