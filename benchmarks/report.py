"""Writes the results as tables and as ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from . import targets
from .bench import Sample

BASE: Final = "txmicro"
"""The system that the others are compared with."""

COMMON: Final = ("in_flight", "per_second", "p50_ms", "p99_ms")
"""The keys that every result has. The value is None where a key does not apply."""

Result = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: its heading, the key of a result, and the format of a number."""

    heading: str
    key: str
    form: str = ",.0f"


RATES: Final = (
    Column("median/s", "per_second"),
    Column("min", "per_second_min"),
    Column("max", "per_second_max"),
    Column("ratio", "ratio", ".2f"),
    Column("p50 ms", "p50_ms", ",.2f"),
    Column("p99 ms", "p99_ms", ",.2f"),
)

CASES: Final = (
    Column("in flight", "in_flight", "d"),
    Column("format", "format", "s"),
    Column("bytes", "bytes", ",d"),
    Column("workers", "workers", ",d"),
    Column("types", "types", "d"),
)
"""The columns that distinguish the results of one system in one benchmark."""

COLUMNS: Final = (
    *CASES,
    *RATES,
    Column("MB/s", "mb_per_second", ",.1f"),
    Column("sender µs", "sender_us"),
    Column("worker µs", "worker_us"),
    Column("all known s", "known_s", ".2f"),
    Column("after exec s", "known_after_exec_s", ".2f"),
    Column("manager CPU %", "manager_cpu_percent", ".2f"),
    Column("msgs/keepalive", "messages_per_keepalive"),
    Column("KB/worker", "rss_kb_per_worker"),
    Column("announced s", "announced_s", ".2f"),
    Column("RSS idle MB", "rss_idle_mb", ".1f"),
    Column("KB/further worker", "rss_kb_per_further_worker"),
    Column("jobs", "jobs", ",.0f"),
    Column("RSS warm MB", "rss_warm_mb", ".1f"),
    Column("RSS then MB", "rss_then_mb", ".1f"),
    Column("sender RSS MB", "rss_sender_mb", ".1f"),
)


def summarize(samples: Iterable[Sample]) -> list[Result]:
    """Return the medians of each benchmark, system and case, with their ratio to :data:`BASE`."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.bench, sample.system, *sample.case.items()), []).append(sample)
    results = [_summary(group) for group in groups.values()]
    base = {_place(result): result["per_second"] for result in results if result["system"] == BASE}
    for result in results:
        rate, other = result["per_second"], base.get(_place(result))
        result["ratio"] = rate / other if rate is not None and other else None
    return results


def _summary(group: Sequence[Sample]) -> Result:
    first = group[0]
    result: Result = {"bench": first.bench, "system": first.system, **dict.fromkeys(COMMON), **first.case}
    for name in first.values:
        result[name] = median(sample.values[name] for sample in group)
    if "per_second" in first.values:
        rates = [sample.values["per_second"] for sample in group]
        result |= {"per_second_min": min(rates), "per_second_max": max(rates)}
    return result | {"rounds": [dict(sample.values) for sample in group]}


def _place(result: Result) -> tuple[Any, ...]:
    return (result["bench"], *(result.get(column.key) for column in CASES))


def table(results: Sequence[Result]) -> str:
    """Return the results of one benchmark as text, without empty columns."""
    columns = [column for column in COLUMNS if any(result.get(column.key) is not None for result in results)]
    rows = [["system", *(column.heading for column in columns)]]
    rows += [
        [result["system"], *(_cell(result.get(each.key), each.form) for each in columns)]
        for result in results
    ]
    return _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as aligned columns. The first row is the heading. Only the first column is aligned to
    the left.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    ruled = [rows[0], ["=" * width for width in widths], *rows[1:]]
    return "\n".join(_line(row, widths) for row in ruled)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def text(
    header: str, results: Sequence[Result], settings: Mapping[str, str], absent: Mapping[str, str]
) -> str:
    """Return all tables under *header*, with the *settings* of the systems and the reasons for *absent* ones."""
    benches = dict.fromkeys(result["bench"] for result in results)
    parts = [header]
    for bench in benches:
        mine = sorted((each for each in results if each["bench"] == bench), key=_order)
        parts.append(f"{bench}\n\n{table(mine)}")
    reached = targets.rows(results)
    if reached:
        parts.append(f"targets\n\n{_columns([['what', 'target', 'reached', 'enough'], *reached])}")
    used = {each["system"]: settings[each["system"]] for each in results if each["system"] in settings}
    for heading, notes in (("settings", used), ("absent, or failed", absent)):
        if notes:
            parts.append("\n".join([heading, "", *(f"{name}: {note}" for name, note in notes.items())]))
    return "\n\n\n".join(parts) + "\n"


def _order(result: Result) -> tuple[Any, ...]:
    """Return the key that sorts by case, then the fastest first."""
    case = tuple(result.get(column.key) or 0 for column in CASES if column.key != "format")
    return (*case, result.get("format") or "", -(result["per_second"] or 0))


def headline(results: Sequence[Result]) -> str:
    """Return the README's table in reStructuredText: jobs with 100 in flight, and the time of one job."""
    jobs = {(each["system"], each["in_flight"]): each for each in results if each["bench"] == "jobs"}
    many = sorted((each for (_, level), each in jobs.items() if level == 100), key=_order)
    rows = [["System", "jobs/s, 100 in flight", "ratio", "ms a job, one in flight"]]
    rows += [[f"``{each['system']}``", *_shown(each, jobs.get((each["system"], 1), {}))] for each in many]
    top, rule, *body = _columns(rows).splitlines()
    return "\n".join([rule, top, rule, *body, rule, ""])


def _shown(many: Result, one: Result) -> list[str]:
    return [_cell(many["per_second"], ",.0f"), _cell(many["ratio"], ".2f"), _cell(one.get("p50_ms"), ".2f")]


def write(results: Sequence[Result], path: Path) -> None:
    """Write ``results.json``: a list of objects."""
    path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
