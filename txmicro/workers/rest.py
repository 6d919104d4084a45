"""A worker that answers HTTP requests by sending jobs; Klein finds the function for a path.

Every answer has ``Server-Timing: total;dur=<ms>``, the time from the whole request to the answer, and
``X-Job-Id``: the id of the job that was sent or, where none was, a fresh id by which the answer can be named.
An answer that is an error is ``{"error": type, "message": text}``. A :class:`~txmicro.errors.JobError` and
werkzeug's exceptions say their status and text themselves. Anything else, and a ``JobError`` that is not
``public``, is an ``InternalError`` that names only the job: its text is in the log.
"""

from __future__ import annotations

import re
from functools import lru_cache
from json import loads
from math import inf
from typing import Any, Final
from urllib.parse import parse_qs

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import BadRequest as InvalidHost
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect

from txmicro.errors import BadRequest, ConfigError, DecodeError, EncodeError, JobError, MessageTooLarge
from txmicro.protocol.codec import STRICT_JSON
from txmicro.protocol.failures import http_status, text_of
from txmicro.util.host_port import host_port
from txmicro.web.site import LimitedRequest, LimitedSite
from txmicro.worker import Worker

MAX_FIELDS: Final = 1000
"""The most fields that a form may have."""

log = Logger()

_PATHS: Final = 100  # of those that were asked for, to be remembered
_FORM: Final = b"application/x-www-form-urlencoded"
_SCALAR: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_THEIRS: Final = {EncodeError: 400, MessageTooLarge: 413}  # when it happens here, to what the client sent


class RestWorker(Worker):
    """Listens on ``rest_interface``:``rest_port``. Subclass it, and say in :meth:`routes` who answers what.

    :ivar port: the port that it listens on, once it has started; for ``rest_port`` 0 a free one.
    """

    port: int = 0
    _listening: Any
    _site: LimitedSite

    def routes(self, app: Klein) -> None:
        """Add the paths: ``app.route("/movies/")(self.movies)``.

        A handler gets a :class:`~txmicro.web.site.LimitedRequest`. It gives back
        ``request.json(value, code)``, or raises. What else Klein can render takes its time; there is no ``url_for``
        while the handler runs.
        """
        raise NotImplementedError

    def opened(self) -> None:
        """Listen. A port that is taken is a :class:`~txmicro.errors.ConfigError`."""
        app = _App()
        self.routes(app)
        app.handle_errors(Exception)(self._failed)
        ids, config, reactor = self.bus.ids, self.config, self._reactor
        self._site = LimitedSite(
            _Root(app), reactor, body_max=config.http_body_max, new_id=ids.job, explain=self._failed
        )
        try:
            listening = reactor.listenTCP(config.rest_port, self._site, interface=config.rest_interface)
        except CannotListenError as error:
            raise ConfigError([f"rest_port: cannot listen: {error}"]) from error
        self._listening = listening
        self.port = listening.getHost().port
        self.log.info("{worker} answers on {host}", worker=self.id, host=_url(listening.getHost()))

    @property
    def _reactor(self) -> Any:
        return self.bus.clock

    async def closed(self) -> None:
        """No new requests, answers to those that run."""
        await maybeDeferred(self._listening.stopListening)
        requests = self._site.unanswered
        if requests:
            text = "{worker} has requests to answer: {requests}, for at most {grace:g} s"
            self.log.info(text, worker=self.id, requests=requests, grace=self.config.grace)
        await self._site.drain(self.config.grace)

    async def ask(self, request: LimitedRequest, address: str, data: Any) -> Any:
        """Send a job for *request* and wait for its result, which is returned; its failure is raised.

        A ``traceparent`` header goes along. The job is cancelled when the client goes away.
        """
        job = self.send(address, data, traceparent=_traceparent(request))
        request.job_id = job.id
        try:
            return await job
        except CancelledError:
            job.cancel()
            raise

    def _failed(self, request: LimitedRequest, failure: Failure) -> bytes:
        """The answer to a request whose handler, or the way to it, failed."""
        error: Any = failure.value
        code = status(error)
        kind = error.type if isinstance(error, JobError) else type(error).__name__
        if code >= 500:
            self.metrics.record_error(kind)
        if isinstance(error, HTTPException):
            _copy_headers(error, request)
            return request.error(code, kind, str(error.description).encode("utf-8", "replace").decode())
        if isinstance(error, JobError) and error.public:
            return request.error(code, kind, text_of(error))
        request.job_id = request.job_id or self.bus.ids.job()
        self._tell_log(request, failure)
        return request.error(
            code, "InternalError", f"the request failed; the log says why, at {request.job_id}"
        )

    def _tell_log(self, request: LimitedRequest, failure: Failure) -> None:
        """Log what the client does not get to know; with a traceback if it happened here."""
        error, about = failure.value, {"worker": self.id, "job": request.job_id, "recurring": True}
        if isinstance(error, JobError):
            text = "{worker}: {job} failed at {at}: {kind}: {reason}; the client is told only the id"
            self.log.error(text, at=error.worker or self.id, kind=error.type, reason=text_of(error), **about)
        else:
            self.log.failure("{worker}: a request failed, {job}", failure, LogLevel.error, **about)


def status(error: BaseException) -> int:
    """The HTTP status that says *error*."""
    if isinstance(error, HTTPException):
        # An API has one path for one thing, so a path that differs by a slash is another one.
        return 404 if isinstance(error, RequestRedirect) else error.code or 500
    if not isinstance(error, JobError):
        return 500
    theirs = _THEIRS.get(type(error)) if error.worker is None else None
    return theirs or http_status(error)


