"""A worker that answers HTTP requests by sending jobs. Klein routes the requests to its functions.

Each answer has the headers ``Server-Timing: total;dur=<ms>`` and ``X-Job-Id``. The duration is the time from the
complete request to the answer. The id is that of the job that was sent; if there was none, it is a fresh one that names
the answer.

An answer that is an error is ``{"error": type, "message": text}``. A :class:`~txmicro.errors.JobError` and the
exceptions of werkzeug have their own status and text. All other errors, and a ``JobError`` that is not ``public``,
become an ``InternalError`` that names only the job. Its text is in the log.
"""

from __future__ import annotations

import re
from json import loads
from math import inf
from typing import Any, Final
from urllib.parse import parse_qs

from klein import Klein
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from txmicro.errors import BadRequest, ConfigError, DecodeError, EncodeError, JobError, MessageTooLarge
from txmicro.protocol.codec.json import STRICT_JSON
from txmicro.protocol.failures import http_status, text_of
from txmicro.util.host_port import host_port
from txmicro.web.klein_resource import KleinApp, RootResource
from txmicro.web.site import LimitedRequest, LimitedSite, trace_of
from txmicro.worker import Worker

MAX_FIELDS: Final = 1000
"""The most fields that a form may have."""

_FORM: Final = b"application/x-www-form-urlencoded"
_SCALAR: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null")
_CLIENT_ERRORS: Final = {EncodeError: 400, MessageTooLarge: 413}
"""The statuses of errors that the client has caused if they are raised in this process, when its job is sent."""


class RestWorker(Worker):
    """An HTTP server on ``rest_interface``:``rest_port``. Subclass it, set ``type``, and write :meth:`routes`.

    :ivar port: the port that it listens on, from its start. It is a free one if ``rest_port`` is 0.
    """

    port: int = 0
    _listening: Any
    _site: LimitedSite

    def routes(self, app: Klein) -> None:
        """Add the paths to *app*: ``app.route("/movies/")(self.movies)``.

        A handler takes a :class:`~txmicro.web.site.LimitedRequest` and the parameters of its path. It returns
        ``request.json(value, code)``, or raises. It may be a coroutine function or return a Deferred. Other values that
        Klein can render are allowed, and take longer. ``url_for`` cannot be used while a handler runs.
        """
        raise NotImplementedError

    def opened(self) -> None:
        """Listen. Raise :class:`~txmicro.errors.ConfigError` if the port is in use."""
        app = KleinApp()
        self.routes(app)
        app.handle_errors(Exception)(self._failed)
        config, reactor = self.config, self.reactor
        self._site = LimitedSite(
            RootResource(app),
            reactor,
            body_max=config.http_body_max,
            new_id=self.bus.ids.job,
            observe=self.metrics.record_request,
            tracer=self.bus.tracer,
            explain=self._failed,
        )
        try:
            self._listening = reactor.listenTCP(config.rest_port, self._site, interface=config.rest_interface)
        except CannotListenError as error:
            where = host_port(config.rest_interface, config.rest_port)
            raise ConfigError(
                [f"rest_port: cannot listen on {where} ({error.socketError}): set rest_port to a free port"]
            ) from error
        host = self._listening.getHost()
        self.port = host.port
        self.log.info(
            "{worker} listens on {url}", worker=self.id, url=f"http://{host_port(host.host, host.port)}/"
        )

    async def closed(self) -> None:
        """Close the port, and wait until the requests that have arrived are answered, for at most ``grace`` seconds."""
        await maybeDeferred(self._listening.stopListening)
        requests = self._site.unanswered
        if requests:
            self.log.info(
                "{worker}: {requests} HTTP requests are not answered yet; waits for them for at most {grace:g} s",
                worker=self.id,
                requests=requests,
                grace=self.config.grace,
            )
        await self._site.drain(self.config.grace)

    async def ask(self, request: LimitedRequest, address: str, data: Any) -> Any:
        """Send a job for *request*; return its result, or raise its error.

        The job gets the trace context of the headers ``traceparent`` and ``tracestate``. It is canceled when the client
        closes the connection.
        """
        traceparent, tracestate = trace_of(request)
        job = self.send(address, data, traceparent=traceparent, tracestate=tracestate)
        request.job_id = job.id
        try:
            return await job
        except CancelledError:
            job.cancel()
            raise

    def _failed(self, request: LimitedRequest, failure: Failure) -> bytes:
        """Return the answer to a request that failed, in its handler or before."""
        error: Any = failure.value
        code = status(error)
        kind = error.type if isinstance(error, JobError) else type(error).__name__
        if code >= 500:
            self.metrics.record_error(kind)
            if request.span is not None:
                request.span.failed(error)
        if isinstance(error, HTTPException):
            _copy_headers(error, request)
            return request.error(code, kind, str(error.description).encode("utf-8", "replace").decode())
        if isinstance(error, JobError) and error.public:
            return request.error(code, kind, text_of(error))
        request.job_id = request.job_id or self.bus.ids.job()
        self._log_failure(request, failure)
        return request.error(
            code,
            "InternalError",
            f"the request failed; the server's log has the reason under {request.job_id}",
        )

    def _log_failure(self, request: LimitedRequest, failure: Failure) -> None:
        """Log an error that the client does not get, with a traceback if it was raised in this process."""
        error, fields = failure.value, {"worker": self.id, "job": request.job_id, "recurring": True}
        if isinstance(error, JobError):
            text = "{worker}: job {job} failed at {at}: {kind}: {reason}; the HTTP client gets only the id"
            self.log.error(text, at=error.worker or self.id, kind=error.type, reason=text_of(error), **fields)
        else:
            text = "{worker}: an HTTP request failed; the client gets only the id {job}"
            self.log.failure(text, failure, LogLevel.error, **fields)


