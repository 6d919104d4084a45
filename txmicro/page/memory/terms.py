"""The terms of a job in the full-text index: its words, and one term for each filter that finds it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Final

from txmicro.stores.text_index import words_of

MAX_WORDS: Final = 10
"""How many words of a search count."""

TYPE: Final = "t"
OUTCOME: Final = "o"
ERROR: Final = "e"
GROUP: Final = "g"


def terms_of(
    id: str, address: str, types: Iterable[str], outcome: str, error: str, message: str, group: str | None
) -> str:
    """Return the terms of a job, separated by spaces. Equal values give equal terms."""
    filters = [*(filter_term(TYPE, kind) for kind in types), filter_term(OUTCOME, outcome)]
    if error:
        filters.append(filter_term(ERROR, error))
    if group:
        filters.append(filter_term(GROUP, group))
    return " ".join(filters + sorted(words_of(f"{id} {address} {error} {message}")))


@lru_cache(1_000)
def filter_term(kind: str, value: str) -> str:
    """Return the term of a filter: upper and lower case differ, and no word equals it."""
    return f"{kind}:{sha256(value.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"


def expression(filters: Iterable[str], search: str) -> str | None:
    """Return the expression that finds the jobs with all terms *filters* and words that begin as those of *search*.

    None: no job can be found, because *search* has no words. Empty: there is no condition.
    """
    words = sorted(words_of(search))[:MAX_WORDS]
    if search.strip() and not words:
        return None
    return " AND ".join([*(f'"{term}"' for term in filters), *(f'"{word}"*' for word in words)])
