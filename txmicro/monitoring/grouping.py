"""Groups failures that are alike: of one worker type, one error type, and messages that differ only in values."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final

from txmicro.util.text import printable

LONGEST: Final = 300
"""The most characters of a group's message."""

_READ: Final = 2_000  # characters of a message that are looked at
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_QUOTED: Final = r"(?<!\w)'[^'\n]*'(?!\w)" + r'|(?<!\w)"[^"\n]*"(?!\w)|`[^`\n]*`|“[^”\n]*”|«[^»\n]*»'
_MOMENT: Final = r"\b\d{4}-\d\d-\d\d(?:[T ][\d:.,]+(?:Z|[-+]\d\d:?\d\d)?)?"
_ID: Final = (
    r"\b(?:0x[0-9a-fA-F]+"
    # A UUID, an id of a worker or a job, or a long hexadecimal number, of which at least one character is a digit.
    r"|(?=[0-9a-fA-F-]*\d)[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]+)+"
    r"|(?=[a-fA-F]*\d)[0-9a-fA-F]{8,})\b"
)
_NUMBER: Final = r"\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?"
_VALUE: Final = re.compile(f"(?P<quoted>{_QUOTED})|{_MOMENT}|{_ID}|{_NUMBER}")


@lru_cache(1_000)  # failures of one cause come in large numbers
def normalize(message: str) -> str:
    """Return *message* on one line, with ``#`` for numbers and ids and ``'…'`` for quoted values.

    Control characters are escaped. At most :data:`LONGEST` characters are returned.
    """
    line = printable(_SPACE.sub(" ", message[:_READ]).strip(" "))
    return _VALUE.sub(lambda found: "'…'" if found["quoted"] else "#", line)[:LONGEST]


def group_id(kind: str, error: str, message: str) -> str:
    """Return the id of the group of failures of the worker type *kind* and the error type *error*.

    :param message: the message, as :func:`normalize` returns it.
    """
    return sha256("\0".join((kind, error, message)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
