"""An HTTP site with limits: on the size of bodies, on the time that a request takes to arrive, and an orderly end.

twisted.web as it is keeps any body, in memory or in a temporary file, before anyone may look at it; takes a
request for ever as long as a byte comes now and then; and goes on serving open connections after its port is
closed.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.server import Request, Site

from txmicro.errors import EncodeError
from txmicro.protocol.codec import JSON
from txmicro.web.channel import LINGER, PatientChannel

ARRIVAL: Final = 60.0
"""Seconds in which a whole request has to arrive, and the next one to begin."""


class LimitedRequest(Request):
    """A request of a :class:`LimitedSite`. Every answer tells its time and a job's id, and errors are JSON.

    :ivar job_id: the id in the answer: that of the job that was sent, or a fresh one if there was none.
    :ivar outcome: what its handler gave back, or its failure, where that is left to Klein.
    """

    channel: Any
    content: Any
    job_id: str | None = None
    refused: bool = False
    outcome: Any
    _arrived: float | None = None

    def gotLength(self, length: int | None) -> None:
        """The headers are there."""
        super().gotLength(length)
        if length is not None and length > self.channel.site.body_max:
            self.requestHeaders.removeHeader(b"expect")  # no "100 Continue": it shall not
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body is there."""
        if self.refused:
            return
        if self.content.tell() + len(data) > self.channel.site.body_max:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it is there."""
        if self.refused:
            self.channel.setTimeout(LINGER)
            return
        self._arrived = self.channel.site.reactor.seconds()
        super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        """Answer before the body is there, and close: nothing of the body is read as a next request."""
        self.refused = True
        self.clientproto = b"HTTP/1.1"
        self.channel.persistent = False
        limit = self.channel.site.body_max
        self.write(self.error(413, "MessageTooLarge", f"the body has more than http_body_max, {limit} bytes"))
        self.channel.end_after_answer()

    def json(self, value: Any, code: int = 200) -> bytes:
        """Set the headers of an answer; gives back its body, *value* in JSON. Raises TypeError if it cannot be that."""
        try:
            body = JSON.encode({"": value})[4:-1]  # the codec wants an object at the top: {"":…}
        except EncodeError as error:  # which would be the client's doing
            raise TypeError(f"the answer cannot be JSON: {error.message}") from error
        self.setResponseCode(code)
        self.setHeader(b"content-type", b"application/json")
        self.setHeader(b"content-length", b"%d" % len(body))
        return body

    def error(self, code: int, type: str, message: str) -> bytes:
        """:meth:`json` for an error."""
        return self.json({"error": type, "message": message}, code)

    def write(self, data: bytes) -> None:
        """Send a part of the answer, the first time with its headers."""
        if not self.startedWriting and self.channel is not None:
            self._stamp()
        super().write(data)

    def _stamp(self) -> None:
        site = self.channel.site
        took = 0.0 if self._arrived is None else site.reactor.seconds() - self._arrived
        self.setHeader(b"server-timing", b"total;dur=%.1f" % (took * 1000))
        self.setHeader(b"x-job-id", (self.job_id or site.new_id()).encode())
        if not self.channel.persistent:
            self.setHeader(b"connection", b"close")

    def processingFailed(self, reason: Failure) -> Failure:
        """Nobody has answered: a mistake of ours, or a request that is none."""
        if self.channel is not None:
            self.write(self.channel.site.explain(self, reason))
            self.finish()
        return reason


class LimitedChannel(PatientChannel):
    """A connection of a :class:`LimitedSite`."""

    site: LimitedSite
    transport: Any
    _receiving = False
    _leaving = False

    def connectionMade(self) -> None:
        """Begin."""
        self.site.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End."""
        super().connectionLost(reason)
        self.site.lost(self)

    def dataReceived(self, data: bytes) -> None:
        """Part of a request. The timer runs from the first part, whatever comes then: not as in HTTPChannel."""
        if not self._receiving:
            self._receiving = True
            self.resetTimeout()
        LineReceiver.dataReceived(self, data)

    def requestDone(self, request: Any) -> None:
        """The answer is complete."""
        self._receiving = False
        super().requestDone(request)

    def leave(self) -> None:
        """Close when the request that is here, or on its way, is answered."""
        self._leaving = True
        self.persistent = False
        if not self.requests:
            self.loseConnection()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether the connection stays open after the answer; asked when the headers are there."""
        return bool(super().checkPersistence(request, version)) and not self._leaving


class LimitedSite(Site):
    """Serves *resource*.

    :param body_max: the largest body, in bytes.
    :param new_id: makes the ids of answers for which no job was sent.
    :param explain: sets the headers of the answer to a request that failed, and gives its body.
    """

    protocol = LimitedChannel  # type: ignore[assignment]  # no HTTP/2
    requestFactory = LimitedRequest
    noisy = False
    reactor: Any

    def __init__(
        self,
        resource: Any,
        reactor: Any,
        *,
        body_max: int,
        new_id: Callable[[], str],
        explain: Callable[[LimitedRequest, Failure], bytes],
    ) -> None:
        super().__init__(resource, reactor=reactor, timeout=ARRIVAL, parsePOSTFormSubmission=False)
        self.body_max = body_max
        self.new_id = new_id
        self.explain = explain
        self.channels: set[LimitedChannel] = set()
        self._empty: Deferred[Any] | None = None

    def startFactory(self) -> None:
        """No access log: it would be a line per request."""

    def getContentFile(self, length: int | None) -> BytesIO:
        """Where a body is kept: in memory, as it is small."""
        return BytesIO()

    @property
    def unanswered(self) -> int:
        """How many connections have a request that is not answered."""
        return sum(bool(channel.requests) for channel in self.channels)

    def lost(self, channel: LimitedChannel) -> None:
        """*channel* is closed."""
        self.channels.discard(channel)
        if self._empty is not None and not self.channels:
            self._empty.callback(None)
            self._empty = None

    def drain(self, grace: float) -> Deferred[None]:
        """Close every connection when its request is answered, but all of them after *grace* seconds.

        Fires when none is left.
        """
        for channel in list(self.channels):
            channel.leave()
        if not self.channels:
            return succeed(None)
        late = self.reactor.callLater(grace, self._abort)
        self._empty = Deferred()
        return self._empty.addCallback(lambda _: late.cancel() if late.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()
