"""Makes the tables of the configuration's keys from the configuration itself.

``conf.py`` puts the full table into the documentation. Run as a program, this prints the table of README.rst.
"""

from __future__ import annotations

from collections.abc import Sequence

from txmicro.config import describe


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a simple table in reStructuredText. No cell of the first column may be empty."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    head = "  ".join(map(str.ljust, header, widths)).rstrip()
    return "\n".join([rule, head, rule, *lines, rule, ""])


def short() -> str:
    """Return the README's table: key, default, unit and meaning."""
    rows = [(f"``{row.key}``", f"``{row.default}``", row.unit, row.meaning) for row in describe()]
    return table(("Key", "Default", "Unit", "Meaning"), rows)


def full() -> str:
    """Return the documentation's table, which also has the values that a key may have."""
    rows = [
        (f"``{row.key}``", f"``{row.default}``", row.unit, f"{row.meaning} ({row.expected})")
        for row in describe()
    ]
    return table(("Key", "Default", "Unit", "Meaning (expected value)"), rows)


if __name__ == "__main__":
    print(short())  # noqa: T201 - the program's output
