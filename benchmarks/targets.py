"""The targets of the measurements, most of them ratios within one run, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

Result = dict[str, Any]
WANTED: Final = {"≥": lambda value, bound: value >= bound, "≤": lambda value, bound: value <= bound}


class Figure(NamedTuple):
    """One number of the results: the median of *key* of a system in a benchmark, in the case *where*."""

    bench: str
    system: str
    key: str
    where: dict[str, Any]

    def of(self, results: Sequence[Result]) -> float | None:
        """Return the number, or None if it was not measured."""
        for result in results:
            if (result["bench"], result["system"]) == (
                self.bench,
                self.system,
            ) and self.where.items() <= result.items():
                value: float | None = result.get(self.key)
                return value
        return None


class Target(NamedTuple):
    """A number, or its ratio to another one, with its bound."""

    what: str
    figure: Figure
    wanted: str
    bound: float
    base: Figure | None = None

    def value(self, results: Sequence[Result]) -> float | None:
        """Return the measured value, or None if it was not measured."""
        value = self.figure.of(results)
        if value is None or self.base is None:
            return value
        base = self.base.of(results)
        return value / base if base else None

    def row(self, results: Sequence[Result]) -> list[str] | None:
        """Return the target's row of the table, or None if it was not measured."""
        value = self.value(results)
        if value is None:
            return None
        enough = "yes" if WANTED[self.wanted](value, self.bound) else "NO"
        return [self.what, f"{self.wanted} {self.bound:,g}", f"{value:,.2f}", enough]


def _jobs(system: str, key: str = "per_second", in_flight: int = 100) -> Figure:
    return Figure("jobs", system, key, {"in_flight": in_flight})


def _rest(system: str, key: str, connections: int) -> Figure:
    return Figure("rest", system, key, {"in_flight": connections})


def _crowd(key: str) -> Figure:
    return Figure("workers", "txmicro", key, {"workers": 1000, "types": 50})


def _start(key: str, **where: Any) -> Figure:
    return Figure("start", "txmicro", key, where)


_OURS: Final = _jobs("txmicro")
_MANY: Final = {"in_flight": 100}

TARGETS: Final = (
    Target("jobs/s at 100 ÷ C's", _OURS, "≥", 0.5, _jobs("c-librabbitmq")),
    Target("jobs/s at 100 ÷ Node's", _OURS, "≥", 1.3, _jobs("node-amqplib")),
    Target("jobs/s at 100 ÷ aio-pika's", _OURS, "≥", 6, _jobs("aio-pika")),
    Target("jobs/s at 100 ÷ Celery's", _OURS, "≥", 15, _jobs("celery")),
    Target("p50 at 1 ÷ C's", _jobs("txmicro", "p50_ms", 1), "≤", 2, _jobs("c-librabbitmq", "p50_ms", 1)),
    Target("p99 at 100 ÷ p50", _jobs("txmicro", "p99_ms"), "≤", 2, _jobs("txmicro", "p50_ms")),
    Target("durable jobs/s at 100 ÷ interactive", _jobs("txmicro-durable"), "≥", 0.4, _OURS),
    Target("embedded broker, jobs/s at 100", _jobs("txmicro-embedded"), "≥", 3000),
    Target(
        "REST at 64 ÷ the bare chain's",
        _rest("txmicro", "per_second", 64),
        "≥",
        0.7,
        _rest("bare", "per_second", 64),
    ),
    Target("REST at 16, p50 ms", _rest("txmicro", "p50_ms", 16), "≤", 8),
    Target("1,000 workers known, s", _crowd("known_s"), "≤", 2),
    Target("their manager, % of a core", _crowd("manager_cpu_percent"), "≤", 5),
    Target("messages a keepalive and worker", _crowd("messages_per_keepalive"), "≤", 1.1, _crowd("workers")),
    Target("exec to announced, s", _start("announced_s", workers=1), "≤", 0.8),
    Target("RSS idle, MB", _start("rss_idle_mb", workers=1), "≤", 65),
    Target("RSS of a further worker, KB", _start("rss_kb_per_further_worker", workers=1), "≤", 150),
    Target(
        "RSS after all jobs ÷ after a tenth",
        _start("rss_then_mb", **_MANY),
        "≤",
        1.05,
        _start("rss_warm_mb", **_MANY),
    ),
)


def rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a row for each measured target: what, the bound, the value, whether it is enough."""
    return [row for target in TARGETS if (row := target.row(results)) is not None]
