from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from txmicro.page.files import file_routes
from txmicro.page.site import Answer


class Request:
    """A request with one header."""

    def __init__(self, etag: str = "") -> None:
        self._etag = etag

    def getHeader(self, name: str) -> str | None:
        return self._etag if name == "if-none-match" else None


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "vendor").mkdir(parents=True)
        (self.folder / "index.html").write_text("<p>")
        (self.folder / "vendor" / "plot.js").write_text("draw()")
        (self.folder / "vendor" / "secret.py").write_text("no")

    def ask(self, path: str, etag: str = "") -> Answer:
        (handler,) = (route.handler for route in file_routes(self.folder) if route.path == path)
        request: Any = Request(etag)
        return cast(Answer, handler(request))

    def test_each_file_of_a_known_suffix_has_a_route(self) -> None:
        self.assertEqual(
            [(route.method, route.path) for route in file_routes(self.folder)],
            [("GET", "/static/index.html"), ("GET", "/"), ("GET", "/static/vendor/plot.js")],
        )

    def test_content_and_type(self) -> None:
        answer = self.ask("/static/vendor/plot.js")
        self.assertEqual((answer.status, answer.body), (200, b"draw()"))
        self.assertEqual(answer.content_type, "text/javascript; charset=utf-8")
        self.assertEqual(self.ask("/").content_type, "text/html; charset=utf-8")

    def test_a_client_that_has_the_file_gets_no_body(self) -> None:
        etag = self.ask("/").headers["etag"]
        self.assertEqual(self.ask("/", etag)[:3], (304, "text/html; charset=utf-8", b""))
        self.assertEqual(self.ask("/", '"other"').status, 200)

    def test_the_page_has_its_files(self) -> None:
        self.assertIn("/", [route.path for route in file_routes()])
