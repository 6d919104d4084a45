"""Names of handlers and jobs, for the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from txmicro.protocol.job import Job

_MOST: Final = 10
"""The largest number of jobs that one line names."""


def name_function(function: Callable[..., Any]) -> str:
    """Return the full name of *function*, as ``module.Class.method``; a method has the class of its object."""
    while isinstance(function, partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        return f"{_name(type(owner))}.{getattr(function, '__name__', '?')}"
    return _name(function if hasattr(function, "__qualname__") else type(function))


def _name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"


def name_call(function: Callable[..., Any], args: Iterable[Any]) -> str:
    """Return the name of *function*, and the id of the job among *args*, if there is one."""
    jobs = [argument for argument in args if isinstance(argument, Job)]
    return f"{name_function(function)} ({name_jobs(jobs)})" if jobs else name_function(function)


def name_jobs(jobs: list[Job]) -> str:
    """Return the ids of *jobs*; of more than ten, the first ten."""
    ids = ", ".join(job.id for job in jobs[:_MOST])
    more = f" and {len(jobs) - _MOST} more" if len(jobs) > _MOST else ""
    return f"{'job' if len(jobs) == 1 else 'jobs'} {ids}{more}"
