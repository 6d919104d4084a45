"""The errors of txmicro.

Every error is a :class:`TxmicroError`. Errors that end a job are :class:`JobError`: they travel between processes as
data (:mod:`txmicro.protocol.failures`), never as pickled objects.

A subclass of :class:`JobError` registers itself by its class name. So a handler's ``raise OutOfStock("…")`` is caught
by ``except OutOfStock`` at the sender, provided that both import the class. Of several classes of one name, the one of
the same module is used, or else the one that was defined last. Any other exception of a handler arrives as a
:class:`RemoteError`.

The sender of a job gets the text of every failure. HTTP clients get only the text of errors that are ``public``.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, ClassVar

from twisted.python.reflect import safe_str

_repr = Repr()
_repr.maxstring = _repr.maxother = 100
_repr.maxlevel = 3


def show(value: Any) -> str:
    """Return a short ``repr`` of *value*, however large or deep it is, for messages."""
    return _repr.repr(value)


class TxmicroError(Exception):
    """The base class of all errors that txmicro raises."""


class ConfigError(TxmicroError):
    """The configuration is wrong, or something that it names does not work.

    Correct the keys that the message names. The log's first line says which file and variables were read.

    :ivar problems: one text for each problem: the key, its value, and what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressError(TxmicroError, ValueError):
    """A text is not a valid address, worker type or worker id.

    Raised by ``send``, the constructor of a worker, and what else takes such a text.
    Write an address as ``TYPE:*`` (any worker of the type) or as a worker's id.
    """


class DecodeError(TxmicroError):
    """A message is not what its content type or its kind says.

    The message is dropped, counted as an error, and logged once for each kind. Look for a program that publishes to
    txmicro's exchanges and is not a txmicro worker, or for a version that is too old.
    """


class DuplicateWorker(TxmicroError):
    """Another worker with this id is connected, so this one does not start, or stops.

    Give each worker an id of its own, or none: then it gets a random one.
    """


class QueueLocked(TxmicroError):
    """Another connection holds the name of a queue that belongs to one worker only.

    It may be another worker with this id, or a lost connection of this worker that the broker still keeps. RabbitMQ
    4.3 also keeps the names of connections that ended with their node. The worker uses other names until this one is
    free; there is nothing to do.
    """


class QueueMismatch(TxmicroError):
    """A queue exists on the broker, with other arguments than this version of txmicro declares.

    Have the workers that declared the queue empty it, and then delete it: it will be declared again.

    :ivar queue: its name. :ivar difference: what differs, in the broker's words.
    """

    def __init__(self, queue: str, difference: str) -> None:
        super().__init__(
            f"the queue {queue!r} exists on the broker with other arguments than this version of txmicro declares "
            f"({difference}); have the workers that declared it empty it, and delete it: it will be declared again"
        )
        self.queue = queue
        self.difference = difference


class ConsumerCancelled(TxmicroError):
    """The broker canceled a consumer, because its queue was deleted or moved to another node.

    The worker declares the queue and consumes from it again; there is nothing to do.
    """


class NoAnswer(TxmicroError):
    """No SystemManager answered ``list_workers`` in time.

    Start one (``twistd txmicro-manager``), on the same broker.
    """


class WrongThread(TxmicroError):
    """A method of txmicro was called in a thread other than the reactor's.

    Call it with ``blockingCallFromThread(worker.reactor, …)``, or with ``reactor.callFromThread``.
    """


class BusClosed(TxmicroError):
    """The bus has stopped, or was never started, so nothing can be sent.

    Send only between the start and the stop of the service; ``worker.opened`` is the earliest place.
    """


class JobNotDone(TxmicroError):
    """``JobFuture.result()`` or ``exception()`` was called before the job ended.

    Await the future, or check ``done()`` first.
    """


class JobError(TxmicroError):
    """A job failed. Handlers raise subclasses of this class for failures that their senders shall see.

    :ivar message: what happened.
    :ivar worker: the id of the worker where the job failed; None: at its sender.
    :ivar retryable: whether the same job may succeed when it is sent again.
    :ivar http_status: the status of the REST worker's response, 400 to 599.
    :ivar public: whether the response has the error's type and message; otherwise it has only the job's id.
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
        """The error's type: the name of its class."""
        return type(self).__name__


