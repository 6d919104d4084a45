"""A connection of an HTTP server that holds back, and says what it minds.

twisted.web's own goes on to handle requests that it has read already while the client takes no answers: the answers
of what a client sends at once are then all in memory. And what it cannot read it answers with a bare status, or not
at all, and closes so that the client does not see it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from twisted.web.http import HTTPChannel

LINGER: Final = 5.0
"""Seconds to go on reading from a client that is refused: if it is cut off it does not see the answer."""

_ANSWER: Final = (
    b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class PatientChannel(HTTPChannel):
    """Handles no request while the answer before it cannot leave."""

    transport: Any
    _networkProducer: Any
    _ended = False
    _answered: Any = None  # a request whose answer waits to leave

    def requestDone(self, request: Any) -> None:
        """The answer is complete. The next request waits until it has left, for as long as one may take to arrive."""
        if self._waitingForTransport:
            self.setTimeout(self._savedTimeOut)
            if self.persistent:
                self._answered = request
                return
        super().requestDone(request)

    def resumeProducing(self) -> None:
        """The answers have left, as far as the transport is concerned."""
        super().resumeProducing()
        request, self._answered = self._answered, None
        if request is not None:
            self.requestDone(request)

    def rawDataReceived(self, data: bytes) -> None:
        """Part of a body, or of what comes while a request is handled: of that no more than has come."""
        super().rawDataReceived(data)
        if self._handlingRequest and self._waitingForTransport:
            self._networkProducer.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """The request line, or a header."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.lineLengthExceeded(line)
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """One header."""
        if self._receivedHeaderCount < self.maxHeaders:
            return bool(super().headerReceived(line))
        text = f"expected at most {self.maxHeaders} headers"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", text)
        return False

    def lineLengthExceeded(self, line: bytes) -> None:
        """More than is read of a request line or of headers."""
        if self._receivedHeaderSize:
            text = f"expected at most {self.totalHeadersSize} bytes of request line and headers"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", text)
        else:
            text = f"expected at most {self.totalHeadersSize} bytes of request line"
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "RequestLineTooLong", text)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", "this is not a valid HTTP/1.1 request")

    def _refuse(self, status: HTTPStatus, error: str, message: str) -> None:
        """Answer what cannot be read, and close."""
        if not self._ended:
            body = json.dumps({"error": error, "message": message}).encode()
            self.transport.write(_ANSWER % (status, status.phrase.encode(), len(body), body))
            self.setRawMode()
            self.clearLineBuffer()
            self.end_after_answer()

    def end_after_answer(self) -> None:
        """Send what was written and then the end; read on without looking, so that the client gets to see it."""
        self._ended = True
        self.dataReceived = self.rawDataReceived = _ignore  # type: ignore[method-assign]
        self.transport.loseWriteConnection()
        self.setTimeout(LINGER)


def _ignore(data: bytes) -> None:
    """What comes from a client that is no longer listened to."""
