"""A worker that answers HTTP requests by sending jobs; Klein finds the function for a path.

Every answer has ``Server-Timing: total;dur=<ms>``, the time from the whole request to the answer, and
``X-Job-Id``: the id of the job that was sent or, where none was, a fresh id by which the answer can be named.
An answer that is an error is ``{"error": type, "message": text}``: 400 for what the client has to change, 413
for a body that is too large, what werkzeug's exceptions say for themselves, 500 for all else.
"""

from __future__ import annotations

import re
from typing import Any, Final

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect

from txmicro.errors import BadRequest, ConfigError, EncodeError, JobCancelled, JobError, MessageTooLarge
from txmicro.worker import Worker

from .site import LimitedRequest, LimitedSite

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}(-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})")
_THEIRS: Final = {EncodeError: 400, MessageTooLarge: 413}  # when it happens here, to what the client sent


class RestWorker(Worker):
    """Listens on ``rest_interface``:``rest_port``. Subclass it, and say in :meth:`routes` who answers what.

    :ivar port: the port that it listens on, once it has started; for ``rest_port`` 0 a free one.
    """

    type = "WA"
    port: int = 0
    _listening: Any = None
    _site: LimitedSite

    def routes(self, app: Klein) -> None:
        """Add the paths: ``app.route("/movies/")(self.movies)``.

        A handler gets a :class:`~txmicro.workers.site.LimitedRequest`. It gives back
        ``request.json(value, code)``, or raises.
        """
        raise NotImplementedError

    def opened(self) -> None:
        """Listen. A port that is taken is a :class:`~txmicro.errors.ConfigError`."""
        app = Klein()
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

    def stopService(self) -> Deferred[None]:
        """Stop HTTP first, as what runs there needs the bus: no new requests, answers to those that run."""
        return Deferred.fromCoroutine(self._stop_in_order())

    async def _stop_in_order(self) -> None:
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await maybeDeferred(listening.stopListening)
            await self._site.drain(self.config.grace)
        await super().stopService()

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

    def treat_error(self, error: JobError) -> None:
        """A job failed and nobody awaits it: no news if that is because its client went away."""
        if not isinstance(error, JobCancelled):
            super().treat_error(error)

    def _failed(self, request: LimitedRequest, failure: Failure) -> bytes:
        """The answer to a request whose handler, or the way to it, failed."""
        error: Any = failure.value
        code = status(error)
        if code >= 500:
            self.metrics.record_error(type(error).__name__)
        if isinstance(error, HTTPException):
            return request.error(code, type(error).__name__, str(error.description))
        if isinstance(error, JobError):
            return request.error(code, error.type, error.message)
        self.log.failure("{worker}: no answer to a request", failure, worker=self.id)
        return request.error(code, type(error).__name__, str(error))


def status(error: BaseException) -> int:
    """The HTTP status that says *error*."""
    if isinstance(error, HTTPException):
        # An API has one path for one thing, so a path that differs by a slash is another one.
        return 404 if isinstance(error, RequestRedirect) else error.code or 500
    if isinstance(error, BadRequest):
        return 400
    if isinstance(error, JobError) and error.worker is None:
        return _THEIRS.get(type(error), 500)
    return 500


class _Root(KleinResource):
    """Klein's resource, but a path that is no text is one that is not there."""

    def render(self, request: IRequest) -> Any:
        try:
            b"/".join(request.postpath).decode()
        except UnicodeDecodeError:
            raise NotFound from None
        return super().render(request)


def _traceparent(request: LimitedRequest) -> str | None:
    """The W3C trace context of *request*; None if there is none, or one of another shape (to be ignored)."""
    header = request.getHeader(b"traceparent")
    return header.decode() if header is not None and _TRACEPARENT.fullmatch(header) else None


def _url(address: Any) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{address.port}/"
