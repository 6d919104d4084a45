"""``txmicro jobs`` and ``txmicro job``: the jobs that a SystemManager remembers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import click

from .figures import NOTHING, show_count, show_seconds, show_time
from .options import CONFIG, JSON, TYPE_VALUE, Value, argument, command, whole_number
from .output import write, write_json, write_table
from .page_client import PAGE, TOKEN, PageClient, PageTask
from .task import Context

MOST: Final = 500

_HEADER: Final = ("JOB", "ADDRESS", "LANE", "OUTCOME", "SENT", "TOOK", "HOPS", "ERROR")
_STEPS: Final = ("TIME", "WHAT", "HOP", "ADDRESS", "WORKER", "TRY", "WAIT", "RAN", "OUTCOME", "ERROR")
_AGES: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(kw_only=True)
class ListJobs(PageTask):
    """``txmicro jobs``.

    :ivar since: seconds; only jobs of this last time. The others are conditions, None: any.
    """

    kind: str | None = None
    outcome: str | None = None
    error: str | None = None
    search: str | None = None
    since: float | None = None
    limit: int = 50
    as_json: bool = False

    async def ask(self, page: PageClient, context: Context) -> None:
        """Ask for the jobs, and write them."""
        answer = await page.get(
            "/api/jobs",
            type=self.kind,
            outcome=self.outcome,
            error=self.error,
            search=self.search,
            since=None if self.since is None else context.time() - self.since,
            limit=self.limit,
        )
        if self.as_json:
            write_json(answer, context.out)
            return
        jobs = answer["jobs"]
        more = ", and more" if answer["next"] else ""
        write(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}{more}", context.out)
        if jobs:
            write_table(_HEADER, map(_row, jobs), context.out)


def _row(job: dict[str, Any]) -> Sequence[str]:
    return (
        job["id"],
        job["address"],
        job["lane"] or NOTHING,
        job["outcome"],
        show_time(job["sent"]),
        show_seconds(job["seconds"]),
        show_count(job["hops"]),
        _failure(job["error"], job["message"]),
    )


def _failure(error: str, message: str) -> str:
    return f"{error}: {message}" if error and message else error or message or NOTHING


@dataclass(kw_only=True)
class ShowJob(PageTask):
    """``txmicro job``."""

    id: str
    as_json: bool = False

    async def ask(self, page: PageClient, context: Context) -> None:
        """Ask for the job's life, and write it."""
        job = await page.get(f"/api/jobs/{quote(self.id, safe='')}")
        if self.as_json:
            write_json(job, context.out)
            return
        lane = f"{job['lane']} " if job["lane"] else ""
        write(f"{job['id']}: {lane}job to {job['address']}, {job['outcome']}", context.out)
        write(f"sent {show_time(job['sent'])} by {job['sender'] or 'an unknown worker'}", context.out)
        if job["ended"] is not None:
            write(f"ended {show_time(job['ended'])}, after {show_seconds(job['seconds'])}", context.out)
        if job["error"]:
            write(_failure(job["error"], job["message"]), context.out)
        if job.get("trace"):
            write(f"trace {job['trace']}", context.out)
        write_table(_STEPS, map(_step, job["steps"]), context.out)


def _step(step: dict[str, Any]) -> Sequence[str]:
    return (
        show_time(step["time"]),
        step["kind"],
        NOTHING if step["hop"] is None else str(step["hop"]),
        step["address"] or NOTHING,
        step["worker"] or NOTHING,
        NOTHING if step["attempt"] is None else str(step["attempt"]),
        show_seconds(step["wait"]),
        show_seconds(step["seconds"]),
        step["outcome"] or NOTHING,
        step["text"] or _failure(step["error"], step["message"]),
    )


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    if found is None:
        raise ValueError
    return float(found[1]) * _AGES[found[2]]


JOBS: Final = command(
    "jobs",
    ListJobs,
    "List jobs that a SystemManager remembers, the latest first. It remembers a share of a busy system's jobs, and "
    "failures longest. SENT is in UTC.",
    click.Option(["--type", "kind"], type=TYPE_VALUE, help="Only jobs with a hop to this worker type."),
    click.Option(
        ["--outcome"],
        type=click.Choice(["pending", "succeeded", "failed", "retried", "dead", "canceled"]),
        help="Only jobs with this outcome.",
    ),
    click.Option(["--error"], metavar="TYPE", help="Only jobs that failed with this type of error."),
    click.Option(
        ["--search"],
        metavar="TEXT",
        help="Only jobs with these words in their id, address, error or message.",
    ),
    click.Option(
        ["--since"],
        type=Value("AGE", _age, "a number with s, m, h or d, such as 10m"),
        help="Only jobs of this last time, such as 10m or 2d.",
    ),
    click.Option(["--limit"], type=whole_number(1, MOST), default="50", help="The most jobs to list."),
    JSON,
    PAGE,
    TOKEN,
    CONFIG,
    short="List jobs that have ended or are under way.",
)

JOB: Final = command(
    "job",
    ShowJob,
    "Show the life of a job: when it was sent, which workers ran its hops, how long each waited and ran, how it ended. "
    "TIME is in UTC, by the clock of the machine where it happened.",
    argument(Value("JOB", str, "a job's id"), "id", "give the id of a job, as txmicro jobs lists it"),
    JSON,
    PAGE,
    TOKEN,
    CONFIG,
    short="Show what happened to a job.",
)
