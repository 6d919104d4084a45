"""The dashboard of HTTP requests."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .bounds import REST_SECONDS
from .panels import dashboard, distribution, fill, graph, listing, number
from .queries import (
    BY_PROCESS,
    PROCESS,
    SERVER_ERRORS,
    Query,
    buckets,
    increase,
    quantile,
    rate,
    ratio,
    total,
)


def rest() -> Dashboard:
    """Return the dashboard of the HTTP requests to REST workers."""
    path = "{{method}} {{path}}"
    failed = ratio(rate("http_requests_total", SERVER_ERRORS), rate("http_requests_total"))
    failed_by_path = ratio(
        rate("http_requests_total", SERVER_ERRORS, by="method, path"),
        rate("http_requests_total", by="method, path"),
    )
    return fill(
        dashboard("rest", "txmicro / REST", "HTTP requests to REST workers, by path template and status."),
        ("Requests",),
        number(
            "Requests per second",
            "All REST workers.",
            units.RequestsPerSecond,
            rate("http_requests_total"),
            span=6,
        ),
        number(
            "Server errors",
            "Share of answers with a status from 500 on.",
            units.PercentUnit,
            failed,
            warn=0.01,
            span=6,
        ),
        number(
            "Median", "Time until the answer.", units.Seconds, quantile(0.5, "http_request_seconds"), span=6
        ),
        number(
            "99th percentile",
            "Time until the answer, over all paths.",
            units.Seconds,
            quantile(0.99, "http_request_seconds"),
            limit=REST_SECONDS,
            span=6,
        ),
        graph(
            "By path",
            "Requests per second by method and path template.",
            units.RequestsPerSecond,
            Query(rate("http_requests_total", by="method, path"), path),
        ),
        graph(
            "By status",
            "Answers per second by status.",
            units.RequestsPerSecond,
            Query(rate("http_requests_total", by="status"), "{{status}}"),
            stacked=True,
        ),
        ("Latency",),
        graph(
            "99th percentile by path",
            "Time until the answer, in 5 minutes. The alert RestSlow has the same rule and bound.",
            units.Seconds,
            Query(
                'path:microservices_http_request_seconds:p99_5m{job="$job"}',
                "{{service}} {{method}} {{path}}",
            ),
            span=8,
            limit=REST_SECONDS,
        ),
        graph(
            "Median by path",
            "Time until the answer.",
            units.Seconds,
            Query(quantile(0.5, "http_request_seconds", by="method, path"), path),
            span=8,
        ),
        distribution(
            "Answer times",
            "Requests per second by time until the answer.",
            buckets("http_request_seconds"),
            span=8,
        ),
        ("Errors",),
        graph(
            "Server errors by path",
            "Share of answers with a status from 500 on.",
            units.PercentUnit,
            Query(failed_by_path, path),
        ),
        listing(
            "Answers in this time range",
            "Answers by path template and status in the dashboard's time range.",
            units.Short,
            increase("http_requests_total", by="method, path, status"),
            "method",
            "path",
            "status",
            value="Answers",
        ),
        ("Processes",),
        graph(
            "Requests by process",
            "Requests per second of each process.",
            units.RequestsPerSecond,
            Query(rate("http_requests_total", by=BY_PROCESS), PROCESS),
        ),
        graph(
            "Jobs that requests wait for",
            "Jobs that the REST workers have sent and that have not ended.",
            units.Short,
            Query(
                f"{total('pending_jobs', by='service')} and on (service) {total('http_requests_total', by='service')}",
                "{{service}}",
            ),
        ),
    )
