"""Text that can be shown: in a line of a log, on a terminal, in UTF-8."""

from __future__ import annotations

from typing import Final

_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    # Control characters, line and paragraph separators, and the controls of the text's direction.
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
} | {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def printable(text: str) -> str:
    """Return *text* on one line, encodable in UTF-8, with escapes for the characters that control a terminal."""
    return encodable(text if text.isprintable() else text.translate(_ESCAPES))


def encodable(text: str) -> str:
    """Return *text* with escapes for its surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()
