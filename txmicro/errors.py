"""What can go wrong, as types.

Every error of txmicro is a :class:`TxmicroError`. Those that end a job are :class:`JobError`: they travel
between processes as data (:mod:`txmicro.protocol.failures`), never as pickled objects. A subclass of
:class:`JobError` registers itself by its class name, so that a handler's ``raise OutOfStock("…")`` is an
``except OutOfStock`` at the sender, provided that both import the class (of several of one name it is the one of
the same module, or else the latest). Anything else that a handler raises arrives as a :class:`RemoteError`.

The sender of a job gets every failure's text, for its log. HTTP clients get only the text of what is ``public``.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, ClassVar

from twisted.python.reflect import safe_str

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


class JobNotDone(TxmicroError):
    """The result of a job was asked for before the job ended."""


class JobError(TxmicroError):
    """A job failed.

    :ivar message: what happened.
    :ivar worker: id of the worker where it failed; None: at the sender.
    :ivar retryable: whether the same job may succeed when it is sent again.
    :ivar http_status: the status of an HTTP answer that tells of it, 400 to 599.
    :ivar public: whether an HTTP answer has its type and message; otherwise it has only the job's id.
    """

    message: str = ""
    worker: str | None = None
    retryable: bool = False
    http_status: int = 500
    public: bool = True
    types: ClassVar[dict[str, type[JobError]]] = {}

    def __init_subclass__(cls) -> None:
        JobError.types[cls.__name__] = JobError.types[f"{cls.__module__}:{cls.__name__}"] = cls

    def __init__(
        self,
        message: str = "",
        *,
        worker: str | None = None,
        retryable: bool | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.worker = worker
        if retryable is not None:
            self.retryable = retryable
        if http_status is not None:
            self.http_status = http_status

    @property
    def type(self) -> str:
        """The failure's type, as it travels."""
        return type(self).__name__


JobError.types[JobError.__name__] = JobError


class RemoteError(JobError):
    """A handler raised something that is not a :class:`JobError` known here; ``type`` is its class name there.

    It is ``public`` if it is a :class:`JobError` there, and public there.

    :ivar fields: what such an error has besides, by name.
    """

    public = False

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
        self.fields: dict[str, Any] = {}

    @property
    def type(self) -> str:
        """The class name of the exception at the worker."""
        return self._type

    def __str__(self) -> str:
        return f"{self._type}: {self.message}"


class NoWorkerAvailable(JobError):
    """The SystemManager found nobody who takes jobs for the address."""

    http_status = 503
    retryable = True


class JobTimeout(JobError):
    """The job's deadline passed.

    :ivar still_queued: the job is durable and the broker has it, so that it may be done yet.
    """

    http_status = 504
    retryable = True
    still_queued = False


class NotPermitted(JobError):
    """The broker's permissions do not let this process send to the address."""

    public = False  # the broker's words name its users and queues


class NotStored(JobError):
    """The broker does not have the durable job: there is no queue for it, or its sender stopped before."""

    http_status = 503
    retryable = True


class JobCancelled(JobError):
    """The job was cancelled, at its sender or because its worker stopped before it was done."""


class WorkerStopped(JobError):
    """The worker that had the job, or that sent it, stopped before the job was done."""

    http_status = 503
    retryable = True


class WorkerLost(JobError):
    """The worker that took the job is gone, and the job, which must not run twice, may have run there.

    Or three workers that took it are gone, one after the other: it may be what ends them.
    """


class TooManyHops(JobError):
    """The job was passed on as often as ``max_hops`` allows: its workers may be passing it on in a circle."""


class BusOverloaded(JobError):
    """The worker has as many jobs under way as it may keep: see ``outbox_jobs`` and ``outbox_bytes``."""

    http_status = 503
    retryable = True


class RuntimeExceeded(JobError):
    """The handler ran for longer than its worker's ``max_runtime``."""


class BadRequest(JobError, ValueError):
    """The job's data is not what its handler takes; the message says what it takes."""

    http_status = 400


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
