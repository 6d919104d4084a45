"""The server-sent events of the page, ``GET /api/events``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from txmicro.page.site import Refusal, set_headers

CLIENTS: Final = 50
"""The most clients at once."""

SLOW: Final = 10.0
"""Seconds after which a client that does not read what it was sent is disconnected."""

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # a proxy must not collect events


class Source(Protocol):
    """The monitor, as far as events need it."""

    def overview(self) -> dict[str, Any]:
        """Return the content of the event ``update``."""

    def when_changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once a second, until the function is called that this returns."""

    def when_line(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call *callback* with the content of each event ``line``, until the function is called that this returns."""


class Events:
    """The clients that are told of changes. Without any, nothing is asked of the source, and nothing is encoded.

    A client that reads slowly misses events. Each ``update`` is complete, so it needs only the latest.

    :param source: says when there is something new.
    :param failure_changes: returns a number that is another one when the groups of failures have changed.
    :param clock: a reactor, or a ``Clock``.
    """

    def __init__(self, source: Source, failure_changes: Callable[[], int], clock: Any) -> None:
        self._source = source
        self._failure_changes = failure_changes
        self._known_changes = 0
        self._clock = clock
        self._clients: set[_Client] = set()
        self._watches: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._clients)

    def handle(self, request: Any) -> None:
        """Send events to the client of *request* until it closes the connection."""
        if len(self._clients) >= CLIENTS:
            text = f"there are {CLIENTS} clients of /api/events already; close a page that is open elsewhere"
            raise Refusal(503, "Unavailable", text, retry_after="5")
        set_headers(request, "text/event-stream", _HEADERS)
        if request.method == b"HEAD":
            request.finish()
            return
        client = _Client(request, self._clock)
        self._clients.add(client)
        request.notifyFinish().addBoth(lambda _: self._left(client))
        if not self._watches:
            self._known_changes = self._failure_changes()
            self._watches = [
                self._source.when_changed(self._changed),
                self._source.when_line(partial(self.send, "line")),
            ]
        client.write(_event("update", self._source.overview()))

    def send(self, name: str, content: Any) -> None:
        """Send an event to all clients."""
        if self._clients:
            data = _event(name, content)
            for client in list(self._clients):
                client.write(data)

    def close(self) -> None:
        """Disconnect all clients."""
        for client in list(self._clients):
            client.close()

    def _changed(self) -> None:
        self.send("update", self._source.overview())
        changes = self._failure_changes()
        if changes != self._known_changes:
            self._known_changes = changes
            self.send("failures", {})

    def _left(self, client: _Client) -> None:
        self._clients.discard(client)
        if not self._clients:
            watches, self._watches = self._watches, []
            for stop in watches:
                stop()


class _Client:
    """A client; the producer of its answer."""

    def __init__(self, request: Any, clock: Any) -> None:
        self._request = request
        self._clock = clock
        self._paused_since: float | None = None
        request.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send *data*, unless the client has not read what it was sent before; disconnect it if that is long ago."""
        if self._paused_since is None:
            self._request.write(data)
        elif self._clock.seconds() - self._paused_since > SLOW:
            self._request.channel.transport.abortConnection()

    def close(self) -> None:
        """End the answer, and the connection."""
        self._request.unregisterProducer()
        self._request.loseConnection()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Send nothing until the client has read."""
        if self._paused_since is None:
            self._paused_since = self._clock.seconds()

    def resumeProducing(self) -> None:
        """Send what follows."""
        self._paused_since = None

    def stopProducing(self) -> None:
        """Do nothing: the request tells that the connection is closed."""


def _event(name: str, content: Any) -> bytes:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode()
