"""Server-sent events, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.pages import Client
from txmicro.page.api.events import CLIENTS, SLOW, Events
from txmicro.page.site import PageRoute


class Monitor:
    """A monitor whose ticks and lines a test makes."""

    def __init__(self) -> None:
        self.asked = 0
        self.changed: list[Callable[[], None]] = []
        self.lines: list[Callable[[dict[str, Any]], None]] = []

    def overview(self) -> dict[str, Any]:
        self.asked += 1
        return {"number": self.asked}

    def when_changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.changed.append(callback)
        return lambda: self.changed.remove(callback)

    def when_line(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self.lines.append(callback)
        return lambda: self.lines.remove(callback)

    def tick(self) -> None:
        for callback in list(self.changed):
            callback()


class EventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.monitor, self.changes = Clock(), Monitor(), 7
        self.events = Events(self.monitor, lambda: self.changes, self.clock)
        self.client = self.connect()

    def connect(self) -> Client:
        client = Client([PageRoute("GET", "/api/events", self.events.handle)], self.clock)
        self.addCleanup(client.close)
        return client

    def watch(self) -> Client:
        client = self.connect()
        client.send("/api/events")
        return client

    def said(self, client: Client) -> str:
        text: str = client.transport.value().decode()
        client.transport.clear()
        return text

    def test_the_first_update_comes_at_once_and_the_others_with_each_change(self) -> None:
        client = self.watch()
        head, _, first = self.said(client).partition("\r\n\r\n")
        self.assertIn("content-type: text/event-stream", head.lower())
        self.assertIn("cache-control: no-store", head.lower())
        self.assertIn('event: update\ndata: {"number":1}\n\n', first)
        self.monitor.tick()
        self.assertIn('event: update\ndata: {"number":2}\n\n', self.said(client))

    def test_lines_and_changed_groups_of_failures(self) -> None:
        client = self.watch()
        self.said(client)
        for tell in self.monitor.lines:
            tell({"message": "no\nluck"})
        self.assertIn('event: line\ndata: {"message":"no\\nluck"}\n\n', self.said(client))
        self.monitor.tick()
        self.assertNotIn("event: failures", self.said(client))
        self.changes += 1
        self.monitor.tick()
        self.assertIn("event: failures\ndata: {}\n\n", self.said(client))
        self.monitor.tick()
        self.assertNotIn("event: failures", self.said(client))

    def test_nothing_is_done_when_nobody_watches(self) -> None:
        self.assertEqual((self.monitor.changed, self.monitor.lines), ([], []))
        clients = [self.watch(), self.watch()]
        self.assertEqual(len(self.monitor.changed), 1)
        self.said(clients[0])
        asked = self.monitor.asked
        self.monitor.tick()
        self.assertEqual(self.monitor.asked, asked + 1)
        for client in clients:
            client.channel.connectionLost(Failure(ConnectionDone()))
            client.channel = None
        self.assertEqual((self.monitor.changed, self.monitor.lines, len(self.events)), ([], [], 0))
        self.events.send("line", {})
        self.assertEqual(self.monitor.asked, asked + 1)

    def test_head_gets_no_events(self) -> None:
        reply = self.client.ask("/api/events", "HEAD")
        self.assertEqual((reply.status, reply.body), (200, ""))
        self.assertEqual(self.monitor.changed, [])

    def test_clients_above_the_limit_are_refused(self) -> None:
        for _ in range(CLIENTS):
            self.watch()
        reply = self.client.ask("/api/events")
        self.assertEqual((reply.status, reply.json["error"]), (503, "Unavailable"))
        self.assertEqual(len(self.events), CLIENTS)

    def test_a_slow_client_misses_updates_and_gets_the_latest(self) -> None:
        client = self.watch()
        client.channel.pauseProducing()
        self.said(client)
        for _ in range(5):
            self.clock.advance(1)
            self.monitor.tick()
        self.assertEqual(self.said(client), "")
        client.channel.resumeProducing()
        self.monitor.tick()
        self.assertEqual(self.said(client).count("event:"), 1)

    def test_a_client_that_does_not_read_is_disconnected(self) -> None:
        client, other = self.watch(), self.watch()
        client.channel.pauseProducing()
        self.clock.advance(SLOW)
        self.monitor.tick()
        self.assertFalse(client.aborted)
        self.clock.advance(1)
        self.monitor.tick()
        self.assertTrue(client.aborted)
        self.assertFalse(other.aborted)

    def test_closing_disconnects_all(self) -> None:
        clients = [self.watch(), self.watch()]
        self.events.close()
        for client in clients:
            self.assertTrue(client.transport.disconnecting)
