"""Answers the memory's queries. Runs in threads that only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from txmicro.protocol.job import hop_key
from txmicro.util.text import encodable

from .life import decode
from .queries import MOST, DeadGroup, FailureQuery, JobQuery, read_after
from .schema import OTHERS, TICK
from .terms import ERROR, GROUP, OUTCOME, TYPE, expression, filter_term

MAX_KEYS: Final = 10_000
"""The most keys of dead letters that are returned at once, the oldest first."""

_SHOWN: Final = "id, address, lane, outcome, error, message, sent, ended, seconds, hops, worker, sender"
_JOB: Final = f"SELECT {_SHOWN}, trace, steps FROM jobs WHERE id = ?"  # noqa: S608
_LIST: Final = f"SELECT number, {_SHOWN} FROM jobs WHERE number BETWEEN ? AND ? ORDER BY number DESC LIMIT ?"  # noqa: S608
_SEARCH: Final = f"""SELECT number, {_SHOWN} FROM terms JOIN jobs ON number = terms.rowid
    WHERE terms MATCH ? AND terms.rowid BETWEEN ? AND ? ORDER BY terms.rowid DESC LIMIT ?"""  # noqa: S608
_COUNT: Final = "SELECT count(*) FROM jobs WHERE grp = ? AND number >= ?"
_KEYS: Final = "SELECT id, dead FROM jobs WHERE grp = ? AND dead IS NOT NULL ORDER BY number LIMIT ?"
_END: Final = 2**62


def jobs(connection: sqlite3.Connection, query: JobQuery) -> dict[str, Any]:
    """Return a page of jobs, the newest first.

    :raise txmicro.errors.BadRequest: ``after`` is not valid.
    """
    after = read_after(query.after)
    filters = [
        filter_term(kind, value)
        for kind, value in (
            (TYPE, query.type),
            (OUTCOME, query.outcome),
            (ERROR, query.error),
            (GROUP, query.group),
        )
        if value
    ]
    condition = expression(filters, query.search)
    if condition is None:
        return {"next": None, "jobs": []}
    limit = max(1, min(query.limit, MOST))
    bounds = _bounds(connection, query, after)
    sql, values = (_SEARCH, (condition, *bounds)) if condition else (_LIST, bounds)
    rows = connection.execute(sql, (*values, limit + 1)).fetchall()
    page = rows[:limit]
    return {
        "next": str(page[-1][0]) if len(rows) > limit else None,
        "jobs": [_shown(row) for _, *row in page],
    }


def _bounds(connection: sqlite3.Connection, query: JobQuery, after: int | None) -> tuple[int, int]:
    """Return the first and the last number that the page may have."""
    first, last = (
        _number(query.since, 0),
        min(_number(query.until, _END), _END if after is None else after - 1),
    )
    exact = connection.execute(
        "SELECT number FROM jobs WHERE id = ?", (encodable(query.search.strip()),)
    ).fetchone()
    return (max(first, exact[0]), min(last, exact[0])) if exact else (first, last)


def job(connection: sqlite3.Connection, id: str) -> dict[str, Any] | None:
    """Return the job with its steps; None: it is not known."""
    row = connection.execute(_JOB, (encodable(id),)).fetchone()
    if row is None:
        return None
    *shown, trace, steps = row
    return {
        **_shown(shown),
        "trace": trace,
        "steps": [_step(step._asdict()) for step in decode(id, steps)],
    }


def failures(connection: sqlite3.Connection, query: FailureQuery) -> dict[str, Any]:
    """Return the groups of failures, the one that failed last first."""
    conditions, values = ["last >= ?"], [query.since or 0.0]
    texts: list[str] = []
    if query.type:
        conditions.append("type = ?")
        texts.append(encodable(query.type))
    for text in encodable(query.search).split():
        conditions.append("instr(lower(type || ' ' || error || ' ' || message), lower(?))")
        texts.append(text)
    sql = f"SELECT * FROM failures WHERE {' AND '.join(conditions)} ORDER BY last DESC LIMIT ?"  # noqa: S608
    names = ("id", "type", "error", "message", "count", "dead", "first", "last", "sample")
    groups = [
        dict(zip(names, row, strict=True)) for row in connection.execute(sql, (*values, *texts, query.limit))
    ]
    if query.since is not None:
        since = _number(query.since, 0)
        for group in groups:
            (group["count"],) = connection.execute(_COUNT, (group["id"], since)).fetchone()
    return {"groups": groups}


def dead_letters(connection: sqlite3.Connection, group: str) -> DeadGroup | None:
    """Return the dead letters of a group of failures, as far as known; None: the group is not known."""
    id = encodable(group)
    found = connection.execute("SELECT type, error, message FROM failures WHERE id = ?", (id,)).fetchone()
    if found is None:
        return None
    keys = [hop_key(job, hop) for job, hop in connection.execute(_KEYS, (id, MAX_KEYS))]
    kind, error, message = found
    return DeadGroup(kind, None if message == OTHERS else error, message, keys)


def _number(time: float | None, default: int) -> int:
    return default if time is None else int(max(0.0, min(time / TICK, _END)))  # NaN is 0


def _shown(row: Sequence[Any]) -> dict[str, Any]:
    job = dict(zip(_SHOWN.split(", "), row, strict=True))
    return {**job, "type": job["address"].partition(":")[0]}


def _step(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name not in ("job", "lane", "trace")}