JobError.types[JobError.__name__] = JobError


class RemoteError(JobError):
    """A handler raised an exception that is not a :class:`JobError`, or a subclass that is not known here.

    The worker has logged its traceback, unless it is a :class:`JobError`. To catch a subclass by its class, import the
    class at the sender. The error is ``public`` if it is a :class:`JobError` at the worker, and public there.

    :ivar type: the name of its class at the worker.
    :ivar fields: its other attributes, by name, if it is a :class:`JobError` at the worker.
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
    """The SystemManager found no consumer for the address.

    Start a worker of the type, check the spelling of the address, and compare the brokers that both logs name.
    """

    http_status = 503
    retryable = True


class JobTimeout(JobError):
    """The job's deadline passed; the message says where the job was then.

    Give the job more time (``timeout``), run more workers, or find out why its handler is slow.

    :ivar still_queued: True: the job is durable and the broker has it, so it may still be done.
    """

    http_status = 504
    retryable = True
    still_queued = False


class NotPermitted(JobError):
    """The broker's permissions do not allow this process to send to the address.

    Grant the broker's user the right that the message names; see :mod:`txmicro.operations.permissions`.
    """

    public = False  # the broker's words name its users and queues


class NotStored(JobError):
    """The broker has not stored the durable job: it has no queue for it, or the sender stopped before the confirm.

    Start a worker of the type with ``durable = True`` once: it declares the queues. Then send the job again.
    """

    http_status = 503
    retryable = True


class JobCancelled(JobError):
    """The job was canceled by its sender; there is nothing to do.

    A handler sees it as a ``CancelledError``.
    """


class WorkerStopped(JobError):
    """The worker that had the job, or the worker that sent it, stopped before the job was done.

    Send the job again. If handlers need longer than ``grace`` to end, raise that key.
    """

    http_status = 503
    retryable = True


class WorkerLost(JobError):
    """A worker that had the job died, and the job is not run again.

    This happens when the job must not run twice (``redeliver=False``) and may have run there. It also happens when
    three workers that had it died, or when a durable job came back from the quarantine five times: then the job may be
    the cause. See why the processes that the message names ended.
    """


class TooManyHops(JobError):
    """The job was forwarded as often as ``max_hops`` allows.

    See whether workers forward it to each other in a circle. Raise ``max_hops`` for a chain that is meant to be so
    long.
    """


class BusOverloaded(JobError):
    """The worker has sent as many unfinished jobs as ``outbox_jobs`` or ``outbox_bytes`` allows.

    Await some of their results before you send more, or run more workers that do them.
    """

    http_status = 503
    retryable = True


class RuntimeExceeded(JobError):
    """The handler ran for longer than its worker's ``max_runtime``, and was canceled.

    Give what the handler waits for a timeout, or raise ``max_runtime`` of the worker class or in the configuration.
    """


class BadRequest(JobError, ValueError):
    """The job's data is not valid for its handler.

    Correct the data at the sender: the message says what the handler expects.
    """

    http_status = 400


class EncodeError(JobError, ValueError):
    """A value cannot be encoded in the message format.

    Convert the value before it is sent: the message names its place. :mod:`txmicro.protocol.codec` lists what each
    format can carry.
    """


class MessageTooLarge(JobError):
    """The encoded job or result is larger than ``max_message``, or than the broker accepts.

    Send a reference to the data, such as the id of a document, or raise the limit in all processes.
    """


def is_unexpected(error: BaseException | None) -> bool:
    """Return whether *error* is not one of txmicro's, so that a log has to show its type and traceback."""
    return not isinstance(error, TxmicroError)


def reason_of(error: BaseException | None) -> str:
    """Return the text of *error* on one line, after its type if :func:`is_unexpected`."""
    text = "; ".join(safe_str(error).splitlines())
    return f"{type(error).__name__}: {text}" if is_unexpected(error) else text
