"""The dashboard of one worker type."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .bounds import ERROR_RATIO, OLDEST_SECONDS
from .panels import choice, dashboard, distribution, fill, graph, listing, number
from .queries import (
    LIVE_QUEUES,
    QUEUE_TYPE,
    TYPE,
    Query,
    buckets,
    increase,
    largest,
    quantile,
    quantiles,
    rate,
    total,
    watched,
)


def worker_type() -> Dashboard:
    """Return the dashboard of one worker type."""
    return fill(
        dashboard(
            "type",
            "txmicro / Worker type",
            "All workers of one type: load, jobs, latency, errors and queues.",
            choice("type", "Worker type", 'label_values(microservices_job_capacity{job="$job"}, service)'),
            view="types/$type",
        ),
        ("Health",),
        number(
            "Workers",
            "Workers of the type that are on the bus.",
            units.Short,
            watched("workers_total", QUEUE_TYPE),
            least=1,
        ),
        number(
            "Load",
            "Running jobs as a share of capacity. At 100 %, further jobs wait.",
            units.PercentUnit,
            f"{total('running_jobs', TYPE)} / {total('job_capacity', TYPE)}",
            warn=0.8,
        ),
        number(
            "Jobs per second", "Jobs whose handler has ended.", units.OpsPerSecond, rate("jobs_total", TYPE)
        ),
        number(
            "Error ratio",
            "Share of attempts that failed in 5 minutes.",
            units.PercentUnit,
            'max(service:microservices_jobs:error_ratio5m{job="$job",service="$type"})',
            limit=ERROR_RATIO,
        ),
        number(
            "Oldest waiting job",
            "How long the oldest job has waited at most.",
            units.Seconds,
            largest("queue_oldest_seconds", LIVE_QUEUES, QUEUE_TYPE),
            warn=OLDEST_SECONDS / 5,
            limit=OLDEST_SECONDS,
        ),
        number(
            "Dead letters",
            "Durable jobs of the type that have failed finally.",
            units.Short,
            watched("queue_jobs", 'queue="dead"', QUEUE_TYPE),
            warn=1,
        ),
        ("Throughput",),
        graph(
            "Jobs by outcome",
            "Jobs per second whose handler has ended. A retried job is a durable one that is tried again.",
            units.OpsPerSecond,
            Query(rate("jobs_total", TYPE, by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Jobs by lane",
            "Jobs per second, interactive and durable.",
            units.OpsPerSecond,
            Query(rate("jobs_total", TYPE, by="job_type"), "{{job_type}}"),
            stacked=True,
        ),
        graph(
            "Running, held and capacity",
            "Held jobs were received, and wait in the workers for a free slot.",
            units.Short,
            Query(total("running_jobs", TYPE), "running"),
            Query(total("held_jobs", TYPE), "held"),
            Query(total("job_capacity", TYPE), "capacity"),
        ),
        graph(
            "Jobs that it has sent",
            "Jobs that these workers sent and that have not ended. If it rises, the receivers are too few or too slow.",
            units.Short,
            Query(total("pending_jobs", TYPE), "pending"),
        ),
        ("Latency",),
        graph(
            "Wait",
            "Time from the send of a job to the start of its handler.",
            units.Seconds,
            *quantiles("job_wait_seconds", TYPE),
            span=8,
        ),
        graph(
            "Processing",
            "Run time of handlers.",
            units.Seconds,
            *quantiles("job_processing_seconds", TYPE),
            span=8,
        ),
        graph(
            "Whole trip",
            "Time from the send of a job to this type to its end at the sender.",
            units.Seconds,
            *quantiles("job_trip_seconds", 'target="$type"'),
            span=8,
        ),
        distribution("Wait times", "Jobs per second by wait.", buckets("job_wait_seconds", TYPE)),
        distribution(
            "Processing times", "Jobs per second by run time.", buckets("job_processing_seconds", TYPE)
        ),
        ("Errors",),
        graph(
            "Errors by class",
            "Errors per second by class.",
            units.OpsPerSecond,
            Query(rate("job_errors_total", TYPE, by="error_type"), "{{error_type}}"),
            span=8,
        ),
        graph(
            "Resends and redeliveries",
            "Jobs per second that were published again, or that the broker delivered again. "
            "They rise when workers die, block or lose their connection.",
            units.OpsPerSecond,
            Query(rate("job_resends_total", TYPE, by="job_type"), "resent, {{job_type}}"),
            Query(rate("job_redeliveries_total", TYPE, by="job_type"), "redelivered, {{job_type}}"),
            span=8,
        ),
        listing(
            "Errors in this time range",
            "How often each class of error happened in the dashboard's time range.",
            units.Short,
            increase("job_errors_total", TYPE, by="error_type"),
            "error_type",
            value="Errors",
            span=8,
        ),
        ("Queues",),
        graph(
            "Waiting jobs",
            "Jobs in the broker's queues of the type.",
            units.Short,
            Query(watched("queue_jobs", QUEUE_TYPE, by="queue"), "{{queue}}"),
            span=8,
        ),
        graph(
            "Consumers",
            "Consumers of each queue. Without one, its jobs wait.",
            units.Short,
            Query(watched("queue_consumers", QUEUE_TYPE, LIVE_QUEUES, by="queue"), "{{queue}}"),
            span=8,
        ),
        graph(
            "Oldest waiting job by queue",
            "An upper bound of its age.",
            units.Seconds,
            Query(largest("queue_oldest_seconds", QUEUE_TYPE, LIVE_QUEUES, by="queue"), "{{queue}}"),
            span=8,
            limit=OLDEST_SECONDS,
        ),
        ("Processes",),
        graph(
            "Jobs by process",
            "Jobs per second of each process with workers of the type.",
            units.OpsPerSecond,
            Query(rate("jobs_total", TYPE, by="instance"), "{{instance}}"),
        ),
        graph(
            "Processing by process, 99th percentile",
            "A process that is slower than the others has a busy host, or more work for each job.",
            units.Seconds,
            Query(quantile(0.99, "job_processing_seconds", TYPE, by="instance"), "{{instance}}"),
        ),
    )
