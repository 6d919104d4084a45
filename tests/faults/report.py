"""Writes the results of the suite as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .records import Evaluation

COUNTS = ("jobs", "lost", "failed", "duplicate_deliveries", "duplicate_effects")
COLUMNS = ("row", "fault", "jobs", "lost", "failed", "dup. deliveries", "dup. effects", "recovery", "passed")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that a *share* of them does not exceed. There must be at least one value."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass
class Result:
    """The result of a row.

    :ivar promise: the property that the row tests.
    :ivar broker: product and version of the broker.
    :ivar recovery: the duration of each recovery in seconds.
    :ivar problems: the reasons why it has not passed.
    :ivar unavailable: the program or privilege that this machine lacks; the row has then not passed.
    :ivar measured: further figures.
    """

    row: int
    fault: str
    quick: bool
    evaluation: Evaluation = field(default_factory=Evaluation)
    recovery: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unavailable: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    promise: str = ""
    broker: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the row was run, and there is no problem."""
        return not self.problems and not self.unavailable

    @property
    def only_late(self) -> bool:
        """Return whether it has not passed, but no job is lost or failed, and no effect is duplicated."""
        found = self.evaluation
        return bool(self.problems) and not (found.lost or found.failed or found.duplicate_effects)

    def summary(self) -> dict[str, float]:
        """Return p50, p99 and maximum of the recoveries; empty if there were none."""
        if not self.recovery:
            return {}
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {name: round(percentile(self.recovery, share), 3) for name, share in shares.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the object for results.json."""
        evaluation = asdict(self.evaluation)
        del evaluation["problems"]
        return {
            "row": self.row,
            "fault": self.fault,
            **evaluation,
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
        """Return the cells of its line in the printed table."""
        return [str(self.row), self.fault, *figures(self.as_dict()), "yes" if self.passed else "NO"]


def figures(about: Mapping[str, Any]) -> list[str]:
    """Return the numbers of a result's line, from the result of :meth:`Result.as_dict`."""
    counts = [f"{about[name]:,}" for name in COUNTS]
    return [*counts, " / ".join(f"{value:.2f}" for value in about["recovery"].values()) or "-"]


def write(results: Iterable[Result], path: Path) -> None:
    """Write results.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")


def table(results: Iterable[Result]) -> str:
    """Return the results as a table for the terminal; recovery is p50 / p99 / max in seconds."""
    lines = [list(COLUMNS), *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    rule = "  ".join("=" * width for width in widths)
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([rule, rows[0], rule, *rows[1:], rule])
