"""What can go wrong, as types.

Every error of txmicro is a :class:`TxmicroError`. Those that end a job are :class:`JobError`: they travel
between processes as data (:func:`describe`, :func:`rebuild`), never as pickled objects. A subclass of
:class:`JobError` registers itself by its class name, so that a handler's ``raise OutOfStock("…")`` is an
``except OutOfStock`` at the sender, provided that both import the class (of several of one name it is the one of
the same module, or else the latest). Anything else that a handler raises arrives as a :class:`RemoteError`.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, ClassVar, Final, TypedDict

from twisted.python.reflect import safe_str

MESSAGE_MAX: Final = 8_192
"""Characters of a failure's message that travel."""

_repr = Repr()
_repr.maxstring = _repr.maxother = 100
_repr.maxlevel = 3


def show(value: Any) -> str:
    """A short ``repr`` of *value*, for messages: whatever came from the bus, however large or deep."""
    return _repr.repr(value)


class TxmicroError(Exception):
    """The root of all errors that txmicro raises."""


class ConfigError(TxmicroError):
    """The configuration is wrong; ``problems`` lists everything that is, one text each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressError(TxmicroError, ValueError):
    """Not an address, a worker type or a worker id."""


class DecodeError(TxmicroError):
    """Bytes from the bus that are not what their content type or shape says."""


class DuplicateWorker(TxmicroError):
    """Another worker on the bus has this id."""


class QueueLocked(TxmicroError):
    """A name of a queue that is this worker's alone is held by another connection: another worker's of its id, one of
    its own that the broker has not missed yet, or one that ended with its node (RabbitMQ 4.3 keeps that locked).
    """


class QueueMismatch(TxmicroError):
    """A queue of ours stands on the broker, but not as this txmicro declares it.

    :ivar queue: its name. :ivar difference: the broker's words for what differs.
    """

    def __init__(self, queue: str, difference: str) -> None:
        super().__init__(
            f"the queue {queue!r} stands on the broker, but not as this txmicro declares it ({difference}): "
            "empty it by the workers that declared it so, then delete it, and it will be declared anew"
        )
        self.queue = queue
        self.difference = difference


class ConsumerCancelled(TxmicroError):
    """The broker ended a consumer: its queue was deleted, or moved to another node."""


class NoAnswer(TxmicroError):
    """No SystemManager answered in time."""


class WrongThread(TxmicroError):
    """A method was called from a thread that is not the reactor's."""


class BusClosed(TxmicroError):
    """The bus is stopped, so nothing can be sent."""


class Failure(TypedDict):
    """How a failure travels: part of a reply's body. The module tells errors of one name apart."""

    type: str
    module: str
    message: str
    retryable: bool
    worker: str | None


