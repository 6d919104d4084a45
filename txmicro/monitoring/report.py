"""The messages of monitoring: a SystemManager's watch, and a worker's report. :doc:`/reference/wire` lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from txmicro.errors import DecodeError, show
from txmicro.protocol.address import check_type
from txmicro.protocol.messages import check_worker_id, get, get_number, get_short_text

from .quantiles import COUNTS
from .records import Record
from .rows import from_row, to_row

WATCH: Final = "monitor.watch"
"""The topic of watches."""

RECORDS_MAX: Final = 5_000
"""Records in one report."""

_LABELS_MAX: Final = 300
"""Labels of one of a report's numbers."""

_LABEL_MAX: Final = 100
"""Characters of a label."""

_COUNT_MAX: Final = 2**53


def report_topic(kind: str) -> str:
    """Return the topic of reports of workers of type *kind*."""
    return f"monitor.report.{kind}"


@dataclass(slots=True, frozen=True)
class Watch:
    """A SystemManager wants reports for the next ``WATCHED`` seconds.

    :ivar manager: its id.
    :ivar interval: seconds between two reports of a worker.
    :ivar share: the share of jobs that are recorded, from 0 to 1.
    :ivar failures: how many failures of other jobs a report contains at most.
    """

    manager: str
    interval: float = 1.0
    share: float = 1.0
    failures: int = 0

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_body(cls, body: Any) -> Watch:
        """Return the watch in *body*. Raises :class:`~txmicro.errors.DecodeError`."""
        manager = check_worker_id(get(body, "manager", str))
        interval = get_number(body, "interval", 1)
        share = get_number(body, "share", 1)
        if not 0.1 <= interval <= 60:
            raise DecodeError(f"'interval' is {show(interval)}: expected seconds from 0.1 to 60")
        if share > 1:
            raise DecodeError(f"'share' is {show(share)}: expected a number from 0 to 1")
        return cls(manager, interval, share, min(RECORDS_MAX, int(get_number(body, "failures", 0))))


Counts = dict[str, int]


@dataclass(slots=True)
class Numbers:
    """The numbers of a service in one process, which only grow while the process runs.

    :ivar jobs: how many jobs ended how, by lane and outcome.
    :ivar wait: histograms of the seconds until the handler started, by lane: :data:`~.quantiles.COUNTS` numbers each.
    :ivar run: histograms of the seconds that handlers ran, by lane.
    :ivar trip: histograms of the seconds from a job's send to its end at its origin, by the type of its first address.
    """

    jobs: dict[str, Counts] = field(default_factory=dict)
    wait: dict[str, list[int]] = field(default_factory=dict)
    run: dict[str, list[int]] = field(default_factory=dict)
    trip: dict[str, list[int]] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the part of the message's body."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Numbers:
        """Return the numbers in a service's *snapshot* (:meth:`txmicro.metrics.ServiceMetrics.snapshot`)."""
        histograms = {
            name: {label: each["counts"] for label, each in snapshot[name].items()}
            for name in ("wait", "run", "trip")
        }
        return cls(snapshot["jobs"], **histograms)

    @classmethod
    def from_body(cls, body: Any) -> Numbers:
        """Return the numbers in *body*, a part of a message's body. Raises :class:`~txmicro.errors.DecodeError`."""
        return cls(
            _by_label(body, "jobs", _counts),
            _by_label(body, "wait", _histogram),
            _by_label(body, "run", _histogram),
            _by_label(body, "trip", _histogram),
        )


