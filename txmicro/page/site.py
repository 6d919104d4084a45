"""The site of a process's HTTP pages, on twisted.web: each route has a function that returns an answer.

Klein is not used here. It redirects paths that it does not have. The API has a description of its paths anyway, and
Klein's routes would be a second one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from txmicro.web.site import BoundedRequest, BoundedSite

IDLE: Final = 10.0
"""Seconds in which a whole request has to arrive, and after which an idle connection is closed."""

CONNECTIONS: Final = 500
"""The most connections at once. Files of the process are left for its connections to the broker."""

BODY_MAX: Final = 65_536
"""Bytes of the largest body of a process that has no page."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""The headers of all answers: nothing runs, and nothing is loaded, that does not come from this site."""

_NO_HEADERS: Final[Mapping[str, str]] = {}
_NOTHING: Final[Mapping[str, Any]] = {}

_log: Final = Logger()


class Answer(NamedTuple):
    """An answer to a request.

    :ivar headers: the headers besides :data:`HEADERS` and those of the content.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS


Handler = Callable[..., "Answer | Deferred[Answer] | None"]
"""Takes a request, and the parameters of its path by name. None as the answer: it answers the request by itself."""


class PageRoute(NamedTuple):
    """A path and its handler.

    :ivar method: ``GET`` (which is also ``HEAD``) or ``POST``.
    :ivar path: with ``{name}`` in place of a segment that is a parameter: ``/api/types/{type}/series``.
    """

    method: str
    path: str
    handler: Handler


class Refusal(Exception):
    """The answer to a request that is refused.

    :ivar error: the error's name, in CamelCase.
    :ivar content: more members of the answer's content.
    """

    def __init__(
        self, status: int, error: str, message: str, *, content: Mapping[str, Any] = _NOTHING, **headers: str
    ) -> None:
        super().__init__(message)
        self.content = content
        self.status = status
        self.error = error
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def header(request: Any, name: str) -> str:
    """Return the header *name* of *request*; empty: it has none. Bytes that are not ASCII become other characters."""
    value = request.getHeader(name.encode())
    return "" if value is None else value.decode("latin-1")


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Return an answer with *content* as JSON."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return Answer(status, "application/json", body, headers)


def error_answer(refusal: Refusal) -> Answer:
    """Return *refusal* as an answer."""
    headers = {"cache-control": "no-store", **refusal.headers}
    content = {"error": refusal.error, "message": refusal.message, **refusal.content}
    return json_answer(content, refusal.status, headers)


class Router:
    """Finds the handler of a request."""

    def __init__(self, routes: Iterable[PageRoute]) -> None:
        self._fixed: dict[bytes, dict[str, Handler]] = {}
        self._varied: dict[tuple[str, ...], dict[str, Handler]] = {}
        for route in routes:
            segments = tuple(route.path[1:].split("/"))
            known = (
                self._varied.setdefault(segments, {})
                if "{" in route.path
                else self._fixed.setdefault(route.path[1:].encode(), {})
            )
            known[route.method] = route.handler
        self._expected = ", ".join(sorted(self._shown()))

    def _shown(self) -> set[str]:
        """Return the paths that the error of an unknown path lists."""
        paths = {f"/{path.decode()}" for path in self._fixed}
        return {
            f"/{path.split('/')[1]}/..." if path.startswith(("/api/", "/static/")) else path for path in paths
        }

    def find(self, request: Request) -> tuple[Handler, dict[str, str]]:
        """Return the handler for *request*, and the parameters of the path; raise :class:`Refusal`."""
        handlers, parameters = self._handlers(request.postpath or [])
        method = "GET" if request.method == b"HEAD" else request.method.decode("latin-1")
        handler = handlers.get(method)
        if handler is None:
            allowed = [each for each in ("GET", "HEAD", "POST") if each.replace("HEAD", "GET") in handlers]
            raise Refusal(
                405,
                "NotAllowed",
                f"the method is not valid; expected {' or '.join(allowed)}",
                allow=", ".join(allowed),
            )
        return handler, parameters

    def _handlers(self, segments: list[bytes]) -> tuple[dict[str, Handler], dict[str, str]]:
        fixed = self._fixed.get(b"/".join(segments))
        if fixed is not None:
            return fixed, {}
        for template, handlers in self._varied.items():
            if len(template) == len(segments):
                parameters = _match(template, segments)
                if parameters is not None:
                    return handlers, parameters
        raise Refusal(404, "NotFound", f"the path is not valid; expected {self._expected}")


def _match(template: tuple[str, ...], segments: list[bytes]) -> dict[str, str] | None:
    """Return the parameters in *segments*; None: these do not match *template*."""
    parameters = {}
    for expected, segment in zip(template, segments, strict=True):
        try:
            text = segment.decode()
        except UnicodeDecodeError:
            return None
        if expected.startswith("{") and text:
            parameters[expected[1:-1]] = text
        elif expected != text:
            return None
    return parameters


class _Root(Resource):
    """The resource for all paths."""

    isLeaf = True

    def __init__(self, routes: Iterable[PageRoute]) -> None:
        super().__init__()
        self._router = Router(routes)

    def render(self, request: Any) -> int:
        """Answer *request*, at once or when its handler has an answer."""
        answering = maybeDeferred(self._handle, request)
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(refuse, request).addCallback(send, request)
        answering.addErrback(
            lambda failure: _log.failure("an answer cannot be sent", failure, recurring=True)
        )
        return NOT_DONE_YET

    def _handle(self, request: Request) -> Any:
        handler, parameters = self._router.find(request)
        return handler(request, **parameters)


def refuse(failure: Failure, request: Any) -> Answer | None:
    """Return the answer to a request that failed. An error that is not a :class:`Refusal` is logged.

    None: the client has closed the connection.
    """
    error = failure.value
    if isinstance(error, Refusal):
        return error_answer(error)
    if failure.check(CancelledError) and request.channel is None:
        return None
    _log.failure("an HTTP request failed; the client gets no reason", failure, LogLevel.error, recurring=True)
    return error_answer(Refusal(500, "InternalError", "the request failed; the process's log has the reason"))


def send(answer: Answer | None, request: Any) -> None:
    """Send *answer*, unless the handler answers by itself (None) or the client has closed the connection."""
    if answer is None or request.channel is None:
        return
    request.setResponseCode(answer.status)
    set_headers(request, answer.content_type, answer.headers)
    request.setHeader(b"content-length", b"%d" % len(answer.body))
    request.write(b"" if request.method == b"HEAD" else answer.body)
    request.finish()


def set_headers(request: Any, content_type: str, headers: Mapping[str, str]) -> None:
    """Set the headers of an answer besides :data:`HEADERS`."""
    for name, value in {"content-type": content_type, **headers}.items():
        request.setHeader(name.encode(), value.encode())


class PageRequest(BoundedRequest):
    """A request of a :class:`PageSite`. Each answer has :data:`HEADERS`."""

    def set_headers(self) -> None:
        """Set the headers that each answer has, also that to a body which is too large."""
        super().set_headers()
        for name, value in HEADERS.items():
            self.setHeader(name.encode(), value.encode())


class PageSite(BoundedSite):
    """The site; see the module."""

    requestFactory = PageRequest

    def buildProtocol(self, addr: Any) -> Any:
        """Return the protocol of a connection; None closes it, because there are too many."""
        return super().buildProtocol(addr) if len(self.channels) < CONNECTIONS else None


def site(routes: Iterable[PageRoute], reactor: Any, body_max: int = BODY_MAX) -> PageSite:
    """Return a site with *routes*. *reactor* times out idle connections. *body_max* is in bytes."""
    return PageSite(_Root(routes), reactor, body_max=body_max, explain=_explain, timeout=IDLE)


def _explain(request: Any, failure: Failure) -> bytes:
    """Return the body of the answer to a request that no resource could take."""
    answer = refuse(failure, request)
    if answer is None:
        return b""
    request.setResponseCode(answer.status)
    set_headers(request, answer.content_type, answer.headers)
    return answer.body
