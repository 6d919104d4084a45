"""Writes the results of a run as a table for the documentation.

``python -m tests.faults.page build/faults/results.json > docs/explanation/faults-table.txt``. If several files
contain a row, the last one counts.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from .report import figures

HEAD = (".. list-table::", "   :header-rows: 1", "   :widths: 3 22 25 9 6 6 9 8 12", "")
COLUMNS = (
    *("#", "Fault", "What holds", "Jobs", "Lost", "Failed", "Duplicate deliveries", "Duplicate effects"),
    "Recovery (s): p50 / p99 / max",
)


def page(results: Sequence[Mapping[str, Any]], when: date) -> str:
    """Return the content of results.json in reStructuredText; *when* is the date of the run."""
    passed = sum(about["passed"] for about in results)
    minutes = sum(about["seconds"] for about in results) / 60
    kind = "quick" if any(about["quick"] for about in results) else "full"
    broker = next((about["broker"] for about in results if about["broker"]), "no broker")
    summary = (
        f"{when:%-d %B %Y}: a {kind} run of {minutes:.0f} minutes, with {broker}, Python {platform.python_version()} "
        f"and {os.cpu_count()} processors. {passed} of {len(results)} rows passed."
    )
    lines = [
        line
        for first, *others in (COLUMNS, *map(_cells, results))
        for line in (f"   * - {first}", *(f"     - {cell}" for cell in others))
    ]
    further = [_further(about) for about in results if about["measured"]]
    return "\n".join(
        [summary, "", *HEAD, *lines, "", *(["Also measured:", "", *further, ""] if further else [])]
    )


def _cells(about: Mapping[str, Any]) -> list[str]:
    holds = about["promise"] if about["passed"] else f"**Not passed.** {about['promise']}"
    return [str(about["row"]), about["fault"], holds, *figures(about)]


def _further(about: Mapping[str, Any]) -> str:
    said = "; ".join(f"{name}: {_text(value)}" for name, value in about["measured"].items())
    return f"- row {about['row']}: {said}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else f"{value:,}"


def main(files: Sequence[str]) -> None:
    """Print the page for these files."""
    rows = {about["row"]: about for file in files for about in json.loads(Path(file).read_text())}
    sys.stdout.write(page([rows[number] for number in sorted(rows)], date.today()))


if __name__ == "__main__":
    main(sys.argv[1:])
