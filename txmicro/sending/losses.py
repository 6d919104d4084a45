"""Decisions about jobs whose taker does not have them any more."""

from __future__ import annotations

from typing import Final

from .pending import PendingJob

DEATHS: Final = 3
"""Missing takers that took nothing after a job, at which the job is given up: it may be what ends them."""

LOSSES: Final = 20
"""Missing takers at which a job is given up, whatever they took after it: it may end them some time later."""

UNRETURNED: Final = 3
"""Copies that did not come back, beyond which a worker may have one.

A worker whose event loop is blocked stays on the bus for two heartbeat intervals, and gets more copies than that. Up to
this many may be in the queue of a worker that is dead: RabbitMQ 4.3 keeps the queue for 10 seconds, and a SystemManager
says that no worker is there before the fourth copy is sent.
"""


def split(jobs: list[PendingJob], suspect: PendingJob | None) -> tuple[list[PendingJob], list[PendingJob]]:
    """Return those of *jobs* that may be sent to another worker, and the others.

    :param suspect: the job that the taker took last.
    """
    again: list[PendingJob] = []
    lost: list[PendingJob] = []
    for job in jobs:
        blamed = job is suspect and len(job.blamed_takers) + 1 >= DEATHS
        deadly = blamed or len(job.missing_takers) + 1 >= LOSSES
        may_run_again = job.redeliver and (job.forwarded or not deadly)
        (again if may_run_again else lost).append(job)
    return again, lost


def may_have_run(job: PendingJob) -> bool:
    """Return whether a worker that is not connected may run *job*, which no worker has taken."""
    return job.last_taker is not None or job.unreturned > UNRETURNED
