from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txmicro.web.channel import LINGER
from txmicro.web.site import REQUEST_TIMEOUT, BoundedChannel, LimitedRequest, LimitedSite

LIMIT = 10


class Transport(StringTransport):
    """A transport that records how it was closed, and tells its protocol."""

    half_closed = False
    aborted = False
    protocol: BoundedChannel

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def loseConnection(self) -> None:
        if self.connected:
            super().loseConnection()
            self.connected = False
            self.protocol.connectionLost(Failure(ConnectionError()))

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Echo(Resource):
    """A resource that answers with the request; for ``/later`` when told to. ``/broken`` fails."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[LimitedRequest] = []

    def render(self, request: Any) -> Any:
        if request.path == b"/later":
            self.waiting.append(request)
            return NOT_DONE_YET
        if request.path == b"/broken":
            raise LookupError("no such thing")
        return request.json({"body": request.content.read().decode(), "method": request.method.decode()})

    def answer(self) -> None:
        request = self.waiting.pop()
        request.write(request.json("now", 201))
        request.finish()


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resource = Echo()
        self.observed: list[tuple[str, str, str, float]] = []
        self.site = LimitedSite(
            self.resource,
            self.clock,
            body_max=LIMIT,
            new_id=lambda: "fresh",
            observe=lambda *args: self.observed.append(args),
            explain=self.explain,
        )
        self.site.doStart()
        self.addCleanup(self.assert_nothing_left)
        self.transport, self.channel = self.connect()

    def assert_nothing_left(self) -> None:
        self.site.doStop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.site.channels, set())

    def explain(self, request: LimitedRequest, failure: Failure) -> bytes:
        return request.error(500, type(failure.value).__name__, str(failure.value))

    def connect(self) -> tuple[Transport, BoundedChannel]:
        transport = Transport()
        channel: Any = self.site.buildProtocol(None)
        transport.protocol = channel
        channel.makeConnection(transport)
        self.addCleanup(transport.loseConnection)
        return transport, channel

    def ask(self, *lines: str, body: bytes = b"") -> None:
        self.channel.dataReceived("\r\n".join((*lines, "", "")).encode() + body)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON of the only answer that was sent."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        status, *headers = head.decode().split("\r\n")
        pairs = (header.split(": ", 1) for header in headers)
        return int(status.split()[1]), {name.lower(): value for name, value in pairs}, json.loads(body)

    def test_an_answer_has_its_time_its_id_and_its_length(self) -> None:
        self.ask("GET /later HTTP/1.1")
        self.clock.advance(0.0123)
        self.resource.waiting[0].job_id = "a-job"
        self.resource.answer()
        status, headers, value = self.answer()
        self.assertEqual((status, value), (201, "now"))
        self.assertEqual(headers["server-timing"], "total;dur=12.3")
        self.assertEqual(headers["x-job-id"], "a-job")
        self.assertEqual(headers["content-length"], "5")
        self.assertEqual(headers["content-type"], "application/json")
        self.assertNotIn("connection", headers)

    def test_each_request_is_observed_once(self) -> None:
        self.ask("GET /later HTTP/1.1")
        self.resource.waiting[0].route = "/<when>"
        self.clock.advance(0.5)
        self.resource.answer()
        self.ask("POST /broken HTTP/1.1")
        self.ask("BREW / HTTP/1.1")
        self.ask(f"POST / HTTP/1.1\r\nContent-Length: {LIMIT + 1}")
        self.transport.loseConnection()
        self.assertEqual(
            self.observed,
            [
                ("GET", "/<when>", "201", 0.5),
                ("POST", "unknown", "500", 0.0),
                ("other", "unknown", "200", 0.0),
                ("POST", "unknown", "413", 0.0),
            ],
        )

    def test_a_request_whose_client_goes_away_is_observed_as_closed(self) -> None:
        self.ask("GET /later HTTP/1.1")
        self.clock.advance(0.5)
        self.transport.loseConnection()
        self.assertEqual(self.observed, [("GET", "unknown", "closed", 0.5)])

    def test_an_answer_without_a_job_has_a_fresh_id(self) -> None:
        self.ask("GET / HTTP/1.1")
        self.assertEqual(self.answer()[1]["x-job-id"], "fresh")

    def test_the_answer_to_head_has_no_body(self) -> None:
        self.ask("HEAD / HTTP/1.1")
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\n"))

    def test_a_failed_handler_is_answered(self) -> None:
        self.ask("GET /broken HTTP/1.1")
        status, headers, value = self.answer()
        self.assertEqual((status, value), (500, {"error": "LookupError", "message": "no such thing"}))
        self.assertIn("server-timing", headers)

    def test_a_failed_handler_is_not_answered_on_a_closed_connection(self) -> None:
        self.ask("GET /later HTTP/1.1")
        self.transport.loseConnection()
        (request,) = self.resource.waiting
        request.write(b"late")
        request.processingFailed(Failure(LookupError()))
        self.assertEqual(self.transport.value(), b"")

    def test_a_body_may_be_as_large_as_the_limit(self) -> None:
        self.ask("POST / HTTP/1.1", f"Content-Length: {LIMIT}", body=b"x" * LIMIT)
        self.assertEqual(self.answer()[2]["body"], "x" * LIMIT)
        self.ask(
            "POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"5\r\nxxxxx\r\n5\r\nyyyyy\r\n0\r\n\r\n"
        )
        self.assertEqual(self.answer()[2]["body"], "xxxxxyyyyy")

    def test_a_body_that_is_announced_as_too_large_is_refused_unread(self) -> None:
        self.ask("POST / HTTP/1.1", f"Content-Length: {LIMIT + 1}")
        status, headers, value = self.answer()
        self.assertEqual(status, 413)
        self.assertEqual(value["error"], "MessageTooLarge")
        self.assertIn("http_body_max", value["message"])
        self.assertEqual(headers["connection"], "close")
        self.assertEqual(headers["x-job-id"], "fresh")
        self.assertEqual(headers["server-timing"], "total;dur=0.0")

    def test_a_chunked_body_that_exceeds_the_limit_is_refused(self) -> None:
        self.ask("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"5\r\nxxxxx\r\n6\r\nyyyyyy\r\n")
        self.assertEqual(self.answer()[0], 413)

    def test_data_after_a_refused_request_is_ignored(self) -> None:
        body = b"6\r\nxxxxxx\r\n6\r\nyyyyyy\r\n6\r\nzzzzzz\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        self.ask("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=body)
        self.ask("GET / HTTP/1.1")
        self.assertEqual(self.answer()[0], 413)

    def test_a_whole_body_that_is_too_large_is_answered_once(self) -> None:
        self.ask("POST / HTTP/1.1", f"Content-Length: {LIMIT + 1}", body=b"x" * (LIMIT + 1))
        self.assertEqual(self.answer()[0], 413)
        self.clock.advance(LINGER)
        self.assertFalse(self.transport.connected)

    def test_a_refused_client_gets_the_answer_before_the_connection_closes(self) -> None:
        self.ask("POST / HTTP/1.1", "Content-Length: 11")
        self.assertTrue(self.transport.half_closed)
        for _ in range(4):
            self.clock.advance(LINGER / 5)
            self.channel.dataReceived(b"x")
        self.assertTrue(self.transport.connected)
        self.clock.advance(LINGER / 5)
        self.assertFalse(self.transport.connected)

    def test_a_body_that_is_too_large_gets_no_100_continue(self) -> None:
        self.ask("POST / HTTP/1.1", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
        self.assertNotIn(b"100 Continue", self.transport.value())
        self.assertEqual(self.answer()[0], 413)

    def test_a_body_within_the_limit_gets_100_continue(self) -> None:
        self.ask("POST / HTTP/1.1", f"Content-Length: {LIMIT}", "Expect: 100-continue")
        self.assertIn(b"100 Continue", self.transport.value())

    def test_the_handler_reads_a_form(self) -> None:
        form = "Content-Type: application/x-www-form-urlencoded"
        self.ask("POST / HTTP/1.1", form, "Content-Length: 3", body=b"a=b")
        self.assertEqual(self.answer()[2]["body"], "a=b")

    def test_a_request_that_arrives_too_slowly_is_cut_off(self) -> None:
        for _ in range(int(REQUEST_TIMEOUT) - 1):
            self.channel.dataReceived(b"G")
            self.clock.advance(1)
        self.assertTrue(self.transport.connected)
        self.clock.advance(1)
        self.assertFalse(self.transport.connected)

    def test_each_request_has_its_own_timeout(self) -> None:
        for _ in range(3):
            self.clock.advance(REQUEST_TIMEOUT - 1)
            self.channel.dataReceived(b"GET / ")
            self.clock.advance(REQUEST_TIMEOUT - 1)
            self.ask("HTTP/1.1")
            self.assertEqual(self.answer()[0], 200)
        self.clock.advance(REQUEST_TIMEOUT)
        self.assertFalse(self.transport.connected)

    def test_an_answer_has_no_timeout(self) -> None:
        self.ask("GET /later HTTP/1.1")
        self.clock.advance(REQUEST_TIMEOUT * 10)
        self.resource.answer()
        self.assertEqual(self.answer()[0], 201)

    def test_there_is_no_access_log(self) -> None:
        self.transport.loseConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_draining_closes_idle_connections_at_once(self) -> None:
        self.successResultOf(self.site.drain(30))
        self.assertFalse(self.transport.connected)

    def test_draining_lets_a_running_request_finish(self) -> None:
        self.ask("GET /later HTTP/1.1")
        drained = self.site.drain(30)
        self.assertNoResult(drained)
        self.resource.answer()
        status, headers, _ = self.answer()
        self.assertEqual((status, headers["connection"]), (201, "close"))
        self.successResultOf(drained)
        self.assertFalse(self.transport.aborted)

    def test_draining_lets_a_request_arrive_that_has_begun(self) -> None:
        self.channel.dataReceived(b"GET / HTTP/1.1\r\n")
        drained = self.site.drain(30)
        self.channel.dataReceived(b"\r\n")
        self.assertEqual(self.answer()[0], 200)
        self.successResultOf(drained)

    def test_draining_waits_for_every_connection(self) -> None:
        self.ask("GET /later HTTP/1.1")
        first = self.resource.waiting.pop()
        _, second = self.connect()
        second.dataReceived(b"GET /later HTTP/1.1\r\n\r\n")
        drained = self.site.drain(30)
        self.resource.answer()
        self.assertNoResult(drained)
        self.resource.waiting.append(first)
        self.resource.answer()
        self.successResultOf(drained)

    def test_draining_ends_after_its_grace(self) -> None:
        self.ask("GET /later HTTP/1.1")
        drained = self.site.drain(30)
        self.clock.advance(29)
        self.assertNoResult(drained)
        self.clock.advance(1)
        self.successResultOf(drained)
        self.assertTrue(self.transport.aborted)
