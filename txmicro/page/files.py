"""The static files of the page, ``/`` and ``/static/...``. They are read once, when the process starts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from twisted.web.server import Request

from .site import Answer, Handler, PageRoute, header

FOLDER: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"

CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""The content types by suffix. Other files are not served."""


def file_routes(folder: Path = FOLDER) -> Iterator[PageRoute]:
    """Return a route for each file in *folder* and below. ``index.html`` is at ``/``, too."""
    for path in sorted(folder.rglob("*")):
        content_type = CONTENT_TYPES.get(path.suffix)
        if content_type is None:
            continue
        handler = _handler(path.read_bytes(), content_type)
        name = path.relative_to(folder).as_posix()
        yield PageRoute("GET", f"/static/{name}", handler)
        if name == INDEX:
            yield PageRoute("GET", "/", handler)


def _handler(body: bytes, content_type: str) -> Handler:
    """Return a handler that answers with *body*, or with 304 when the client has it."""
    # A browser asks each time, because the files change with the version, and their names do not.
    headers = {"etag": f'"{sha256(body).hexdigest()[:32]}"', "cache-control": "no-cache"}
    return partial(_answer, Answer(200, content_type, body, headers))


def _answer(answer: Answer, request: Request) -> Answer:
    known = header(request, "if-none-match")
    return (
        Answer(304, answer.content_type, b"", answer.headers) if known == answer.headers["etag"] else answer
    )
