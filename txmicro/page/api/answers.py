"""The schemas of the API's answers."""

from __future__ import annotations

from typing import Any, Final

from txmicro.page.access import OPERATOR, READER

from .schema import ANY_TEXT, BOOLEAN, Schema, array, choice, nullable, number, record, ref, table, whole

COUNT: Final = whole()
SECONDS: Final = number()
PAGE: Final = {"next": nullable(ANY_TEXT)}
"""The member of a page of a list: ``after`` of the next page; null: this is the last one."""

_MAYBE_COUNT: Final = nullable(COUNT)
_MAYBE_SECONDS: Final = nullable(SECONDS)
_RATE: Final = nullable(number())
_QUANTILES: Final = record({"p50": _MAYBE_SECONDS, "p99": _MAYBE_SECONDS})

_JOB: Final[dict[str, Schema]] = {
    "id": ANY_TEXT,
    "address": ANY_TEXT,
    "type": ANY_TEXT,
    "lane": ANY_TEXT,
    "outcome": ANY_TEXT,
    "error": ANY_TEXT,
    "message": ANY_TEXT,
    "sent": _MAYBE_SECONDS,
    "ended": _MAYBE_SECONDS,
    "seconds": _MAYBE_SECONDS,
    "hops": COUNT,
    "worker": ANY_TEXT,
    "sender": ANY_TEXT,
}

COMPONENTS: Final[dict[str, Schema]] = {
    "Error": record({"error": ANY_TEXT, "message": ANY_TEXT}, {"done": COUNT}),
    "Queue": record({"jobs": _MAYBE_COUNT, "consumers": _MAYBE_COUNT, "oldest": _MAYBE_SECONDS}),
    "TypeSummary": record(
        {
            "type": ANY_TEXT,
            "workers": COUNT,
            "suspect": COUNT,
            "capacity": COUNT,
            "running": _MAYBE_COUNT,
            "held": _MAYBE_COUNT,
            "pending": _MAYBE_COUNT,
            "jobs_per_second": _RATE,
            "errors_per_second": _RATE,
            "wait": _QUANTILES,
            "run": _QUANTILES,
            "trip": _QUANTILES,
            "queues": record(
                {name: ref("Queue") for name in ("interactive", "durable", "quarantine", "dead")}
            ),
        }
    ),
    "Worker": record(
        {
            "id": ANY_TEXT,
            "type": ANY_TEXT,
            "state": ANY_TEXT,
            "host": ANY_TEXT,
            "pid": COUNT,
            "version": ANY_TEXT,
            "capacity": COUNT,
            "running": _MAYBE_COUNT,
            "held": _MAYBE_COUNT,
            "pending": _MAYBE_COUNT,
            "started": _MAYBE_SECONDS,
            "uptime": _MAYBE_SECONDS,
            "heard": SECONDS,
            "metrics": ANY_TEXT,
            "jobs_per_second": _RATE,
        }
    ),
    "Job": record(_JOB),
    "Step": record(
        {
            "kind": ANY_TEXT,
            "time": SECONDS,
            "worker": ANY_TEXT,
            "address": ANY_TEXT,
            "hop": COUNT,
            "attempt": COUNT,
            "wait": _MAYBE_SECONDS,
            "seconds": _MAYBE_SECONDS,
            "outcome": ANY_TEXT,
            "error": ANY_TEXT,
            "message": ANY_TEXT,
            "text": ANY_TEXT,
        }
    ),
    "FailureGroup": record(
        {
            "id": ANY_TEXT,
            "type": ANY_TEXT,
            "error": ANY_TEXT,
            "message": ANY_TEXT,
            "count": COUNT,
            "first": SECONDS,
            "last": SECONDS,
            "sample": ANY_TEXT,
            "dead": COUNT,
        }
    ),
    "Letter": record(
        {
            "key": ANY_TEXT,
            "job": ANY_TEXT,
            "address": ANY_TEXT,
            "reason": ANY_TEXT,
            "error": ANY_TEXT,
            "message": ANY_TEXT,
            "attempts": COUNT,
            "stored": _MAYBE_SECONDS,
            "died": _MAYBE_SECONDS,
            "size": COUNT,
        }
    ),
    "Line": record(
        {
            "time": SECONDS,
            "level": ANY_TEXT,
            "worker": ANY_TEXT,
            "job": ANY_TEXT,
            "service": ANY_TEXT,
            "message": ANY_TEXT,
        }
    ),
    "AuditLine": record(
        {
            "time": SECONDS,
            "name": ANY_TEXT,
            "role": choice(READER, OPERATOR),
            "address": ANY_TEXT,
            "action": ANY_TEXT,
            "detail": ANY_TEXT,
            "outcome": ANY_TEXT,
        }
    ),
}
"""The schemas that have a name."""

SESSION: Final = record(
    {
        "name": ANY_TEXT,
        "role": choice(READER, OPERATOR),
        "manager": ANY_TEXT,
        "version": ANY_TEXT,
        "time": SECONDS,
    }
)
OVERVIEW: Final = record(
    {
        "time": SECONDS,
        "share": number(),
        "workers": COUNT,
        "types": array(ref("TypeSummary")),
        "bus": record({"connected": BOOLEAN, "obstacle": ANY_TEXT}),
        "records_per_second": number(),
        "remembered_jobs": COUNT,
    }
)
SERIES: Final = record(
    {
        "type": ANY_TEXT,
        "start": whole(),
        "step": whole(1),
        **dict.fromkeys(
            ("jobs", "errors", "wait_p50", "wait_p99", "run_p50", "run_p99", "depth", "oldest"),
            array(nullable(number())),
        ),
    }
)
WORKERS: Final = record({"total": COUNT, **PAGE, "workers": array(ref("Worker"))})
FLOW: Final = record(
    {
        "nodes": array(record({"type": ANY_TEXT, "workers": COUNT})),
        "edges": array(
            record(
                {
                    "source": ANY_TEXT,
                    "target": ANY_TEXT,
                    "jobs_per_second": number(),
                    "errors_per_second": number(),
                }
            )
        ),
    }
)
JOBS: Final = record({**PAGE, "jobs": array(ref("Job"))})
JOB: Final = record({**_JOB, "trace": ANY_TEXT, "steps": array(ref("Step"))})
FAILURES: Final = record({"groups": array(ref("FailureGroup"))})
ERRORS: Final = record({"lines": array(ref("Line"))})
DEAD: Final = record({"types": array(record({"type": ANY_TEXT, "jobs": COUNT}))})
LETTERS: Final = record({"total": COUNT, **PAGE, "letters": array(ref("Letter"))})
SETTLED: Final = record({"matched": COUNT, "done": COUNT, "expired": COUNT, "dry_run": BOOLEAN})
AUDIT: Final = record({"lines": array(ref("AuditLine"))})
LOG_LEVELS: Final = record({"levels": table(ANY_TEXT)})
NOTHING: Final = record({})
DESCRIPTION: Final[dict[str, Any]] = {"type": "object"}
