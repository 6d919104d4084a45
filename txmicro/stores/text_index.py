"""Index terms of texts, for searching them by their words in any order, without regard to case and accents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from unicodedata import combining, normalize

MAX_LENGTH: Final = 64
"""The most characters of a word that count; the rest is ignored."""

_WORD: Final = re.compile(r"\w+")


def words_of(text: str) -> set[str]:
    """Return the words of *text* in the form in which they are compared: case-folded, NFKD, without accents."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(each for each in normalize("NFKD", plain) if not combining(each))
    return {word[:MAX_LENGTH] for word in _WORD.findall(plain)}


def index_terms(document: Mapping[str, Any], texts: Sequence[str]) -> set[str]:
    """Return the terms that *document* is found by: the words of its fields *texts*, each with its field."""
    terms: set[str] = set()
    for field in texts:
        terms.update(
            index_term(field, word) for text in _texts(document.get(field)) for word in words_of(text)
        )
    return terms


def index_term(field: str, word: str) -> str:
    """Return the index term of a *word* in *field*, whose name has no colon."""
    return f"{field}:{word}"


def _texts(value: Any) -> Iterable[str]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return (text for text in values if isinstance(text, str))