@dataclass(slots=True)
class Report:
    """A report: the actions of a worker since its last report, and the numbers of its service.

    :ivar worker: its id. :ivar type: its type. :ivar process: random digits that its process has.
    :ivar running: how many of its jobs run. :ivar held: how many wait for a slot here.
    :ivar pending: how many it has sent that have not ended.
    :ivar numbers: the numbers of its service in its process.
    :ivar ran: how many handlers have ended.
    :ivar sent: how many hops it has sent, by the type of their address.
    :ivar failed: how many handlers have failed, by the type of the hop's sender.
    :ivar lost: how many jobs failed at this worker, their sender, by the type of their first address: nobody ran them.
    :ivar youngest: by lane, when the job was sent that was sent last of those whose handler has ended, in Unix seconds.
        Only jobs for any worker of the type count.
    :ivar records: what is recorded of single jobs. :ivar left_out: how many records there was no room for.
    """

    worker: str
    type: str
    process: str
    running: int = 0
    held: int = 0
    pending: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    ran: int = 0
    sent: Counts = field(default_factory=dict)
    failed: Counts = field(default_factory=dict)
    lost: Counts = field(default_factory=dict)
    youngest: dict[str, float] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    left_out: int = 0

    @property
    def is_idle(self) -> bool:
        """True if the worker has done nothing since its last report."""
        return not (self.ran or self.sent or self.failed or self.lost or self.records or self.left_out)

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "numbers": self.numbers.body(), "records": [to_row(each) for each in self.records]}

    @classmethod
    def from_body(cls, body: Any, topic: str) -> Report:
        """Return the report in *body*, which came on *topic*.

        The topic names the type of the worker: a user who may publish on a type's topic must not be able to report for
        workers of another type. Raises :class:`~txmicro.errors.DecodeError`.
        """
        worker = check_worker_id(get(body, "worker", str))
        kind = worker.partition(":")[0]
        if topic != report_topic(kind):
            raise DecodeError(f"a report of a worker of type {kind!r:.100} on the topic {topic!r:.100}")
        rows: list[Any] = get(body, "records", list, [])
        if len(rows) > RECORDS_MAX:
            raise DecodeError(f"a report with {len(rows)} records: expected at most {RECORDS_MAX}")
        return cls(
            worker,
            kind,
            get_short_text(body, "process"),
            _count(body, "running"),
            _count(body, "held"),
            _count(body, "pending"),
            Numbers.from_body(get(body, "numbers", dict, {})),
            _count(body, "ran"),
            _types(body, "sent"),
            _types(body, "failed"),
            _types(body, "lost"),
            _by_label(body, "youngest", _time),
            [from_row(row, worker) for row in rows],
            _count(body, "left_out"),
        )


def _count(body: dict[str, Any], name: str) -> int:
    return int(get_number(body, name, 0))


def _by_label(body: dict[str, Any], name: str, read: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return the object *name* of *body*, each of whose values *read* has checked."""
    values: dict[str, Any] = get(body, name, dict, {})
    if len(values) > _LABELS_MAX:
        raise DecodeError(f"{name!r} has {len(values)} labels: expected at most {_LABELS_MAX}")
    return {_label(label, name): read(value, name) for label, value in values.items()}


def _label(label: Any, name: str) -> str:
    if not isinstance(label, str) or len(label) > _LABEL_MAX:
        raise DecodeError(f"{name!r} has the label {show(label)}: expected at most {_LABEL_MAX} characters")
    return label


def _counts(value: Any, name: str) -> Counts:
    if not isinstance(value, dict) or len(value) > _LABELS_MAX:
        raise DecodeError(f"{name!r} has {show(value)}: expected an object of counts")
    return {_label(label, name): _one_count(count, name) for label, count in value.items()}


def _types(body: dict[str, Any], name: str) -> Counts:
    counts: Counts = _by_label(body, name, _one_count)
    for kind in counts:
        try:
            check_type(kind)
        except ValueError as error:
            raise DecodeError(f"{name!r}: {error}") from None
    return counts


def _one_count(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= _COUNT_MAX:
        raise DecodeError(f"{name!r} has {show(value)}: expected a count")
    return value


def _histogram(value: Any, name: str) -> list[int]:
    if not isinstance(value, list) or len(value) != COUNTS:
        raise DecodeError(f"{name!r} has {show(value)}: expected {COUNTS} counts")
    return [_one_count(count, name) for count in value]


def _time(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _COUNT_MAX:
        raise DecodeError(f"{name!r} has {show(value)}: expected a time")
    return float(value)
