"""Words of texts, so that a text is found by some of them: whatever their case and accents, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from unicodedata import combining, normalize

MAX_LENGTH: Final = 64
"""Of longer words this many characters count."""

_WORD: Final = re.compile(r"\w+")


def words_of(text: str) -> set[str]:
    """The words of *text*, as they are compared: compatibility forms (NFKD), no accents, no case."""
    plain = "".join(each for each in normalize("NFKD", text.casefold()) if not combining(each))
    return {word[:MAX_LENGTH] for word in _WORD.findall(plain)}


def entries(document: Mapping[str, Any], texts: Sequence[str]) -> set[str]:
    """What *document* is to be found by: the words in the fields *texts*, each with its field."""
    found: set[str] = set()
    for field in texts:
        found.update(entry(field, word) for text in _texts(document.get(field)) for word in words_of(text))
    return found


def entry(field: str, word: str) -> str:
    """How a word of *field* is written down; a field's name has no colon."""
    return f"{field}:{word}"


def _texts(value: Any) -> Iterable[str]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return (text for text in values if isinstance(text, str))
