"""Counts jobs that have ended, their latencies and their failures."""

from __future__ import annotations

from typing import Any, Final

from txmicro.errors import JobError, TxmicroError

PERCENTILES: Final = (50, 90, 99)


class Outcomes:
    """The jobs that have ended.

    :ivar latencies: of each job that was done, the seconds from its sending to its result.
    :ivar failures: by type, how many jobs failed, and the text of the first failure.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failures: dict[str, tuple[int, str]] = {}

    def add(self, latency: float) -> None:
        """Count a job that is done, after *latency* seconds."""
        self.latencies.append(latency)

    def add_failure(self, error: TxmicroError) -> None:
        """Count a job that failed."""
        kind, text = describe(error)
        count, first = self.failures.get(kind, (0, text))
        self.failures[kind] = count + 1, first

    @property
    def failed(self) -> int:
        """How many jobs failed."""
        return sum(count for count, _ in self.failures.values())

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return len(self.latencies) + self.failed

    def percentiles(self) -> dict[str, float]:
        """Return the latencies that 50, 90 and 99 % of the jobs were within, and the longest, in ms; {}: none is done.

        By the nearest rank: each is the latency of a job.
        """
        ranked = sorted(self.latencies)
        if not ranked:
            return {}
        found = {f"p{percent}": ranked[-(-len(ranked) * percent // 100) - 1] for percent in PERCENTILES}
        return {name: round(value * 1000, 3) for name, value in {**found, "max": ranked[-1]}.items()}

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return the summary of jobs that took *seconds* together, for JSON."""
        return {
            "done": len(self.latencies),
            "failed": self.failed,
            "seconds": round(seconds, 6),
            "jobs_per_second": round(len(self.latencies) / seconds, 1) if seconds > 0 else None,
            "latency_ms": self.percentiles(),
            "failures": [
                {"type": kind, "count": count, "first": first}
                for kind, (count, first) in self.failures.items()
            ],
        }


def describe(error: TxmicroError) -> tuple[str, str]:
    """Return the type and the text of the failure of a job."""
    if isinstance(error, JobError):
        return error.type, error.message
    return type(error).__name__, str(error)
