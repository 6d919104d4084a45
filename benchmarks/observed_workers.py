"""The workers of ``observed.py``: one returns its data, one sends jobs when it is told to.

With ``TXMICRO_SETTINGS_COUNTING=false`` in the environment, this process does not count jobs, nor time them. txmicro
has no such setting. The additions that are made in place, one or two per message, are left: there is no call to
replace.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.threads import deferToThread

from txmicro import Job, Worker
from txmicro.metrics.service import LaneMetrics, ServiceMetrics
from txmicro.runtime.engine import Engine

from .peers.protocol import serve

COUNTING = "TXMICRO_SETTINGS_COUNTING"


class Echo(Worker):
    """Returns a job's data."""

    type = "Echo"

    async def do_job(self, job: Job) -> Any:
        """Return the job's data."""
        return job.data


class Bench(Worker):
    """Sends jobs as :mod:`benchmarks.peers.protocol` describes, on the standard streams of its process."""

    type = "Bench"

    def opened(self) -> None:
        """Begin to serve as soon as the worker is ready."""
        sys.stdout = sys.__stdout__  # twistd has replaced it by its log
        self.when_ready().addCallback(lambda _: ensureDeferred(self._serve()))

    async def _serve(self) -> None:
        await serve(
            lambda data: self.send("Echo:*", data),
            lambda coroutines: gatherResults([ensureDeferred(each) for each in coroutines]),
            deferToThread,
        )


def _nothing(*_args: Any) -> None:
    """Stand in for what counts."""


def _stop_counting() -> None:
    for name in dir(ServiceMetrics):
        if name.startswith(("record_", "observe_")):
            setattr(ServiceMetrics, name, _nothing)
    LaneMetrics.ran = Engine.trip_ended = _nothing  # type: ignore[method-assign, assignment]


if os.environ.get(COUNTING) == "false":
    _stop_counting()
