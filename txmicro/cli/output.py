"""How commands write their answers: plain text, tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from txmicro.util.text import printable

_UNLIMITED: Final = 10_000
"""Columns of an output that is not a terminal: programs read it, so no cell is wrapped."""


def write(text: str, out: TextIO) -> None:
    """Write *text* and a newline to *out*, with escapes for what could control a terminal."""
    print("\n".join(printable(line) for line in text.split("\n")), file=out)


def write_json(value: Any, out: TextIO) -> None:
    """Write *value* as one JSON value in one line, for programs; what JSON has no type for is written as a text."""
    write(json.dumps(value, default=to_json), out)


def show_json(value: Any) -> str:
    """Return *value* as JSON for people, indented; or its ``repr`` as a text if JSON cannot have it."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, default=to_json)
    except (TypeError, ValueError, RecursionError):  # a key that is not a text, or too deep for JSON
        return json.dumps(repr(value))


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    """Write a table: in the width of the terminal *out*, or without wrapping if *out* is not a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(file=out, width=None if out.isatty() else _UNLIMITED, highlight=False)
    with console.capture() as written:
        console.print(table)
    for line in written.get().splitlines():
        print(line.rstrip(), file=out)


def to_json(value: Any) -> str:
    """Return the text for a *value* that JSON has no type for."""
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)
