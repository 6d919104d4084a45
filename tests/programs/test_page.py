"""The page of a real process, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tests.support.programs import PATIENCE, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port

READER, OPERATOR = "ann:the-secret-of-ann", "bob:the-secret-of-bob"


class Reader(Protocol):
    """A client that sends bytes, and collects what it gets.

    :ivar ended: fires when the connection is closed.
    """

    transport: Any

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._wanted = b""
        self._waiting: Deferred[None] | None = None
        self.got = b""
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._data)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self._waiting is not None and self._wanted in self.got:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended.callback(None)

    def until(self, wanted: bytes) -> Deferred[None]:
        """Fire when *wanted* has arrived after the last call."""
        self.got, self._wanted, self._waiting = b"", wanted, Deferred()
        return self._waiting.addTimeout(PATIENCE, reactor)


class PageTests(ProgramTestCase):
    async def start(self, **settings: str) -> None:
        self.port = free_port()
        self.process = self.twistd(
            "txmicro",
            TXMICRO_METRICS_PORT=str(self.port),
            TXMICRO_REST_PORT="0",
            TXMICRO_BROKER_LISTEN_PORT="0",
            **settings,
        )
        await self.process.says(r"WD:\S+ is ready")

    async def ask(self, path: str, account: str = "", body: Any = None) -> tuple[int, Any]:
        auth: Any = tuple(account.split(":")) if account else None
        headers: Any = {"X-Txmicro": "1", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        if body is None:
            answer = await treq.get(url, auth=auth, persistent=False)
        else:
            data = json.dumps(body).encode()
            answer = await treq.post(url, data=data, headers=headers, auth=auth, persistent=False)
        content = await answer.content()
        kind = answer.headers.getRawHeaders("content-type")[0]
        return answer.code, json.loads(content) if kind == "application/json" else content

    async def connect(self, request: str) -> Reader:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        head = "\r\n".join([request, "Host: localhost", "", ""])
        reader = Reader(head.encode())
        await connectProtocol(endpoint, reader)
        return reader

    async def test_accounts(self) -> None:
        await self.start(TXMICRO_PAGE_READERS=READER, TXMICRO_PAGE_OPERATORS=OPERATOR)
        for path in ("/api/overview", "/api/openapi.json", "/api/events"):
            self.assertEqual((await self.ask(path))[0], 401, path)
            self.assertEqual((await self.ask(path, "ann:wrong"))[0], 401, path)
        for path in ("/api/overview", "/api/openapi.json"):
            self.assertEqual((await self.ask(path, READER))[0], 200, path)
        for path in ("/", "/metrics", "/health/live", "/sd"):
            self.assertEqual((await self.ask(path))[0], 200, path)
        body = {"filter": {}, "dry_run": True}
        self.assertEqual((await self.ask("/api/dead/WD/discard", READER, body))[0], 403)
        _, answer = await self.ask("/api/dead/WD/discard", OPERATOR, body)
        self.assertEqual(answer, {"matched": 0, "done": 0, "expired": 0, "dry_run": True})
        await self.process.says(r"bob \(operator, from 127.0.0.1\), at the page: discard dead letters WD")
        for account in (READER, OPERATOR):
            self.assertNotIn(account.partition(":")[2], self.process.output)

    async def test_events_end_when_the_process_stops(self) -> None:
        await self.start()
        events = await self.connect("GET /api/events HTTP/1.1")
        for _ in range(2):
            await events.until(b"event: update")
        await self.process.signal(2)
        await events.ended

    async def test_without_accounts_other_machines_get_no_page(self) -> None:
        await self.start(TXMICRO_METRICS_INTERFACE="0.0.0.0")
        self.assertIn("the page for operators answers nobody", self.process.output)
        status, answer = await self.ask("/api/overview")
        self.assertEqual(status, 403)
        self.assertIn("set page_operators", answer["message"])
        self.assertEqual((await self.ask("/metrics"))[0], 200)

    async def test_no_page(self) -> None:
        await self.start(TXMICRO_PAGE="false")
        self.assertEqual(
            [(await self.ask(path))[0] for path in ("/", "/api/overview", "/sd")], [404, 404, 200]
        )
        self.assertFalse((self.directory / "txmicro-page.db").exists())
