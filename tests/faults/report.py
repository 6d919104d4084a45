"""What the suite tells: results as JSON, and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Verdict

COLUMNS = ("row", "fault", "jobs", "lost", "failed", "dup. deliveries", "dup. effects", "recovery", "passed")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that a *share* of them does not exceed; at least one value is needed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass
class Result:
    """How a row went.

    :ivar recovery: seconds that each recovery took. :ivar problems: why it has not passed, in words.
    :ivar measured: further figures.
    """

    row: int
    fault: str
    quick: bool
    verdict: Verdict = field(default_factory=Verdict)
    recovery: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def summary(self) -> dict[str, float]:
        """p50, p99 and the longest of the recoveries; empty if there were none."""
        if not self.recovery:
            return {}
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {name: round(percentile(self.recovery, share), 3) for name, share in shares.items()}

    def as_dict(self) -> dict[str, Any]:
        """What results.json has of it."""
        verdict = asdict(self.verdict)
        del verdict["problems"]
        return {
            "row": self.row,
            "fault": self.fault,
            **verdict,
            "passed": self.passed,
            "recovery": self.summary(),
            "recoveries": len(self.recovery),
            "measured": self.measured,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
            "quick": self.quick,
        }

    def cells(self) -> list[str]:
        """Its line of the table."""
        v = self.verdict
        times = " / ".join(f"{value:.2f}" for value in self.summary().values())
        counts = (v.jobs, v.lost, v.failed, v.duplicate_deliveries, v.duplicate_effects)
        return [str(self.row), self.fault, *map(str, counts), times or "-", "yes" if self.passed else "NO"]


def write(results: Iterable[Result], path: Path) -> None:
    """Write results.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")


def table(results: Iterable[Result]) -> str:
    """The results as a table in reStructuredText; recovery is p50 / p99 / max in seconds."""
    lines = [list(COLUMNS), *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    rule = "  ".join("=" * width for width in widths)
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([rule, rows[0], rule, *rows[1:], rule])
