"""Answers of a SystemManager's API, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

_QUIET = {"jobs": 0, "consumers": 1, "oldest": None}


def summary(kind: str, **values: Any) -> dict[str, Any]:
    """Return the summary of a worker type, as ``/api/overview`` has it."""
    queues = values.pop("queues", {})
    return {
        "type": kind,
        "workers": 1,
        "suspect": 0,
        "capacity": 100,
        "running": 0,
        "held": 0,
        "pending": 0,
        "jobs_per_second": 0.0,
        "errors_per_second": 0.0,
        **{name: {"p50": None, "p99": None} for name in ("wait", "run", "trip")},
        "queues": {
            name: {**_QUIET, **queues.get(name, {})}
            for name in ("interactive", "durable", "quarantine", "dead")
        },
        **values,
    }


def overview(*types: dict[str, Any], obstacle: str = "") -> dict[str, Any]:
    """Return an answer of ``/api/overview``."""
    return {
        "time": 1_795_536_598.75,
        "share": 1.0,
        "workers": sum(each["workers"] for each in types),
        "types": list(types),
        "bus": {"connected": not obstacle, "obstacle": obstacle},
        "records_per_second": 0.0,
        "remembered_jobs": 0,
    }
