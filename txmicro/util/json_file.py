"""JSON files with comments, as MicroServices.js has them."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

# Strings are matched, too, so that "//" in a string does not start a comment. The last alternative is a comment
# without an end.
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|(//[^\n]*|/\*.*?\*/)|(/\*)', re.DOTALL)
_NOT_NEWLINE: Final = re.compile(r"[^\n]")


def read_object(path: str, problems: list[str]) -> dict[str, Any]:
    """Return the object in the JSON file *path*. If there is none, add what is wrong to *problems*, and return {}."""
    try:
        text = without_comments(Path(path).read_text("utf-8-sig"))
        found = json.loads(text, object_pairs_hook=partial(_object, problems))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path!r}: cannot be read: {error}")
    except json.JSONDecodeError as error:
        problems.append(f"{path!r}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path!r}: not valid JSON: {error}")
    else:
        if isinstance(found, dict):
            return found
        problems.append(f"{path!r}: holds a {type(found).__name__}; expected an object")
    return {}


def _object(problems: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    problems += [f"{key}: given {count} times; expected once" for key, count in counts.items() if count > 1]
    return dict(pairs)


def without_comments(text: str) -> str:
    """Return *text* with spaces in place of ``/* … */`` and ``// …``: everything else keeps its line and column.

    Raise :class:`json.JSONDecodeError` for a comment that does not end.
    """

    def blank(found: re.Match[str]) -> str:
        if found[2]:
            raise json.JSONDecodeError("Comment that does not end", text, found.start())
        return _NOT_NEWLINE.sub(" ", found[1]) if found[1] else found[0]

    return _TOKEN.sub(blank, text)
