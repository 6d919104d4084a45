"""Klein as the root resource of a :class:`~txmicro.web.site.LimitedSite`, with a short path for the usual answer."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Final

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import BadRequest as InvalidHost
from werkzeug.exceptions import HTTPException, NotFound

CACHED_PATHS: Final = 100
"""How many paths are remembered with their routes. Clients request few paths, unless parts of them vary."""

log = Logger()


class KleinApp(Klein):
    """A Klein app for requests whose handler has been called already."""

    def execute_endpoint(self, endpoint: str, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outcome of *request* if it has one; otherwise call its handler."""
        if hasattr(request, "outcome"):
            return request.outcome
        return super().execute_endpoint(endpoint, request, *args, **kwargs)


class RootResource(KleinResource):
    """Klein's resource. It is stricter with paths, and answers without Klein where a handler returns bytes.

    A path is 404 if Klein would take it for another one (``//movies/``, ``/movies%2F``) or it is not valid UTF-8.

    Most handlers return bytes. Klein's own way of sending these takes longer than the rest of a request. All other
    outcomes, errors among them, are given to Klein.
    """

    def __init__(self, app: KleinApp) -> None:
        super().__init__(app)
        # No route depends on the host, so the path and the method are all that decides.
        self._match = lru_cache(CACHED_PATHS)(partial(app.url_map.bind("").match, return_rule=True))

    def render(self, request: Any) -> Any:
        """Call the handler of the path; return NOT_DONE_YET, or what Klein returns."""
        _check_host(request)
        path = _decode(b"/" + b"/".join(request.postpath))
        if path.startswith("//") or path.count("/") != request.path.count(b"/"):
            raise NotFound
        try:
            rule, arguments = self._match(path, request.method.decode())
        except (HTTPException, UnicodeDecodeError):
            return super().render(request)
        request.route = rule.rule
        answering = maybeDeferred(self._app.execute_endpoint, rule.endpoint, request, **arguments)
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addBoth(self._answer, request)
        return NOT_DONE_YET

    def _answer(self, outcome: Any, request: Any) -> None:
        if request.channel is None:  # the client has closed the connection
            if isinstance(outcome, Failure) and not outcome.check(CancelledError):
                text = "the handler of an HTTP request failed; its client has closed the connection"
                log.failure(text, outcome, LogLevel.error, recurring=True)
        elif isinstance(outcome, bytes):
            request.write(outcome)
            request.finish()
        else:
            request.outcome = outcome
            super().render(request)


def _check_host(request: Any) -> None:
    """Refuse a ``Host`` that Klein cannot decode. Klein would log each such request, and answer none."""
    try:
        request.getRequestHostname().decode()
    except UnicodeDecodeError:
        raise InvalidHost("the Host header is not valid UTF-8") from None


def _decode(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise NotFound from None
