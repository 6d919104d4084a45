"""The site of a process: its limits and errors, with the metrics page as an example."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txmicro.page.metrics import metrics_route
from txmicro.page.site import IDLE, site


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        Counter("films", "Films", registry=self.registry).inc(3)
        self.site = site([metrics_route(self.registry)], self.clock)
        self.site.doStart()
        self.channel: Any = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        self.transport.loseWriteConnection = self.transport.loseConnection  # type: ignore[attr-defined]
        self.channel.makeConnection(self.transport)

    def tearDown(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.site.doStop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def ask(
        self, target: str = "/metrics", method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: x",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.channel.dataReceived("\r\n".join([*lines, "", ""]).encode())
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], str]:
        head, _, body = self.transport.value().decode().partition("\r\n\r\n")
        self.transport.clear()
        status, *fields = head.split("\r\n")
        return int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields), body

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
            self.assertEqual(json.loads(body)["error"], "NotFound")

    def test_other_paths_by_head(self) -> None:
        self.assertEqual(self.ask("/x", "HEAD")[::2], (404, ""))

    def test_other_methods(self) -> None:
        for method in ("DELETE", "OPTIONS", "BREW"):
            status, headers, body = self.ask(method=method)
            self.assertEqual((status, headers["allow"]), (405, "get, head"))
            self.assertEqual(json.loads(body)["error"], "NotAllowed")

    def test_a_body_that_is_too_large_is_refused_before_it_arrives(self) -> None:
        self.channel.dataReceived(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        self.assertEqual(self.answer()[0], 413)
        for _ in range(20):
            self.channel.dataReceived(b"x" * 1_000_000)
            for request in self.channel.requests:
                self.assertEqual(request.content.tell(), 0)
        self.assertEqual(self.transport.value(), b"")

    def test_requests_follow_each_other_on_one_connection(self) -> None:
        self.assertEqual([self.ask()[0], self.ask("/x")[0], self.ask()[0]], [200, 404, 200])

    def test_bytes_that_are_not_a_request(self) -> None:
        self.channel.dataReceived(b"\x16\x03\x01 garbage\r\n\r\n")
        self.assertEqual(self.answer()[0], 400)
        self.assertTrue(self.transport.disconnecting)

    def test_very_long_headers(self) -> None:
        self.channel.dataReceived(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)
        self.assertEqual(self.answer()[0], 431)
        self.assertTrue(self.transport.disconnecting)

    def test_an_idle_connection_is_closed(self) -> None:
        self.clock.advance(IDLE + 1)
        self.assertTrue(self.transport.disconnecting)
