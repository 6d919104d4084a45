from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.pages import Client, Reply
from txmicro.page.files import file_routes


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "vendor").mkdir(parents=True)
        (self.folder / "index.html").write_text("<p>")
        (self.folder / "vendor" / "plot.js").write_text("draw()")
        (self.folder / "vendor" / "secret.py").write_text("no")

    def ask(self, path: str, **headers: str) -> Reply:
        client = Client(file_routes(self.folder), Clock())
        self.addCleanup(client.close)
        return client.ask(path, "GET", None, **headers)

    def test_each_file_of_a_known_suffix_has_a_route(self) -> None:
        self.assertEqual(
            [(route.method, route.path) for route in file_routes(self.folder)],
            [("GET", "/static/index.html"), ("GET", "/"), ("GET", "/static/vendor/plot.js")],
        )

    def test_content_and_type(self) -> None:
        answer = self.ask("/static/vendor/plot.js")
        self.assertEqual((answer.status, answer.body), (200, "draw()"))
        self.assertEqual(answer.headers["content-type"], "text/javascript; charset=utf-8")
        self.assertEqual(self.ask("/").headers["content-type"], "text/html; charset=utf-8")

    def test_a_client_that_has_the_file_gets_no_body(self) -> None:
        etag = self.ask("/").headers["etag"]
        answer = self.ask("/", If_None_Match=etag)
        self.assertEqual((answer.status, answer.body), (304, ""))
        self.assertEqual(self.ask("/", If_None_Match='"other"').status, 200)

    def test_the_page_has_its_files(self) -> None:
        self.assertIn("/", [route.path for route in file_routes()])
