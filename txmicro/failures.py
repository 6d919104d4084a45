"""How a failed job's error travels: as data in a reply or a header, never as a pickled object."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from twisted.python.reflect import safe_str

from .errors import JobError, RemoteError, show

MESSAGE_MAX: Final = 8_192
"""Characters of a failure's message that travel."""

_STATUSES: Final = range(400, 600)


class Failure(TypedDict):
    """A failure as it travels: part of a reply's body. The module tells errors of one name apart."""

    type: str
    module: str
    message: str
    retryable: bool
    worker: str | None
    http_status: int
    public: bool


def describe(error: BaseException, worker: str | None) -> Failure:
    """Turn *error* into what travels; *worker* is the id of the worker it happened at.

    Never raises, and every format can carry the outcome, whatever the error holds.
    """
    if isinstance(error, JobError):
        return Failure(
            type=error.type,
            module=type(error).__module__,
            message=_text(error.message) or _text(error),
            retryable=bool(error.retryable),
            worker=error.worker or worker,
            http_status=http_status(error),
            public=bool(error.public),
        )
    kind = type(error)
    return Failure(
        type=kind.__name__,
        module=kind.__module__,
        message=_text(error),
        retryable=False,
        worker=worker,
        http_status=500,
        public=False,
    )


def http_status(error: Any) -> int:
    """Return the HTTP status of *error*, a :class:`~txmicro.errors.JobError`; 500 if it says none that is one."""
    return _status(error.http_status)


def _status(value: Any) -> int:
    return value if type(value) is int and value in _STATUSES else 500


def _text(value: object) -> str:
    return safe_str(value)[:MESSAGE_MAX].encode("utf-8", "backslashreplace").decode()


def rebuild(failure: Any) -> JobError:
    """Return the error that a reply's ``failure`` describes: its registered type, or :class:`RemoteError`.

    A class's own constructor is not called: what it takes is its own business, and it has run at the worker.
    Never raises: a description of the wrong shape (another program's, a mistake) is a RemoteError too.
    """
    if not isinstance(failure, dict):
        return RemoteError(f"a failure without a description: {show(failure)}")
    kind, message, worker = (failure.get(name) for name in ("type", "message", "worker"))
    kind = kind if isinstance(kind, str) else "RemoteError"
    message = message if isinstance(message, str) else show(message)
    worker = worker if isinstance(worker, str) else None
    error = _blank(failure.get("module"), kind)
    JobError.__init__(error, message, worker=worker, retryable=failure.get("retryable") is True)
    if "public" in failure:  # programs that do not say it leave it to the type
        vars(error).update(http_status=_status(failure.get("http_status")), public=failure["public"] is True)
    return error


def _blank(module: Any, kind: str) -> JobError:
    """An error of the type that is called *kind*, without anything else."""
    known = JobError.types.get(f"{module}:{kind}") or JobError.types.get(kind)
    if known is None or issubclass(known, RemoteError):
        return RemoteError(type=kind)
    return known.__new__(known)
