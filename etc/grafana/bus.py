"""The dashboard of the broker's connections and queues."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .bounds import OLDEST_SECONDS
from .panels import BLOCKED, CONNECTED, dashboard, distribution, fill, graph, listing, states
from .queries import (
    BY_PROCESS,
    LIVE_QUEUES,
    PROCESS,
    Query,
    buckets,
    largest,
    quantiles,
    rate,
    total,
    watched,
)


def bus() -> Dashboard:
    """Return the dashboard of the broker's connections and queues."""
    return fill(
        dashboard(
            "bus",
            "txmicro / Bus and queues",
            "Connections to the broker, messages, queues, and what happens when a delivery fails.",
        ),
        ("Connections",),
        states(
            "Connected",
            "Whether each process is connected to the broker.",
            Query(total("bus_connected", by=BY_PROCESS), PROCESS),
            CONNECTED,
        ),
        states(
            "Blocked",
            "Whether the broker accepts messages. It blocks publishers when its memory or disk is short.",
            Query(total("broker_blocked", by=BY_PROCESS), PROCESS),
            BLOCKED,
        ),
        graph(
            "Reconnects",
            "Connections per second that were made after one was lost.",
            units.OpsPerSecond,
            Query(rate("bus_reconnects_total", by=BY_PROCESS), PROCESS),
            span=8,
        ),
        graph(
            "Publisher confirms",
            "Time until the broker confirms a message.",
            units.Seconds,
            *quantiles("confirm_seconds"),
            span=8,
        ),
        distribution(
            "Confirm times", "Confirmed messages per second by time.", buckets("confirm_seconds"), span=8
        ),
        ("Messages",),
        graph(
            "Received",
            "Messages per second by type.",
            units.MessagesPerSecond,
            Query(rate("messages_received_total", by="type"), "{{type}}"),
            span=8,
        ),
        graph(
            "Sent",
            "Messages per second by type.",
            units.MessagesPerSecond,
            Query(rate("messages_sent_total", by="type"), "{{type}}"),
            span=8,
        ),
        graph(
            "Bytes to send",
            "Memory of jobs that were sent and have not ended, by service.",
            units.BytesIEC,
            Query(total("outbox_bytes", by="service"), "{{service}}"),
            span=8,
        ),
        ("Queues",),
        graph(
            "Waiting jobs",
            "Jobs in the broker's queues. Jobs that workers hold are not among them.",
            units.Short,
            Query(watched("queue_jobs", LIVE_QUEUES, by="type, queue"), "{{type}} {{queue}}"),
            span=8,
        ),
        graph(
            "Oldest waiting job",
            "An upper bound of its age.",
            units.Seconds,
            Query(largest("queue_oldest_seconds", LIVE_QUEUES, by="type, queue"), "{{type}} {{queue}}"),
            span=8,
            limit=OLDEST_SECONDS,
        ),
        graph(
            "Consumers",
            "Consumers of each queue. Without one, its jobs wait.",
            units.Short,
            Query(watched("queue_consumers", LIVE_QUEUES, by="type, queue"), "{{type}} {{queue}}"),
            span=8,
        ),
        graph(
            "Quarantine and dead letters",
            "Jobs that are tried one at a time since they may have killed a worker, and jobs that failed finally.",
            units.Short,
            Query(watched("queue_jobs", 'queue=~"quarantine|dead"', by="type, queue"), "{{type}} {{queue}}"),
            span=8,
        ),
        graph(
            "New dead letters",
            "Durable jobs per second that became dead letters, by reason.",
            units.OpsPerSecond,
            Query(rate("dead_letters_total", by="service, reason"), "{{service}} {{reason}}"),
            span=8,
        ),
        listing(
            "Queues now",
            "Waiting jobs of each queue.",
            units.Short,
            watched("queue_jobs", by="type, queue"),
            "type",
            "queue",
            value="Jobs",
            span=8,
        ),
        ("Repeated deliveries",),
        graph(
            "Resends",
            "Jobs per second that their sender published again, since no worker acknowledged them.",
            units.OpsPerSecond,
            Query(rate("job_resends_total", by="service, job_type"), "{{service}} {{job_type}}"),
            span=6,
        ),
        graph(
            "Probes",
            "Questions per second to a worker whether it still has a job.",
            units.OpsPerSecond,
            Query(rate("probes_total", by="service"), "{{service}}"),
            span=6,
        ),
        graph(
            "Redeliveries",
            "Jobs per second that the broker delivered again, since a worker was lost.",
            units.OpsPerSecond,
            Query(rate("job_redeliveries_total", by="service, job_type"), "{{service}} {{job_type}}"),
            span=6,
        ),
        graph(
            "Undecodable messages",
            "Messages per second that were dropped, since they could not be decoded.",
            units.MessagesPerSecond,
            Query(rate("undecodable_messages_total", by="service"), "{{service}}"),
            span=6,
        ),
    )
