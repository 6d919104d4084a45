"""Parts of PromQL queries for the dashboards. All of them keep to the Prometheus job that the variable ``job`` has."""

from __future__ import annotations

from typing import NamedTuple

TYPE = 'service="$type"'
"""The metrics of one worker type, on a dashboard with the variable ``type``."""
INSTANCE = 'instance="$instance"'
"""The metrics of one process, on a dashboard with the variable ``instance``."""
PROCESS = "{{worker_type}} {{instance}}"
"""The legend of a process."""
BY_PROCESS = "worker_type, instance"
LIVE_QUEUES = 'queue=~"interactive|durable"'
QUEUE_TYPE = 'type="$type"'
SERVER_ERRORS = 'status=~"5.."'


class Query(NamedTuple):
    """A query, and what its series are called: ``{{label}}`` is a label's value."""

    expr: str
    legend: str


def select(metric: str, *matchers: str) -> str:
    """Return a selector of *metric*; a name without a prefix is one of txmicro's."""
    prefix = "" if metric.startswith(("process_", "python_", "up")) else "microservices_"
    matching = ",".join(['job="$job"', *matchers])
    return f"{prefix}{metric}{{{matching}}}"


def total(metric: str, *matchers: str, by: str = "") -> str:
    """Return the sum of a gauge, by the labels *by*."""
    return f"sum{_by(by)}({select(metric, *matchers)})"


def largest(metric: str, *matchers: str, by: str = "") -> str:
    """Return the highest value of a gauge, by the labels *by*."""
    return f"max{_by(by)}({select(metric, *matchers)})"


def watched(metric: str, *matchers: str, by: str = "") -> str:
    """Return the sum of a manager's gauge, by the labels *by*.

    Each of several managers has all the numbers, so those of different managers are not added.
    """
    each = "type" if metric == "workers_total" else "type, queue"
    if by == each:
        return largest(metric, *matchers, by=each)
    return f"sum{_by(by)}({largest(metric, *matchers, by=each)})"


def rate(metric: str, *matchers: str, by: str = "") -> str:
    """Return a counter's increase per second, by the labels *by*."""
    return f"sum{_by(by)}(rate({select(metric, *matchers)}[$__rate_interval]))"


def increase(metric: str, *matchers: str, by: str = "") -> str:
    """Return a counter's increase in the dashboard's time range, by the labels *by*."""
    return f"sum{_by(by)}(increase({select(metric, *matchers)}[$__range]))"


def buckets(histogram: str, *matchers: str) -> str:
    """Return a histogram's buckets, for a heatmap."""
    return rate(f"{histogram}_bucket", *matchers, by="le")


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    """Return a quantile of a histogram, by the labels *by*."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', *matchers, by=labels)})"


def quantiles(histogram: str, *matchers: str) -> list[Query]:
    """Return the queries for three quantiles of a histogram."""
    return [
        Query(quantile(q, histogram, *matchers), name)
        for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    ]


def ratio(part: str, whole: str) -> str:
    """Return *part* / *whole*: 0 where the part has no series, nothing where the whole is 0."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
