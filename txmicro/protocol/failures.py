"""How the error of a failed job travels: as data in a reply or a header, never as a pickled object.

The fields of a :class:`~txmicro.errors.JobError` travel, too: the attributes of the instance whose names do not begin
with an underscore. A field is left out if it is too large, or if a format of :mod:`txmicro.protocol.codec` cannot carry
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import getattr_static
from typing import Any, Final, TypedDict

from twisted.python.reflect import safe_str

from txmicro.errors import DecodeError, JobError, RemoteError, show
from txmicro.util.text import encodable

from .codec.bson import BSON
from .codec.json import JSON
from .codec.messagepack import MESSAGEPACK

MESSAGE_MAX: Final = 8_192
"""Characters of an error's message that travel."""

FIELDS_MAX: Final = 8_192
"""Bytes of an error's fields that travel, in JSON."""

HEADER_TEXT: Final = 500
"""Characters of each text of an error in a header: all headers of a message must fit into one frame."""

HEADER_FIELDS: Final = 2_000
"""Bytes of an error's fields in a header, in JSON."""

_STATUSES: Final = range(400, 600)


class ErrorData(TypedDict):
    """An error as it travels, as part of a reply's body. The module tells errors of the same name apart."""

    type: str
    module: str
    message: str
    retryable: bool
    worker: str | None
    http_status: int
    public: bool
    fields: dict[str, Any]


_NOT_FIELDS: Final = frozenset(ErrorData.__annotations__)  # what every error has is not a field


def describe(error: BaseException, worker: str | None) -> ErrorData:
    """Return *error* as it travels. Never raises, and every format can carry the result.

    :param worker: id of the worker where the error happened; None: at the sender.
    """
    if isinstance(error, JobError):
        return ErrorData(
            type=error.type,
            module=type(error).__module__,
            message=text_of(error),
            retryable=bool(error.retryable),
            worker=error.worker or worker,
            http_status=http_status(error),
            public=bool(error.public),
            fields=_fitting(error.fields if isinstance(error, RemoteError) else vars(error), FIELDS_MAX),
        )
    kind = type(error)
    return ErrorData(
        type=kind.__name__,
        module=kind.__module__,
        message=_text(error),
        retryable=False,
        worker=worker,
        http_status=500,
        public=False,
        fields={},
    )


def type_name(error: BaseException) -> str:
    """Return the name that :func:`describe` gives the type of *error*."""
    return error.type if isinstance(error, JobError) else type(error).__name__


def http_status(error: Any) -> int:
    """Return the HTTP status of *error*, a :class:`~txmicro.errors.JobError`; 500 if it has no valid one."""
    return _status(error.http_status)


def _status(value: Any) -> int:
    return value if type(value) is int and value in _STATUSES else 500


def text_of(error: BaseException) -> str:
    """Return the message of *error* as text that every format can carry. Never raises."""
    return (isinstance(error, JobError) and _text(error.message)) or _text(error)


def _fitting(fields: Mapping[Any, Any], most: int) -> dict[str, Any]:
    """Return those of *fields* that every format can carry, as they arrive, of up to *most* bytes in total."""
    fitting: dict[str, Any] = {}
    for name, value in _named(fields):
        try:
            data, *_ = (codec.encode({"": {"": {"": {name: value}}}}) for codec in (JSON, BSON, MESSAGEPACK))
        except Exception:  # the error travels without the field  # noqa: S112
            continue
        if len(data) <= most:
            most -= len(data)
            fitting[name] = JSON.decode(data)[""][""][""][name]
    return fitting


def _named(fields: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    """Yield those of *fields* whose name is valid for a field."""
    for name, value in list(fields.items()):
        if (
            isinstance(name, str)
            and name.isidentifier()
            and not name.startswith("_")
            and name not in _NOT_FIELDS
        ):
            yield name, value


def _text(value: object) -> str:
    return encodable(safe_str(value)[:MESSAGE_MAX])


def rebuild(failure: Any) -> JobError:
    """Return the error that *failure*, an :class:`ErrorData`, describes. Never raises.

    Its class is the registered one of that name, or else :class:`~txmicro.errors.RemoteError`. So is that of an invalid
    description, which another program may have sent. The constructor of the class is not called: its arguments are
    unknown here, and it has run at the worker.
    """
    if not isinstance(failure, dict):
        return RemoteError(f"a failure without a valid description: {show(failure)}")
    kind, message, worker = (failure.get(name) for name in ("type", "message", "worker"))
    kind = kind if isinstance(kind, str) else "RemoteError"
    message = message if isinstance(message, str) else show(message)
    worker = worker if isinstance(worker, str) else None
    error = _blank(failure.get("module"), kind)
    JobError.__init__(error, message, worker=worker, retryable=failure.get("retryable") is True)
    if "public" in failure:  # otherwise the class says it
        vars(error).update(http_status=_status(failure.get("http_status")), public=failure["public"] is True)
    _set_fields(error, failure.get("fields"))
    return error


def _set_fields(error: JobError, fields: Any) -> None:
    """Give *error* its fields. A field does not replace a method or a property."""
    if not isinstance(fields, dict):
        return
    if isinstance(error, RemoteError):
        error.fields = dict(_named(fields))
        return
    for name, value in _named(fields):
        there = getattr_static(type(error), name, None)
        if not callable(there) and not hasattr(there, "__get__"):
            vars(error)[name] = value


def to_header(failure: ErrorData) -> dict[str, Any]:
    """Return *failure* as a durable job's header has it: its texts are cut, and its fields are one text, in JSON."""
    cut = {name: value[:HEADER_TEXT] if isinstance(value, str) else value for name, value in failure.items()}
    return {**cut, "fields": JSON.encode(_fitting(failure["fields"], HEADER_FIELDS)).decode()}


def from_header(header: Any) -> JobError:
    """Return the error that a durable job's header describes, as :func:`rebuild` does."""
    if not isinstance(header, dict) or not isinstance(header.get("fields"), str):
        return rebuild(header)
    try:
        return rebuild({**header, "fields": JSON.decode(header["fields"].encode("utf-8", "replace"))})
    except DecodeError:
        return rebuild({**header, "fields": None})


def _blank(module: Any, kind: str) -> JobError:
    """Return an error of the class that is called *kind*, without attributes."""
    known = JobError.types.get(f"{module}:{kind}") or JobError.types.get(kind)
    if known is None or issubclass(known, RemoteError):
        return RemoteError(type=kind)
    return known.__new__(known)
