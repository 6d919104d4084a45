from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource

from txmicro.page.metrics import metrics_route
from txmicro.page.site import site
from txmicro.web.channel import LINGER
from txmicro.web.site import REQUEST_TIMEOUT, LimitedRequest, LimitedSite

REQUESTS = 50
LARGE = 2**20


class Observed:
    """A record of the bytes that a connection had not sent when each request was handled."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.pending: list[int] = []

    def watch(self, site: Any) -> Any:
        build = site.buildProtocol

        def remember(address: Any) -> Any:
            self.connection = build(address)
            return self.connection

        site.buildProtocol = remember
        return site

    def handling(self) -> None:
        transport = self.connection.transport
        self.pending.append(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


class Large(Resource):
    """A resource of a megabyte."""

    isLeaf = True

    def __init__(self, observed: Observed) -> None:
        super().__init__()
        self.observed = observed

    def render(self, request: Any) -> bytes:
        self.observed.handling()
        return request.json("x" * LARGE)  # type: ignore[no-any-return]


class LargeMetrics(Collector):
    """A collector with a megabyte of metrics."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self.observed.handling()
        yield GaugeMetricFamily("large", "x" * LARGE, value=1)


class Unreading(Protocol):
    """A client that sends all requests at once, and reads nothing until it is told to."""

    transport: Any

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.heard = 0
        self.answers = 0
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        request = b"GET %b HTTP/1.1\r\nHost: x\r\n" % self.path
        last = request + b"Connection: close\r\n\r\n"
        self.transport.write((request + b"\r\n") * (REQUESTS - 1) + last)

    def dataReceived(self, data: bytes) -> None:
        self.heard += len(data)
        self.answers += data.count(b"HTTP/1.1 200 OK")

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


def listen(site: Any) -> Any:
    network: Any = reactor
    return network.listenTCP(0, site, interface="127.0.0.1")


def ignore(*_request: Any) -> None:
    """Take what a request was."""


def limited(resource: Any, clock: Any) -> LimitedSite:
    def explain(request: LimitedRequest, failure: Failure) -> bytes:
        return request.error(500, "Odd", "odd")

    return LimitedSite(resource, clock, body_max=10, new_id=lambda: "fresh", observe=ignore, explain=explain)


class BackPressureTests(TestCase):
    async def check(self, site: Any, path: bytes, observed: Observed) -> None:
        """Check that a client which does not read costs the memory of one answer, and gets all answers later."""
        listening: Any = listen(observed.watch(site))
        self.addCleanup(listening.stopListening)
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", listening.getHost().port)
        client = await connectProtocol(endpoint, Unreading(path))
        for _ in range(1000):  # turns of the reactor, many more than it takes to read everything
            await deferLater(reactor, 0)
        handled = len(observed.pending)
        client.transport.resumeProducing()
        await client.ended
        self.assertLess(handled, REQUESTS)
        self.assertEqual(len(observed.pending), REQUESTS)
        self.assertLessEqual(max(observed.pending), observed.connection.transport.bufferSize)
        self.assertGreater(client.heard, REQUESTS * LARGE)

    async def test_no_request_is_handled_before_the_previous_answer_is_sent(self) -> None:
        observed = Observed()
        await self.check(limited(Large(observed), reactor), b"/", observed)

    async def test_the_metrics_page_is_not_rendered_before_the_previous_answer_is_sent(self) -> None:
        observed, registry = Observed(), CollectorRegistry()
        registry.register(LargeMetrics(observed))
        await self.check(site([metrics_route(registry)], reactor), b"/metrics", observed)


class Connection(StringTransport):
    """A transport that records how it was closed."""

    half_closed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def unregisterProducer(self) -> None:
        self.producer = None  # may be called without a producer, as on a socket

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Answering(Resource):
    """A resource that answers at once."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"here"


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        site = limited(Answering(), self.clock)
        site.doStart()
        self.addCleanup(site.doStop)
        self.transport = Connection()
        self.channel: Any = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def tearDown(self) -> None:
        self.channel.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refusal(self) -> tuple[int, Any]:
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"connection: close", head)
        self.assertIn(b"content-length: %d" % len(body), head)
        return int(head.split()[1]), json.loads(body)

    def test_headers_that_are_too_large_are_431_with_a_lingering_close(self) -> None:
        small = b"X: " + b"x" * 1000 + b"\r\n"
        for headers in (b"X: " + b"x" * 17_000, b"X: " + b"x" * 17_000 + b"\r\n\r\n", small * 20 + b"\r\n"):
            with self.subTest(headers[-5:]):
                self.setUp()
                self.channel.dataReceived(b"GET / HTTP/1.1\r\n" + headers)
                self.channel.dataReceived(b"more\r\n\r\nGET / HTTP/1.1\r\n\r\n")
                code, body = self.refusal()
                self.assertEqual((code, body["error"]), (431, "HeadersTooLarge"))
                self.assertIn("16384 bytes", body["message"])
                self.assertTrue(self.transport.half_closed)
                self.assertFalse(self.transport.disconnecting)
                self.clock.advance(LINGER)
                self.assertTrue(self.transport.disconnecting)
                self.channel.connectionLost(Failure(ConnectionError()))

    def test_a_request_line_that_is_too_long_is_414(self) -> None:
        self.channel.dataReceived(b"GET /" + b"x" * 17_000)
        self.assertEqual(self.refusal()[0], 414)

    def test_a_request_that_is_not_http_is_400_once(self) -> None:
        self.channel.dataReceived(b"\x16\x03\x01\x02\r\nanything\r\n\r\n" * 3)
        code, body = self.refusal()
        self.assertEqual((code, body["error"]), (400, "BadRequest"))

    def test_a_client_that_does_not_read_its_last_answer_is_cut_off(self) -> None:
        self.channel.pauseProducing()
        self.channel.dataReceived(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.aborted)
        self.clock.pump((REQUEST_TIMEOUT, self.channel.abortTimeout))
        self.assertTrue(self.transport.aborted)

    def test_a_client_that_reads_nothing_on_an_open_connection_is_cut_off(self) -> None:
        self.channel.pauseProducing()
        self.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.clock.pump((REQUEST_TIMEOUT, self.channel.abortTimeout))
        self.assertTrue(self.transport.aborted)

    def test_a_waiting_answer_is_sent_before_a_drain_ends(self) -> None:
        self.channel.pauseProducing()
        self.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 2)
        drained = self.channel.site.drain(30)
        self.assertNoResult(drained)
        self.assertFalse(self.transport.disconnecting)
        self.channel.resumeProducing()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value().count(b"here"), 1)
        self.channel.connectionLost(Failure(ConnectionError()))
        self.successResultOf(drained)

    def test_data_that_arrives_while_an_answer_waits_is_not_read(self) -> None:
        self.channel.pauseProducing()
        for _ in range(3):
            self.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.transport.value().count(b"here"), 1)
        self.assertEqual(self.transport.producerState, "paused")
        self.channel.resumeProducing()
        self.assertEqual(self.transport.value().count(b"here"), 3)
        self.assertEqual(self.transport.producerState, "producing")
