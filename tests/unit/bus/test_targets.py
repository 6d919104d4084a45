from __future__ import annotations

import sys
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txmicro.amqp.uri import TlsFiles
from txmicro.broker.service import EmbeddedBroker
from txmicro.bus.targets import target
from txmicro.daemons.own_broker import own_target
from txmicro.errors import ConfigError


class Client(Protocol):
    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


class TargetTests(SynchronousTestCase):
    def test_a_target_has_the_address_of_its_url(self) -> None:
        found = target(reactor, "amqp://me:secret@a.host:5999/a%2Fb?connection_timeout=2500")
        self.assertEqual((found.broker.host, found.broker.port), ("a.host", 5999))
        self.assertEqual((found.broker.username, found.broker.vhost), ("me", "a/b"))
        self.assertIsInstance(found.endpoint, HostnameEndpoint)
        self.assertEqual(repr(found.endpoint), "<HostnameEndpoint a.host:5999>")

    def test_an_invalid_url(self) -> None:
        (problem,) = self.assertRaises(ConfigError, target, reactor, "http://a.host").problems
        self.assertTrue(problem.startswith("broker_url: "), problem)

    def test_amqps_is_never_unencrypted(self) -> None:
        self.assertNotIsInstance(target(reactor, "amqps://a.host").endpoint, HostnameEndpoint)

    def test_files_that_cannot_be_used_are_a_problem_of_the_configuration(self) -> None:
        files = TlsFiles(ca="/missing.pem")
        (problem,) = self.assertRaises(ConfigError, target, reactor, "amqps://a.host", files).problems
        self.assertEqual(problem, "broker_url: cannot read /missing.pem: No such file or directory")

    def test_an_unverified_certificate_is_logged(self) -> None:
        with capturedLogs() as events:
            target(reactor, "amqps://ann:s3cret@a.host")
            target(reactor, "amqps://ann:s3cret@a.host?verify=verify_none")
        (said,) = map(formatEvent, events)
        self.assertTrue(
            said.startswith("amqps://ann:***@a.host:5671/%2F: the certificate is not verified"), said
        )

    def test_amqps_without_its_libraries_says_what_to_install(self) -> None:
        with patch.dict(sys.modules, {"txmicro.bus.tls": None}):
            (problem,) = self.assertRaises(ConfigError, target, reactor, "amqps://a.host").problems
        self.assertIn("txmicro[tls]", problem)


class OwnTargetTests(TestCase):
    async def test_the_port_is_the_one_that_the_broker_got(self) -> None:
        broker = EmbeddedBroker(reactor, port=0)
        for interface in ("", "127.0.0.1"):
            own = own_target(reactor, broker, interface)
            broker.startService()
            self.assertGreater(broker.port, 0)
            self.assertEqual(own.broker.port, broker.port)
            client = await own.endpoint.connect(Factory.forProtocol(Client))
            await broker.stopService()
            await client.gone
            self.assertEqual(own.broker.host, "127.0.0.1")
