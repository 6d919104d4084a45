"""An HTTP connection with backpressure, and with an answer to each request that cannot be parsed.

The HTTPChannel of twisted.web handles the requests that it has read even if the client reads no answers. Then all
answers to pipelined requests are in memory. It answers a request that it cannot parse with a bare status or not at all.
It closes the connection in a way that hides the answer from the client.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from twisted.web.http import HTTPChannel

LINGER: Final = 5.0
"""Seconds to read on after an answer that refuses a request. If the connection is closed at once, the client's system
may discard the answer."""

_ANSWER: Final = (
    b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class BackpressureChannel(HTTPChannel):
    """An HTTP connection that handles a request only when the answer before it has been sent."""

    transport: Any
    _networkProducer: Any
    _ended = False
    _answered: Any = None  # the request whose answer has not been sent completely

    def requestDone(self, request: Any) -> None:
        """Handle the next request, or wait until the transport has sent this answer, for the timeout of a request."""
        if self._waitingForTransport:
            self.setTimeout(self._savedTimeOut)
            if self.persistent:
                self._answered = request
                return
        super().requestDone(request)

    def resumeProducing(self) -> None:
        """Handle the next request: the transport has sent what was written."""
        super().resumeProducing()
        request, self._answered = self._answered, None
        if request is not None:
            self.requestDone(request)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body, or of a later request; stop reading if that one has to wait."""
        super().rawDataReceived(data)
        if self._handlingRequest and self._waitingForTransport:
            self._networkProducer.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """Take the request line or a header, unless they are too large together."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.lineLengthExceeded(line)
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """Take a header, unless there are too many; return whether it is valid."""
        if self._receivedHeaderCount < self.maxHeaders:
            return bool(super().headerReceived(line))
        text = f"expected at most {self.maxHeaders} headers"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", text)
        return False

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request whose request line or headers are too large."""
        if self._receivedHeaderSize:
            text = f"expected at most {self.totalHeadersSize} bytes of request line and headers"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", text)
        else:
            text = f"expected at most {self.totalHeadersSize} bytes of request line"
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "RequestLineTooLong", text)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", "this is not a valid HTTP/1.1 request")

    def _refuse(self, status: HTTPStatus, error: str, message: str) -> None:
        """Answer a request that cannot be parsed, and close the connection."""
        if not self._ended:
            body = json.dumps({"error": error, "message": message}).encode()
            self.transport.write(_ANSWER % (status, status.phrase.encode(), len(body), body))
            self.setRawMode()
            self.clearLineBuffer()
            self.close_after_answer()

    def close_after_answer(self) -> None:
        """Send what was written, close the writing side, and discard what is received for :data:`LINGER` seconds."""
        self._ended = True
        self.dataReceived = self.rawDataReceived = _discard  # type: ignore[method-assign]
        self.transport.loseWriteConnection()
        self.setTimeout(LINGER)


def _discard(data: bytes) -> None:
    """Ignore what a refused client sends."""