def status(error: BaseException) -> int:
    """Return the HTTP status for *error*."""
    if isinstance(error, HTTPException):
        # A redirect would add or remove a slash. An API has one path per resource, so the other path is unknown.
        return 404 if isinstance(error, RequestRedirect) else error.code or 500
    if not isinstance(error, JobError):
        return 500
    code = _CLIENT_ERRORS.get(type(error)) if error.worker is None else None
    return code or http_status(error)


def _copy_headers(error: HTTPException, request: Any) -> None:
    """Copy the headers of *error*, as ``Allow`` of a 405 or ``Retry-After``. The request sets the content type."""
    for name, value in error.get_headers():
        request.setHeader(name.encode(), value.encode())


def document(request: LimitedRequest) -> dict[str, Any]:
    """Return the JSON object or the form in the body of *request*. The value of a repeated form field is a list.

    :raise BadRequest: the body is not valid.
    """
    kind = (request.getHeader(b"content-type") or b"application/json").partition(b";")[0].strip().lower()
    if kind not in (b"application/json", _FORM):
        shown = kind.decode("utf-8", "replace")
        raise BadRequest(
            f"the Content-Type is {shown!r:.100}: expected application/json or application/x-www-form-urlencoded"
        )
    body = request.content.read()
    try:
        return _form(body.decode()) if kind == _FORM else STRICT_JSON.decode(body)
    except (DecodeError, ValueError) as error:
        raise BadRequest(f"the body does not have its Content-Type, {kind.decode()}: {error}") from error


def _form(body: str) -> dict[str, Any]:
    if body.lstrip().startswith(("{", "[")):  # in a form they are encoded, as %7B and %5B
        raise ValueError("it looks like JSON: send it with Content-Type: application/json")
    fields = parse_qs(
        body, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_FIELDS
    )
    if not fields:
        raise ValueError("the form is empty")
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}


def query(request: LimitedRequest) -> dict[str, Any]:
    """Return the query string of *request* as the data of a ``GET`` job for a :class:`~txmicro.workers.db.DBWorker`.

    ``limit`` and ``after`` keep their meaning; all other fields are filters. A query string has only text, so
    ``?year=1979`` finds the number, too. A repeated field finds documents with any of its values.

    :raise BadRequest: the query string is not valid.
    """
    try:
        fields = {name.decode(): [text.decode() for text in texts] for name, texts in request.args.items()}
        data: dict[str, Any] = {name: fields.pop(name)[-1] for name in ("limit", "after") if name in fields}
        if "limit" in data:
            data["limit"] = _whole_number(data["limit"])
    except ValueError as error:
        raise BadRequest(f"the query string is not valid: {error}") from error
    data["params"] = {
        name: [value for text in texts for value in _meanings(text)] for name, texts in fields.items()
    }
    return data


def _whole_number(text: str) -> int:
    """Return the number that *text* is. ``int`` would also accept spaces, underscores and digits of all scripts."""
    if text.isascii() and text.isdecimal() and len(text) < 20:
        return int(text)
    raise ValueError(f"limit: {text!r:.100} is not valid: expected a whole number")


def _meanings(text: str) -> list[Any]:
    """Return *text*, and the number, bool or null that it is in JSON."""
    value = loads(text) if len(text) < 100 and _SCALAR.fullmatch(text) else text
    return [text] if value == text or value in (inf, -inf) else [text, value]
