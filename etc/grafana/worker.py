"""The dashboard of one process."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .bounds import REACTOR_LAG_SECONDS
from .panels import choice, dashboard, fill, graph, listing, number
from .queries import INSTANCE, Query, largest, quantile, quantiles, rate, select, total


def worker() -> Dashboard:
    """Return the dashboard of one process, with the workers in it."""
    return fill(
        dashboard(
            "worker",
            "txmicro / One worker",
            "One process and the workers in it. Processes are told apart by the address of their metrics.",
            choice("instance", "Process", 'label_values(microservices_bus_connected{job="$job"}, instance)'),
            view="workers",
        ),
        ("Health",),
        number(
            "Answers", "1 if Prometheus can read its metrics.", units.Short, total("up", INSTANCE), least=1
        ),
        number(
            "Connected",
            "1 if it is connected to the broker.",
            units.Short,
            total("bus_connected", INSTANCE),
            least=1,
        ),
        number(
            "Uptime",
            "Time since the process has started.",
            units.DurationSeconds,
            f"time() - {largest('process_start_time_seconds', INSTANCE)}",
        ),
        number(
            "Load",
            "Running jobs as a share of capacity.",
            units.PercentUnit,
            f"{total('running_jobs', INSTANCE)} / ({total('job_capacity', INSTANCE)} > 0)",
            warn=0.8,
        ),
        number(
            "Jobs per second",
            "Jobs whose handler has ended.",
            units.OpsPerSecond,
            rate("jobs_total", INSTANCE),
        ),
        number(
            "Bytes to send",
            "Memory of the jobs that it has sent and that have not ended.",
            units.BytesIEC,
            total("outbox_bytes", INSTANCE),
        ),
        ("Jobs",),
        graph(
            "Jobs by type and outcome",
            "Jobs per second whose handler has ended.",
            units.OpsPerSecond,
            Query(rate("jobs_total", INSTANCE, by="service, outcome"), "{{service}} {{outcome}}"),
            span=8,
        ),
        graph(
            "Running, held and pending",
            "Jobs whose handler runs, that wait in the worker, and that it has sent.",
            units.Short,
            Query(total("running_jobs", INSTANCE, by="service"), "{{service}} running"),
            Query(total("held_jobs", INSTANCE, by="service"), "{{service}} held"),
            Query(total("pending_jobs", INSTANCE, by="service"), "{{service}} pending"),
            span=8,
        ),
        graph(
            "Wait and processing, 99th percentile",
            "Time from the send of a job to the start of its handler, and the handler's run time.",
            units.Seconds,
            Query(quantile(0.99, "job_wait_seconds", INSTANCE, by="service"), "{{service}} wait"),
            Query(quantile(0.99, "job_processing_seconds", INSTANCE, by="service"), "{{service}} processing"),
            span=8,
        ),
        graph(
            "Messages",
            "Messages per second that it received and sent.",
            units.MessagesPerSecond,
            Query(rate("messages_received_total", INSTANCE, by="type"), "received {{type}}"),
            Query(rate("messages_sent_total", INSTANCE, by="type"), "sent {{type}}"),
        ),
        graph(
            "Errors and log lines",
            "Errors by class, and warnings and errors in its log, per second.",
            units.OpsPerSecond,
            Query(rate("job_errors_total", INSTANCE, by="service, error_type"), "{{service}} {{error_type}}"),
            Query(
                rate("log_lines_total", INSTANCE, 'level=~"warn|error|critical"', by="level"),
                "log: {{level}}",
            ),
        ),
        ("Resources",),
        graph(
            "CPU",
            "CPU cores in use. The reactor runs in one thread, so one core is its limit.",
            units.PercentUnit,
            Query(rate("process_cpu_seconds_total", INSTANCE), "CPU"),
            span=8,
        ),
        graph(
            "Memory",
            "Memory that the process has in RAM, and its address space.",
            units.BytesIEC,
            Query(total("process_resident_memory_bytes", INSTANCE), "resident"),
            Query(total("process_virtual_memory_bytes", INSTANCE), "virtual"),
            span=8,
        ),
        graph(
            "Open files",
            "Open files and sockets, and how many the process may open.",
            units.Short,
            Query(total("process_open_fds", INSTANCE), "open"),
            Query(total("process_max_fds", INSTANCE), "limit"),
            span=8,
        ),
        graph(
            "Reactor lag",
            "How late timers run. A handler that blocks the reactor delays everything in the process.",
            units.Seconds,
            *quantiles("reactor_lag_seconds", INSTANCE),
            span=8,
            limit=REACTOR_LAG_SECONDS,
        ),
        graph(
            "Publisher confirms",
            "Time until the broker confirms a message.",
            units.Seconds,
            *quantiles("confirm_seconds", INSTANCE),
            span=8,
        ),
        graph(
            "Garbage collections",
            "Collections per second, by generation.",
            units.OpsPerSecond,
            Query(
                rate("python_gc_collections_total", INSTANCE, by="generation"), "generation {{generation}}"
            ),
            span=8,
        ),
        listing(
            "Python",
            "The version that it runs on.",
            units.Short,
            select("python_info", INSTANCE),
            "implementation",
            "version",
            span=24,
        ),
    )
