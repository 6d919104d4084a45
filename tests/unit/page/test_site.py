"""The site of a process: its limits and errors, with the metrics page as an example."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.pages import Client, Reply
from txmicro.page.metrics import metrics_route
from txmicro.page.site import CONNECTIONS, HEADERS, IDLE, Answer, PageRoute, Refusal, json_answer


class SiteTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def serve(self, *routes: PageRoute) -> Client:
        client = Client(routes, self.clock)
        self.addCleanup(self.assertEqual, self.clock.getDelayedCalls(), [])
        self.addCleanup(client.close)
        return client


class SiteTests(SiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = CollectorRegistry()
        Counter("films", "Films", registry=self.registry).inc(3)
        self.client = self.serve(metrics_route(self.registry))

    def ask(self, target: str = "/metrics", method: str = "GET", **headers: str) -> Reply:
        return self.client.ask(target, method, None, **headers)

    def test_the_page(self) -> None:
        status, headers, body = self.ask()
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn("films_total 3.0\n", body)
        self.assertEqual(int(headers["content-length"]), len(body))

    def test_the_format_that_the_client_accepts(self) -> None:
        _, headers, body = self.ask(Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        self.assertTrue(headers["content-type"].startswith("application/openmetrics-text"))
        self.assertTrue(body.endswith("# EOF\n"))

    def test_head(self) -> None:
        status, headers, body = self.ask(method="HEAD")
        self.assertEqual((status, body), (200, ""))
        self.assertGreater(int(headers["content-length"]), 0)

    def test_a_query_changes_nothing(self) -> None:
        self.assertEqual(self.ask("/metrics?a=b")[0], 200)

    def test_other_paths(self) -> None:
        for target in ("/", "/metricsx", "/metrics/", "/metrics/x", "/a/b", "/%ff"):
            status, headers, body = self.ask(target)
            self.assertEqual((status, headers["content-type"]), (404, "application/json"), target)
            self.assertIn('"error":"NotFound"', body)

    def test_other_paths_by_head(self) -> None:
        self.assertEqual(self.ask("/x", "HEAD")[::2], (404, ""))

    def test_other_methods(self) -> None:
        for method in ("DELETE", "OPTIONS", "BREW"):
            status, headers, body = self.ask(method=method)
            self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
            self.assertIn('"error":"NotAllowed"', body)

    def test_a_body_that_is_too_large_is_refused_before_it_arrives(self) -> None:
        self.client.channel.dataReceived(
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
        )
        self.assertEqual(self.client.reply()[0], 413)
        for _ in range(20):
            self.client.channel.dataReceived(b"x" * 1_000_000)
            for request in self.client.channel.requests:
                self.assertEqual(request.content.tell(), 0)
        self.assertEqual(self.client.transport.value(), b"")

    def test_requests_follow_each_other_on_one_connection(self) -> None:
        self.assertEqual([self.ask()[0], self.ask("/x")[0], self.ask()[0]], [200, 404, 200])

    def test_bytes_that_are_not_a_request(self) -> None:
        self.client.channel.dataReceived(b"\x16\x03\x01 garbage\r\n\r\n")
        self.assertEqual(self.client.reply()[0], 400)
        self.assertTrue(self.client.transport.disconnecting)

    def test_very_long_headers(self) -> None:
        self.client.channel.dataReceived(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)
        self.assertEqual(self.client.reply()[0], 431)
        self.assertTrue(self.client.transport.disconnecting)

    def test_an_idle_connection_is_closed(self) -> None:
        self.clock.advance(IDLE + 1)
        self.assertTrue(self.client.transport.disconnecting)

    def test_connections_above_the_limit_are_closed(self) -> None:
        others = [self.client.channel]
        while len(self.client.site.channels) < CONNECTIONS:
            self.client.connect()
            others.append(self.client.channel)
        self.assertIsNone(self.client.site.buildProtocol(None))
        for channel in others[:-1]:
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.ask("/metrics").status, 200)


class RouteTests(SiteTestCase):
    """Routes with parameters, and with other answers than the one that is ready."""

    def test_the_parameters_of_a_path(self) -> None:
        def answer(_request: Any, kind: str, id: str) -> Answer:
            return json_answer([kind, id])

        client = self.serve(PageRoute("GET", "/a/{kind}/b/{id}", answer))
        self.assertEqual(client.ask("/a/WB/b/x%2Fy%20z").json, ["WB", "x/y z"])
        for path in (
            "/a/WB/b",
            "/a/WB/b/",
            "/a//b/x",
            "/a/WB/c/x",
            "/a/WB/b/x/",
            "/a/WB/b/%ff",
            "//a/WB/b/x",
        ):
            self.assertEqual(client.ask(path).status, 404, path)

    def test_a_fixed_path_comes_before_one_with_parameters(self) -> None:
        client = self.serve(
            PageRoute("GET", "/a/{x}", lambda _request, x: json_answer(x)),
            PageRoute("GET", "/a/b", lambda _request: json_answer("fixed")),
        )
        self.assertEqual([client.ask("/a/c").json, client.ask("/a/b").json], ["c", "fixed"])

    def test_methods_of_one_path(self) -> None:
        client = self.serve(
            PageRoute("GET", "/a", lambda _request: json_answer("got")),
            PageRoute("POST", "/a", lambda request: json_answer(request.content.read().decode())),
        )
        self.assertEqual(client.ask("/a").json, "got")
        self.assertEqual(client.ask("/a", "POST", b"posted").json, "posted")
        self.assertEqual(client.ask("/a", "PUT").headers["allow"], "GET, HEAD, POST")

    def test_an_answer_that_comes_later(self) -> None:
        waiting: Deferred[Answer] = Deferred()
        client = self.serve(PageRoute("GET", "/a", lambda _request: waiting))
        client.send("/a")
        self.assertEqual(client.transport.value(), b"")
        waiting.callback(json_answer("late"))
        self.assertEqual(client.reply().json, "late")

    def test_a_client_that_leaves_cancels_the_wait(self) -> None:
        waiting: Deferred[Answer] = Deferred()
        client = self.serve(PageRoute("GET", "/a", lambda _request: waiting))
        client.send("/a")
        client.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(waiting.called)
        client.connect()

    def test_a_refusal_is_the_answer(self) -> None:
        def refuse(_request: Any) -> Answer:
            raise Refusal(503, "Unavailable", "later", content={"done": 3}, retry_after="5")

        reply = self.serve(PageRoute("GET", "/a", refuse)).ask("/a")
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "5"))
        self.assertEqual(reply.json, {"error": "Unavailable", "message": "later", "done": 3})

    def test_an_error_is_logged_and_not_shown(self) -> None:
        def fail(_request: Any) -> Answer:
            raise ZeroDivisionError("division")

        reply = self.serve(PageRoute("GET", "/a", fail)).ask("/a")
        self.assertEqual((reply.status, reply.json["error"]), (500, "InternalError"))
        self.assertNotIn("division", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_every_answer_has_the_security_headers(self) -> None:
        client = self.serve(PageRoute("GET", "/a", lambda _request: json_answer("")))
        replies = [client.ask("/a"), client.ask("/b"), client.ask("/a", "POST")]
        replies.append(client.ask("/a", "POST", b"x" * 100_000))
        self.assertEqual([reply.status for reply in replies], [200, 404, 405, 413])
        for reply in replies:
            self.assertEqual({name: reply.headers.get(name) for name in HEADERS}, dict(HEADERS), reply.status)
        policy = HEADERS["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
