"""The dashboard of the stores behind DB workers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from .panels import dashboard, distribution, fill, graph, listing
from .queries import BY_PROCESS, PROCESS, Query, buckets, increase, quantile, rate, ratio


def stores() -> Dashboard:
    """Return the dashboard of the stores behind DB workers."""
    operation = "{{store}} {{operation}}"
    by = "store, operation"
    failed = ratio(
        rate("store_operations_total", 'outcome!="succeeded"', by=by), rate("store_operations_total", by=by)
    )
    return fill(
        dashboard("stores", "txmicro / Stores", "Operations of the stores behind DB workers."),
        ("Throughput",),
        graph(
            "Operations",
            "Operations per second by store and kind.",
            units.OpsPerSecond,
            Query(rate("store_operations_total", by=by), operation),
            span=8,
        ),
        graph(
            "Outcomes",
            "Operations per second by outcome.",
            units.OpsPerSecond,
            Query(rate("store_operations_total", by="store, outcome"), "{{store}} {{outcome}}"),
            span=8,
        ),
        graph(
            "Error ratio",
            "Share of operations that did not succeed.",
            units.PercentUnit,
            Query(failed, operation),
            span=8,
        ),
        ("Latency",),
        graph(
            "Median by operation",
            "Run time, batches included.",
            units.Seconds,
            Query(quantile(0.5, "store_operation_seconds", by=by), operation),
            span=8,
        ),
        graph(
            "99th percentile by operation",
            "Run time, batches included.",
            units.Seconds,
            Query(quantile(0.99, "store_operation_seconds", by=by), operation),
            span=8,
        ),
        distribution(
            "Run times", "Operations per second by run time.", buckets("store_operation_seconds"), span=8
        ),
        ("Processes",),
        graph(
            "Operations by process",
            "Operations per second of each process.",
            units.OpsPerSecond,
            Query(rate("store_operations_total", by=BY_PROCESS), PROCESS),
        ),
        listing(
            "Operations in this time range",
            "Operations by outcome in the dashboard's time range.",
            units.Short,
            increase("store_operations_total", by="store, operation, outcome"),
            "store",
            "operation",
            "outcome",
            value="Operations",
        ),
    )