class JobError(TxmicroError):
    """A job failed.

    :ivar message: what happened.
    :ivar worker: id of the worker where it failed; None: at the sender.
    :ivar retryable: whether the same job may succeed when it is sent again.
    """

    message: str = ""
    worker: str | None = None
    retryable: bool = False
    types: ClassVar[dict[str, type[JobError]]] = {}

    def __init_subclass__(cls) -> None:
        JobError.types[cls.__name__] = JobError.types[f"{cls.__module__}:{cls.__name__}"] = cls

    def __init__(
        self, message: str = "", *, worker: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.worker = worker
        if retryable is not None:
            self.retryable = retryable

    @property
    def type(self) -> str:
        """The failure's type, as it travels."""
        return type(self).__name__


JobError.types[JobError.__name__] = JobError


class RemoteError(JobError):
    """A handler raised something that is no :class:`JobError` known here; ``type`` is its class name there."""

    def __init__(
        self,
        message: str = "",
        *,
        type: str = "RemoteError",
        worker: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, worker=worker, retryable=retryable)
        self._type = type

    @property
    def type(self) -> str:
        """The class name of the exception at the worker."""
        return self._type

    def __str__(self) -> str:
        return f"{self._type}: {self.message}"


class NoWorkerAvailable(JobError):
    """The SystemManager found nobody who takes jobs for the address."""

    retryable = True


class JobTimeout(JobError):
    """The job's deadline passed.

    :ivar still_queued: the job is durable and the broker has it, so that it may be done yet.
    """

    retryable = True
    still_queued = False


class NotPermitted(JobError):
    """The broker's permissions do not let this process send to the address."""


class NotStored(JobError):
    """The broker does not have the durable job: there is no queue for it, or its sender stopped before."""

    retryable = True


class JobCancelled(JobError):
    """The job was cancelled, at its sender or because its worker stopped before it was done."""


class WorkerStopped(JobError):
    """The worker that had the job, or that sent it, stopped before the job was done."""

    retryable = True


class WorkerLost(JobError):
    """The worker that took the job is gone, and the job, which must not run twice, may have run there.

    Or three workers that took it are gone, one after the other: it may be what ends them.
    """


class TooManyHops(JobError):
    """The job was passed on as often as ``max_hops`` allows: its workers may be passing it on in a circle."""


class BusOverloaded(JobError):
    """The worker has as many jobs under way as it may keep: see ``outbox_jobs`` and ``outbox_bytes``."""

    retryable = True


class RuntimeExceeded(JobError):
    """The handler ran for longer than its worker's ``max_runtime``."""


class BadRequest(JobError, ValueError):
    """The job's data is not what its handler takes; the message says what it takes."""


class EncodeError(JobError, ValueError):
    """A value that the bus's format cannot carry; the message names where in the value it stands."""


class MessageTooLarge(JobError):
    """The encoded job or result is larger than ``max_message``, or than the broker takes."""


def is_unexpected(error: BaseException | None) -> bool:
    """Return whether *error* says too little without its type and traceback, as it is none of ours."""
    return not isinstance(error, TxmicroError)


def reason_of(error: BaseException | None) -> str:
    """Return what *error* says, on one line; with its type if it is unexpected."""
    text = "; ".join(safe_str(error).splitlines())
    return f"{type(error).__name__}: {text}" if is_unexpected(error) else text


def describe(error: BaseException, worker: str | None) -> Failure:
    """Turn *error* into what travels; *worker* is the id of the worker it happened at.

    Never raises, and every format can carry the outcome, whatever the error holds.
    """
    if isinstance(error, JobError):
        message = _text(error.message) or _text(error)
        return Failure(
            type=error.type,
            module=type(error).__module__,
            message=message,
            retryable=bool(error.retryable),
            worker=error.worker or worker,
        )
    kind = type(error)
    return Failure(
        type=kind.__name__, module=kind.__module__, message=_text(error), retryable=False, worker=worker
    )


def _text(value: object) -> str:
    return safe_str(value)[:MESSAGE_MAX].encode("utf-8", "backslashreplace").decode()


def rebuild(failure: Any) -> JobError:
    """The error that a reply's ``failure`` describes: its registered type, or :class:`RemoteError`.

    A class's own constructor is not called: what it takes is its own business, and it has run at the worker.
    Never raises: a description of the wrong shape (another program's, a mistake) is a RemoteError too.
    """
    if not isinstance(failure, dict):
        return RemoteError(f"a failure without a description: {show(failure)}")
    kind, message, worker = (failure.get(name) for name in ("type", "message", "worker"))
    kind = kind if isinstance(kind, str) else "RemoteError"
    message = message if isinstance(message, str) else show(message)
    worker = worker if isinstance(worker, str) else None
    retryable = failure.get("retryable") is True
    known = JobError.types.get(f"{failure.get('module')}:{kind}") or JobError.types.get(kind)
    if known is None or issubclass(known, RemoteError):
        return RemoteError(message, type=kind, worker=worker, retryable=retryable)
    error = known.__new__(known)
    JobError.__init__(error, message, worker=worker, retryable=retryable)
    return error
