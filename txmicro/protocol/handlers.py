"""The types of the functions that programs give to a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .job import Job
from .trace_headers import TraceContext

JobHandler = Callable[[Job], Any]
"""Runs a job: ``do_job``. Returns the result, a :class:`~txmicro.Forward`, or a Deferred or coroutine."""

EventHandler = Callable[[str, Any], Any]
"""Is called with the topic and the data of an event. May return a Deferred or a coroutine."""

EventReceiver = Callable[[str, Any, TraceContext], None]
"""Is called with the topic and the data of an event that was received, and the trace context that it carries."""
