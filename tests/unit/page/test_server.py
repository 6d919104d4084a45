"""The server of a process's pages."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txmicro.log import read
from txmicro.page.server import PageServer


class PageServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            self.lines.append(f"{read(event).level}: {read(event).message}")

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def server(self, interface: str = "127.0.0.1", port: int = 9091, **options: Any) -> PageServer:
        server = PageServer(self.reactor, [], interface=interface, port=port, **options)
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
