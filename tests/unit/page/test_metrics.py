"""The metrics page: its responses and its server."""

from __future__ import annotations

import json
import socket
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txmicro.log import read
from txmicro.page.metrics import MetricsServer, metrics_site
from txmicro.page.site import IDLE


class MetricsSiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        Counter("films", "Films", registry=self.registry).inc(3)
        self.site = metrics_site(self.registry, self.clock)
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

    def test_a_body_is_not_kept(self) -> None:
        self.channel.dataReceived(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(20):
            self.channel.dataReceived(b"x" * 1_000_000)
            for request in self.channel.requests:
                self.assertEqual(request.content.tell(), 0)
        self.assertEqual(self.answer()[0], 405)

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


class MetricsServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            self.lines.append(f"{read(event).level}: {read(event).message}")

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def server(self, interface: str = "127.0.0.1", port: int = 9091, **options: Any) -> MetricsServer:
        server = MetricsServer(self.reactor, CollectorRegistry(), interface=interface, port=port, **options)
        self.assertEqual(server.address, "")
        return server

    def test_it_listens_on_the_given_interface_and_port(self) -> None:
        server = self.server()
        server.startService()
        ((port, _, _, interface),) = self.reactor.tcpServers
        self.assertEqual((port, interface), (9091, "127.0.0.1"))
        self.assertEqual(self.lines, [f"info: the metrics page is http://{server.address}/metrics"])

    def test_a_port_in_use_is_logged_with_its_key(self) -> None:
        def taken(port: int, factory: object, interface: str) -> None:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))

        self.reactor.listenTCP = taken
        server = self.server(setting="worker_metrics_port")
        server.startService()
        self.assertTrue(server.running)
        self.assertEqual(server.address, "")
        (line,) = self.lines
        self.assertTrue(line.startswith("error: no metrics page: cannot listen on 127.0.0.1:9091"), line)
        self.assertIn("Address already in use", line)
        self.assertIn("set another port as worker_metrics_port, or 0", line)
        self.assertIs(server.stopService(), None)

    def test_the_address_can_be_used_by_others(self) -> None:
        for interface, host in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("", socket.gethostname())):
            server = self.server(interface)
            server.startService()
            self.assertTrue(server.address.startswith(f"{host}:"), server.address)

    def test_the_host_that_is_announced_can_be_set(self) -> None:
        for host, start in (("node.example", "node.example:"), ("2001:db8::1", "[2001:db8::1]:")):
            server = self.server("", host=host)
            server.startService()
            self.assertTrue(server.address.startswith(start), server.address)
            self.assertEqual(self.reactor.tcpServers[-1][3], "")

    def test_it_has_no_address_after_the_stop(self) -> None:
        server = self.server()
        server.startService()
        server.stopService()
        self.assertEqual((server.address, server.running), ("", False))
