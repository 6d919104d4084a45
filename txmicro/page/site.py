"""The site of a process's HTTP pages, on twisted.web: each page is a function that returns an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from txmicro.web.channel import BackpressureChannel

IDLE: Final = 10.0
"""Seconds after which an idle connection is closed."""

_NO_HEADERS: Final[Mapping[str, str]] = {}


class Answer(NamedTuple):
    """An answer to a request.

    :ivar headers: the headers besides those of the content.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS


Page = Callable[[Request], Answer]
"""Returns the answer to a request by GET or HEAD."""


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Return an answer with *content* as JSON."""
    return Answer(status, "application/json", json.dumps(content).encode(), headers)


def _error(status: int, error: str, message: str, **headers: str) -> Answer:
    return json_answer({"error": error, "message": message}, status, headers)


class _Root(Resource):
    """The resource for all paths."""

    isLeaf = True

    def __init__(self, pages: Mapping[str, Page]) -> None:
        super().__init__()
        self._pages = {path.encode(): page for path, page in pages.items()}
        paths = ", ".join(f"/{path}" for path in sorted(pages))
        self._not_found = _error(404, "NotFound", f"the path is not valid; expected {paths}")
        self._not_allowed = _error(
            405, "NotAllowed", "the method is not valid; expected GET or HEAD", allow="GET, HEAD"
        )

    def render(self, request: Request) -> bytes:
        """Return the body of the answer; set its status and headers."""
        answer = self._answer(request)
        request.setResponseCode(answer.status)
        request.setHeader(b"content-type", answer.content_type.encode())
        request.setHeader(b"content-length", b"%d" % len(answer.body))
        for name, value in answer.headers.items():
            request.setHeader(name.encode(), value.encode())
        return b"" if request.method == b"HEAD" else answer.body

    def _answer(self, request: Request) -> Answer:
        page = self._pages.get(b"/".join(request.postpath or []))
        if page is None:
            return self._not_found
        if request.method not in (b"GET", b"HEAD"):
            return self._not_allowed
        return page(request)


class _DiscardedBody(BytesIO):
    """A file for the bodies of requests that discards them, because no one reads them."""

    def write(self, data: Any) -> int:
        """Discard *data*."""
        return len(data)


class _Site(Site):
    noisy = False
    protocol = BackpressureChannel  # type: ignore[assignment]  # no HTTP/2

    def startFactory(self) -> None:
        """Do not open an access log: it would have a line for each scrape."""

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return the file for a request's body."""
        return _DiscardedBody()


def site(pages: Mapping[str, Page], reactor: Any) -> Site:
    """Return a site with *pages*, by their paths without the first slash. *reactor* times out idle connections."""
    return _Site(_Root(pages), timeout=IDLE, reactor=reactor)