def _copy_headers(error: HTTPException, request: Any) -> None:
    """Set what *error* says besides its text: ``Allow`` of a 405, ``Retry-After``, …; the request sets the type."""
    for name, value in error.get_headers():
        request.setHeader(name.encode(), value.encode())


def document(request: LimitedRequest) -> dict[str, Any]:
    """The JSON object or the form in the body of *request*; raises :class:`~txmicro.errors.BadRequest`.

    A field that a form has several times is a list.
    """
    kind = (request.getHeader(b"content-type") or b"application/json").partition(b";")[0].strip().lower()
    if kind not in (b"application/json", _FORM):
        text = "the Content-Type is {!r:.100}: expected application/json or application/x-www-form-urlencoded"
        raise BadRequest(text.format(kind.decode("utf-8", "replace")))
    body = request.content.read()
    try:
        return _form(body.decode()) if kind == _FORM else STRICT_JSON.decode(body)
    except (DecodeError, ValueError) as error:
        raise BadRequest(f"the body is not what its Content-Type says, {kind.decode()}: {error}") from error


def _form(body: str) -> dict[str, Any]:
    if body.lstrip().startswith(("{", "[")):  # a form has them as %7B and %5B
        raise ValueError("it looks like JSON, which is sent with Content-Type: application/json")
    fields = parse_qs(
        body, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_FIELDS
    )
    if not fields:
        raise ValueError("the form is empty")
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}


def query(request: LimitedRequest) -> dict[str, Any]:
    """What the query string of *request* asks of a :class:`~txmicro.workers.db.DBWorker`.

    ``limit`` and ``after`` are themselves, all else are filters. A query string has only text, so ``?year=1979``
    finds the number as well as the text; a field that it has several times is a choice.
    Raises :class:`~txmicro.errors.BadRequest`.
    """
    try:
        fields = {name.decode(): [text.decode() for text in texts] for name, texts in request.args.items()}
        asked: dict[str, Any] = {name: fields.pop(name)[-1] for name in ("limit", "after") if name in fields}
        if "limit" in asked:
            asked["limit"] = _whole(asked["limit"])
    except ValueError as error:
        raise BadRequest(f"the query string: {error}") from error
    asked["params"] = {
        name: [each for text in texts for each in _readings(text)] for name, texts in fields.items()
    }
    return asked


def _whole(text: str) -> int:
    """The number that *text* is; ``int`` also takes spaces, underscores and the digits of all scripts."""
    if text.isascii() and text.isdecimal() and len(text) < 20:
        return int(text)
    raise ValueError(f"limit: {text!r:.100} is not a whole number")


def _readings(text: str) -> list[Any]:
    """*text*, and the number, bool or null that it is in JSON."""
    value = loads(text) if len(text) < 100 and _SCALAR.fullmatch(text) else text
    return [text] if value == text or value in (inf, -inf) else [text, value]


class _App(Klein):
    """Klein, for a request that may have been handled."""

    def execute_endpoint(self, endpoint: str, request: Any, *args: Any, **kwargs: Any) -> Any:
        """What the handler gives back; its outcome, if there is one."""
        if hasattr(request, "outcome"):
            return request.outcome
        return super().execute_endpoint(endpoint, request, *args, **kwargs)


class _Root(KleinResource):
    """Klein's resource, without paths that Klein takes for others (``//movies/``, ``/movies%2F``) or for no text.

    What is found and gives back bytes is answered here, as Klein's way to that takes longer than all else that
    happens to a request. For the rest, errors before all, Klein is given the outcome.
    """

    def __init__(self, app: _App) -> None:
        super().__init__(app)
        # No route depends on the host. The same few paths come again and again, unless parts of them vary.
        self._match = lru_cache(_PATHS)(app.url_map.bind("").match)

    def render(self, request: Any) -> Any:
        _check_host(request)
        path = _text(b"/" + b"/".join(request.postpath))
        if path.startswith("//") or path.count("/") != request.path.count(b"/"):
            raise NotFound
        try:
            endpoint, arguments = self._match(path, request.method.decode())
        except (HTTPException, UnicodeDecodeError):
            return super().render(request)
        answering = maybeDeferred(self._app.execute_endpoint, endpoint, request, **arguments)
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addBoth(self._answer, request)
        return NOT_DONE_YET

    def _answer(self, outcome: Any, request: Any) -> None:
        if request.channel is None:  # the client has gone
            if isinstance(outcome, Failure) and not outcome.check(CancelledError):
                text = "the handler of a request that nobody awaits any more failed"
                log.failure(text, outcome, LogLevel.error, recurring=True)
        elif isinstance(outcome, bytes):
            request.write(outcome)
            request.finish()
        else:
            request.outcome = outcome
            super().render(request)


def _check_host(request: Any) -> None:
    """Refuse what Klein cannot read: it would log each such request, and leave those that are handled unanswered."""
    try:
        request.getRequestHostname().decode()
    except UnicodeDecodeError:
        raise InvalidHost("the Host header is not valid UTF-8") from None


def _text(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise NotFound from None


def _traceparent(request: LimitedRequest) -> str | None:
    """The W3C trace context of *request*; None if there is none, or one of another shape (to be ignored)."""
    header = request.getHeader(b"traceparent")
    return header.decode() if header is not None and _TRACEPARENT.fullmatch(header) else None


def _url(address: Any) -> str:
    return f"http://{host_port(address.host, address.port)}/"
