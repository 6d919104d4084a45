from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.host_port import host_port


class HostPortTests(SynchronousTestCase):
    def test_an_ipv6_address_has_brackets(self) -> None:
        for host, expected in (
            ("rabbit.example", "rabbit.example:5672"),
            ("127.0.0.1", "127.0.0.1:5672"),
            ("::1", "[::1]:5672"),
            ("", ":5672"),
        ):
            self.assertEqual(host_port(host, 5672), expected)
