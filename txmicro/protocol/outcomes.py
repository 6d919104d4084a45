"""How a run of a handler has ended, at the worker that ran it: in metrics, reports and records."""

from __future__ import annotations

from typing import Final

SUCCEEDED: Final = "succeeded"
"""The job has ended with a result."""

FAILED: Final = "failed"
"""An interactive job has ended with an error."""

FORWARDED: Final = "forwarded"
"""The job goes on to its next hop."""

CANCELED: Final = "canceled"
"""The job's sender has given it up."""

RETRIED: Final = "retried"
"""A durable job has failed, and is tried again."""

DEAD: Final = "dead"
"""A durable job has failed for the last time, and becomes a dead letter."""

RETURNED: Final = "returned"
"""The worker stops, and a durable job is returned to the broker."""
