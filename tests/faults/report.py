"""What the suite tells: results as JSON, and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Verdict

COUNTS = ("jobs", "lost", "failed", "duplicate_deliveries", "duplicate_effects")
COLUMNS = ("row", "fault", "jobs", "lost", "failed", "dup. deliveries", "dup. effects", "recovery", "passed")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that a *share* of them does not exceed; at least one value is needed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass
class Result:
    """How a row went.

    :ivar promise: what it shows. :ivar broker: the product and version that it was played with.
    :ivar recovery: seconds that each recovery took. :ivar problems: why it has not passed, in words.
    :ivar unavailable: what this machine lacks to play it; it has then not passed.
    :ivar measured: further figures.
    """

    row: int
    fault: str
    quick: bool
    verdict: Verdict = field(default_factory=Verdict)
    recovery: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unavailable: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    promise: str = ""
    broker: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was played, and nothing was found."""
        return not self.problems and not self.unavailable

    @property
    def only_late(self) -> bool:
        """Whether it has not passed, but no job is lost or failed, and no effect came twice."""
        found = self.verdict
        return bool(self.problems) and not (found.lost or found.failed or found.duplicate_effects)

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
            "unavailable": self.unavailable,
            "promise": self.promise,
            "broker": self.broker,
            "seconds": round(self.seconds, 1),
            "quick": self.quick,
        }

    def cells(self) -> list[str]:
        """Its line of the table that is printed."""
        return [str(self.row), self.fault, *figures(self.as_dict()), "yes" if self.passed else "NO"]


def figures(about: Mapping[str, Any]) -> list[str]:
    """The numbers of a result's line, of what :meth:`Result.as_dict` gives."""
    counts = [f"{about[name]:,}" for name in COUNTS]
    return [*counts, " / ".join(f"{value:.2f}" for value in about["recovery"].values()) or "-"]


def write(results: Iterable[Result], path: Path) -> None:
    """Write results.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")


def table(results: Iterable[Result]) -> str:
    """The results as a table for the terminal; recovery is p50 / p99 / max in seconds."""
    lines = [list(COLUMNS), *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    rule = "  ".join("=" * width for width in widths)
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([rule, rows[0], rule, *rows[1:], rule])
