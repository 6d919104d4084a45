"""The table of the configuration, made from the configuration itself.

``conf.py`` puts the full one into the documentation. Run as a program, this prints the one that README.rst holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from txmicro.config import describe


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A simple table of reStructuredText; no cell may be empty in the first column."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    head = "  ".join(map(str.ljust, header, widths)).rstrip()
    return "\n".join([rule, head, rule, *lines, rule, ""])


def short() -> str:
    """Key, default, unit and meaning: what the README holds."""
    rows = [(f"``{row.key}``", f"``{row.default}``", row.unit, row.meaning) for row in describe()]
    return table(("Key", "Default", "Unit", "Meaning"), rows)


def full() -> str:
    """All there is to say, the variable and the possible values too."""
    rows = [
        (f"``{row.key}``", f"``{row.default}``", row.unit, f"{row.meaning} ({row.expected})")
        for row in describe()
    ]
    return table(("Key", "Default", "Unit", "Meaning (what it has to be)"), rows)


if __name__ == "__main__":
    print(short())  # noqa: T201 - it is what was asked for
