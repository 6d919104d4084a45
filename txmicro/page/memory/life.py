"""The life of a job: its records in their order, and their summary.

The records of a job come from several processes, whose clocks differ, in any order. The same records always give the
same life.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from txmicro.monitoring import records
from txmicro.monitoring.records import Record
from txmicro.protocol import outcomes

MAX_STEPS: Final = 100
"""The most records of a job that are remembered: its first ones, and its last ones."""
FIRST_STEPS: Final = 20
"""How many of them are its first ones."""

PENDING: Final = "pending"
"""The outcome of a job that has none yet."""
FAILING: Final = frozenset({outcomes.FAILED, outcomes.RETRIED, outcomes.DEAD})
"""Outcomes of jobs that belong to a group of failures."""

_RANKS: Final = {
    kind: rank
    for rank, kind in enumerate(
        (
            records.SENT,
            records.RESENT,
            records.RAN,
            records.DEAD,
            records.ENDED,
            records.REQUEUED,
            records.DISCARDED,
        )
    )
}
_FINAL: Final = frozenset({outcomes.SUCCEEDED, outcomes.FAILED, outcomes.CANCELED})
_SETTLING: Final = frozenset({records.RAN, records.REQUEUED, records.DISCARDED})
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DEFAULTS: Final = tuple(Record._field_defaults.values())
_REQUIRED: Final = len(Record._fields) - len(_DEFAULTS)


class Failing(NamedTuple):
    """A job's failure: the worker type where it happened, the error's type, and its message."""

    type: str
    error: str
    message: str


@dataclass(slots=True)
class Summary:
    """A job in a list.

    :ivar id: the job's id.
    :ivar address: the address of its first hop.
    :ivar types: the worker types of all hops.
    :ivar sent: when it was sent, in Unix seconds. :ivar ended: when it ended; None: it has not.
    :ivar seconds: how long it took; None: unknown.
    :ivar hops: how many hops it has made.
    :ivar worker: the worker that ran it last. :ivar sender: the worker that sent it.
    :ivar failing: its failure; None: it has not failed, or has succeeded since.
    :ivar dead: the hop that is a dead letter, as far as known; None: there is none.
    """

    id: str
    address: str
    types: tuple[str, ...]
    lane: str
    outcome: str
    sent: float
    ended: float | None
    seconds: float | None
    hops: int
    worker: str
    sender: str
    trace: str
    failing: Failing | None
    dead: int | None


def arrange(steps: Iterable[Record]) -> list[Record]:
    """Return the different ones of *steps* in their order, at most :data:`MAX_STEPS`.

    A hop follows the one before, and is sent before all else happens to it. A job that succeeds ends last. Otherwise
    time decides, and of equal times the kind.
    """
    different = dict.fromkeys(steps)
    last = max((step.hop for step in different if step.kind != records.LOG), default=0)

    def place(step: Record) -> tuple[int, bool, float, int]:
        rank = _RANKS[step.kind]
        if step.kind == records.ENDED:
            return (last + (step.outcome == outcomes.SUCCEEDED), True, step.time, rank)
        return (step.hop, step.kind != records.SENT, step.time, rank)

    arranged = sorted((step for step in different if step.kind != records.LOG), key=place)
    for line in sorted((step for step in different if step.kind == records.LOG), key=lambda line: line.time):
        later = (index for index, step in enumerate(arranged) if step.time > line.time)
        arranged.insert(next(later, len(arranged)), line)
    if len(arranged) > MAX_STEPS:
        arranged[FIRST_STEPS : len(arranged) - (MAX_STEPS - FIRST_STEPS)] = []
    return arranged


def summarize(steps: Sequence[Record]) -> Summary:
    """Return the summary of a job from its records, as :func:`arrange` returns them."""
    hops = [step for step in steps if step.kind != records.LOG] or steps
    first, runs = hops[0], [step for step in hops if step.kind == records.RAN]
    addresses = {step.hop: step.address for step in reversed(hops) if step.address}
    address = addresses[min(addresses)] if addresses else ""
    dead = _dead(hops)
    outcome, end = _outcome(hops, dead)
    sent = min((_sent(step) for step in hops if step.hop == first.hop), default=first.time)
    return Summary(
        id=first.job,
        address=address,
        types=tuple(sorted({each.partition(":")[0] for each in addresses.values()})),
        lane=next((step.lane for step in hops if step.lane), ""),
        outcome=outcome,
        sent=sent,
        ended=end and end.time,
        seconds=end and _duration(end, sent),
        hops=1 + max(step.hop for step in hops),
        worker=runs[-1].worker if runs else "",
        sender=next((step.worker for step in hops if step.kind in (records.SENT, records.ENDED)), ""),
        trace=next((step.trace for step in hops if step.trace), ""),
        failing=_failing(hops, addresses, address) if outcome in FAILING else None,
        dead=dead and dead.hop,
    )


def _sent(step: Record) -> float:
    """Return when the hop of *step* was sent at the latest."""
    if step.kind == records.RAN:
        return step.time - (step.wait or 0.0) - (step.seconds or 0.0)
    if step.kind == records.ENDED:
        return step.time - (step.seconds or 0.0)
    return step.time


def _duration(end: Record, sent: float) -> float:
    if end.kind == records.ENDED and end.seconds is not None:
        return end.seconds
    return round(max(0.0, end.time - sent), 6)


def _dead(hops: Sequence[Record]) -> Record | None:
    """Return the record of the dead letter that the job is; None: it is not one, or has been run again since."""
    dead = max((step for step in hops if _died(step)), key=_time, default=None)
    if dead and any(_settles(step, dead) for step in hops):
        return None
    return dead


def _settles(step: Record, dead: Record) -> bool:
    """Return whether the job is not the dead letter *dead* any more because of *step*.

    The run of an earlier hop does not count. It ends when the broker has confirmed the next hop, which may have died
    by then.
    """
    if step.kind not in _SETTLING or step.time <= dead.time or _died(step):
        return False
    return step.kind != records.RAN or step.hop >= dead.hop


def _died(step: Record) -> bool:
    return step.kind == records.DEAD or (step.kind == records.RAN and step.outcome == outcomes.DEAD)


def _outcome(hops: Sequence[Record], dead: Record | None) -> tuple[str, Record | None]:
    """Return the job's outcome, and the record that it is known from; None: the job has not ended.

    The origin's outcome counts, unless an operator has sent the job again since.
    """
    if dead:
        return outcomes.DEAD, dead
    again = max((step.time for step in hops if step.kind == records.REQUEUED), default=-1.0)
    since = [step for step in hops if step.time > again]
    for step in since:
        if step.kind == records.ENDED:
            return step.outcome, step
    last = max(
        (step for step in since if step.kind == records.RAN),
        key=lambda run: (run.hop, run.time),
        default=None,
    )
    if last and last.outcome in _FINAL:
        return last.outcome, last
    if any(step.kind == records.DISCARDED for step in since):
        return outcomes.FAILED, last or hops[-1]
    return (outcomes.RETRIED if last and last.outcome == outcomes.RETRIED else PENDING), None


def _failing(hops: Sequence[Record], addresses: dict[int, str], first: str) -> Failing:
    failed = max((step for step in hops if step.error), key=_time, default=hops[-1])
    run = max((step for step in hops if step.error and step.kind != records.ENDED), key=_time, default=failed)
    address = run.address or addresses.get(run.hop) or first
    return Failing(address.partition(":")[0], failed.error, failed.message)


def _time(step: Record) -> float:
    return step.time


def encode(steps: Sequence[Record]) -> str:
    """Return *steps* as a JSON text, without the job's id and without defaults at the ends."""
    return _ENCODE([_trim(step) for step in steps])


def _trim(step: Record) -> list[object]:
    row: list[object] = [step.kind, step.time, *step[_REQUIRED:]]
    while len(row) > 2 and row[-1] == _DEFAULTS[len(row) - 3]:
        row.pop()
    return row


def decode(job: str, text: str) -> list[Record]:
    """Return the records of *job* that :func:`encode` has encoded."""
    return [Record(kind, time, job, *rest) for kind, time, *rest in json.loads(text)]
