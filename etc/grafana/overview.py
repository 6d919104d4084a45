"""The dashboard of the whole system."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .bounds import ERROR_RATIO, OLDEST_SECONDS, REACTOR_LAG_SECONDS
from .panels import CONNECTED, dashboard, distribution, fill, graph, listing, number, states
from .queries import (
    BY_PROCESS,
    LIVE_QUEUES,
    PROCESS,
    Query,
    buckets,
    largest,
    quantile,
    rate,
    select,
    total,
    watched,
)

FIRING = 'ALERTS{alertstate="firing",job="$job"} or ALERTS{alertstate="firing",alertname="ManagerAbsent"}'
"""The alerts of one system. ManagerAbsent has no job, since nothing is there that has one."""


def overview() -> Dashboard:
    """Return the dashboard of the whole system."""
    return fill(
        dashboard(
            "overview",
            "txmicro / Overview",
            "All worker types and processes: health, throughput, latency, errors, queues and resources.",
        ),
        ("Health",),
        number(
            "Workers",
            "Workers on the bus, as the SystemManager knows them.",
            units.Short,
            largest("connected_workers"),
            least=1,
        ),
        number(
            "Processes that do not answer",
            "Processes whose metrics Prometheus cannot read.",
            units.Short,
            f"count({select('up')}) - sum({select('up')})",
            limit=1,
        ),
        number(
            "Processes without a broker",
            "Processes that have no connection to the broker.",
            units.Short,
            f"count({select('bus_connected')}) - sum({select('bus_connected')})",
            limit=1,
        ),
        number(
            "Alerts",
            "Alerts that fire now.",
            units.Short,
            f"count({FIRING}) or vector(0)",
            warn=1,
            limit=3,
        ),
        number(
            "Dead letters",
            "Durable jobs that have failed finally. They wait for somebody to requeue or discard them.",
            units.Short,
            watched("queue_jobs", 'queue="dead"'),
            warn=1,
        ),
        number(
            "Oldest waiting job",
            "How long the oldest job has waited at most.",
            units.Seconds,
            largest("queue_oldest_seconds", LIVE_QUEUES),
            warn=OLDEST_SECONDS / 5,
            limit=OLDEST_SECONDS,
        ),
        graph(
            "Workers by type",
            "Workers on the bus. A line falls when a worker has stopped or died.",
            units.Short,
            Query(watched("workers_total", by="type"), "{{type}}"),
            span=6,
        ),
        states(
            "Connections to the broker",
            "Whether each process is connected to the broker.",
            Query(total("bus_connected", by=BY_PROCESS), PROCESS),
            CONNECTED,
            span=6,
        ),
        graph(
            "Load",
            "Running jobs as a share of capacity. At 100 %, further jobs wait.",
            units.PercentUnit,
            Query(
                f"{total('running_jobs', by='service')} / ({total('job_capacity', by='service')} > 0)",
                "{{service}}",
            ),
            span=6,
        ),
        listing(
            "Firing alerts",
            "What fires now, and for what. Prometheus has the whole text, and what to do.",
            units.Short,
            f"sum by (severity, alertname, type, queue, service, instance) ({FIRING})",
            "severity",
            "alertname",
            "type",
            "queue",
            "service",
            "instance",
            span=6,
        ),
        ("Throughput",),
        graph(
            "Jobs by worker type",
            "Jobs per second whose handler has ended.",
            units.OpsPerSecond,
            Query(rate("jobs_total", by="service"), "{{service}}"),
            span=8,
        ),
        graph(
            "Messages received",
            "Messages per second, by service and type of message.",
            units.MessagesPerSecond,
            Query(rate("messages_received_total", by="service, type"), "{{service}} {{type}}"),
            span=8,
        ),
        graph(
            "Messages sent",
            "Messages per second, by service and type of message.",
            units.MessagesPerSecond,
            Query(rate("messages_sent_total", by="service, type"), "{{service}} {{type}}"),
            span=8,
        ),
        ("Latency",),
        graph(
            "Wait, 99th percentile",
            "Time from the send of a job to the start of its handler.",
            units.Seconds,
            Query(quantile(0.99, "job_wait_seconds", by="service"), "{{service}}"),
            span=8,
        ),
        graph(
            "Processing, 99th percentile",
            "Run time of handlers.",
            units.Seconds,
            Query(quantile(0.99, "job_processing_seconds", by="service"), "{{service}}"),
            span=8,
        ),
        graph(
            "Whole trip, 99th percentile",
            "Time from the send of a job to its end at the sender, by the worker type of the job's first address.",
            units.Seconds,
            Query(quantile(0.99, "job_trip_seconds", by="target"), "{{target}}"),
            span=8,
        ),
        distribution("Wait times", "Jobs per second by wait, over all types.", buckets("job_wait_seconds")),
        distribution(
            "Processing times",
            "Jobs per second by run time, over all types.",
            buckets("job_processing_seconds"),
        ),
        ("Errors",),
        graph(
            "Error ratio",
            "Share of attempts that failed in 5 minutes. The alert JobErrors has the same rule and bound.",
            units.PercentUnit,
            Query('service:microservices_jobs:error_ratio5m{job="$job"}', "{{service}}"),
            span=8,
            limit=ERROR_RATIO,
        ),
        graph(
            "Errors by class",
            "Errors per second, by service and class. An error is counted where it happens.",
            units.OpsPerSecond,
            Query(rate("job_errors_total", by="service, error_type"), "{{service}} {{error_type}}"),
            span=8,
        ),
        graph(
            "Log lines",
            "Warnings and errors per second in the logs of all processes.",
            units.OpsPerSecond,
            Query(rate("log_lines_total", 'level=~"warn|error|critical"', by="level"), "{{level}}"),
            span=8,
        ),
        ("Queues",),
        graph(
            "Waiting jobs",
            "Jobs in the broker's queues. Jobs that workers hold are not among them.",
            units.Short,
            Query(watched("queue_jobs", LIVE_QUEUES, by="type, queue"), "{{type}} {{queue}}"),
        ),
        graph(
            "Oldest waiting job by queue",
            "An upper bound of its age.",
            units.Seconds,
            Query(largest("queue_oldest_seconds", LIVE_QUEUES, by="type, queue"), "{{type}} {{queue}}"),
            limit=OLDEST_SECONDS,
        ),
        ("Resources",),
        graph(
            "CPU",
            "CPU cores in use, by process. A process that uses all of one core has no more to give.",
            units.PercentUnit,
            Query(rate("process_cpu_seconds_total", by=BY_PROCESS), PROCESS),
            span=6,
        ),
        graph(
            "Memory",
            "Resident memory by process.",
            units.BytesIEC,
            Query(total("process_resident_memory_bytes", by=BY_PROCESS), PROCESS),
            span=6,
        ),
        graph(
            "Open files",
            "Open files and sockets, as a share of what the process may open.",
            units.PercentUnit,
            Query(
                f"{total('process_open_fds', by=BY_PROCESS)} / {total('process_max_fds', by=BY_PROCESS)}",
                PROCESS,
            ),
            span=6,
        ),
        graph(
            "Reactor lag, 99th percentile",
            "How late timers run. A handler that blocks the reactor delays everything in its process.",
            units.Seconds,
            Query(quantile(0.99, "reactor_lag_seconds", by=BY_PROCESS), PROCESS),
            span=6,
            limit=REACTOR_LAG_SECONDS,
        ),
    )
