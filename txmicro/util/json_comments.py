"""JSON with comments, as configuration files have them: MicroServices.js' own sample begins with one."""

from __future__ import annotations

import json
import re
from typing import Final

# A string is matched too, as what looks like a comment in it is none. The last alternative never ends.
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|(//[^\n]*|/\*.*?\*/)|(/\*)', re.DOTALL)
_INK: Final = re.compile(r"[^\n]")


def without_comments(text: str) -> str:
    """Return *text* with spaces in place of ``/* … */`` and ``// …``, so that all else keeps its line and column.

    Raises :class:`json.JSONDecodeError` for a comment that does not end.
    """

    def blank(found: re.Match[str]) -> str:
        if found[2]:
            raise json.JSONDecodeError("Comment that does not end", text, found.start())
        return _INK.sub(" ", found[1]) if found[1] else found[0]

    return _TOKEN.sub(blank, text)
