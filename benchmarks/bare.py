"""Runs the movies' chain with the bare minimum: HTTP, Klein, txmicro's AMQP client, SQLite in a thread.

There are no acks, futures, deadlines, metrics, limits or errors. The difference between txmicro's own chain
and this one is the price of these. ``python -m benchmarks.bare rest|pilot|db URL [PORT|FILE]`` prints
``ready`` as soon as it can serve.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import msgpack
from klein import Klein
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.server import Site

from txmicro.amqp.channel import Channel
from txmicro.amqp.properties import Properties
from txmicro.bus.targets import dial, target

from .movies import MOVIES

HEARTBEAT = 10
THREADS = 3
"""Threads of the database: as many as txmicro's store uses for reading."""


class Node:
    """A process of the chain, with its only channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._prefixes: dict[str, bytes] = {}

    def send(self, queue: str, answer_to: Properties, body: bytes) -> None:
        """Publish *body* to *queue*, with the correlation id and the reply-to of *answer_to*."""
        prefix = self._prefixes.get(queue)
        if prefix is None:
            prefix = self._prefixes[queue] = self._channel.publisher("", queue)
        self._channel.publish(prefix, answer_to.encode(), body)

    async def listen(self, queue: str, heard: Callable[[Properties, Any], None]) -> str:
        """Consume *queue*, or a new exclusive one if it is empty. Return its name."""
        declared = await self._channel.queue_declare(queue=queue, exclusive=not queue, auto_delete=True)
        name: str = declared.queue
        await self._channel.consume(
            name, lambda _, properties, body: heard(properties, msgpack.unpackb(body)), no_ack=True
        )
        return name


class Rest:
    """Receives HTTP requests, and sends them to the pilot."""

    app = Klein()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pending: dict[str | None, Deferred[Any]] = {}
        self._numbers = count()

    async def open(self, reactor: Any, port: str) -> None:
        """Consume the answers, and listen on the HTTP port."""
        self._inbox = await self._node.listen("", self._answered)
        reactor.listenTCP(int(port), Site(self.app.resource()), interface="127.0.0.1")

    def _answered(self, properties: Properties, body: Any) -> None:
        self._pending.pop(properties.correlation_id).callback(body)

    @app.route("/movies/")
    async def movies(self, request: Any) -> bytes:
        """Find movies."""
        filters = {name.decode(): texts[0].decode() for name, texts in request.args.items()}
        job = msgpack.packb({"method": "GET", "params": filters})
        number = str(next(self._numbers))
        answer = self._pending[number] = Deferred()
        self._node.send("bare.pilot", Properties(correlation_id=number, reply_to=self._inbox), job)
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(await answer).encode()


class Pilot:
    """Decides which process handles a job."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def open(self, _reactor: Any) -> None:
        """Consume the jobs."""
        await self._node.listen("bare.pilot", self._decide)

    def _decide(self, properties: Properties, job: Any) -> None:
        if job["method"] == "GET":
            self._node.send("bare.db", properties, msgpack.packb(job))


class Database:
    """Finds movies."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def open(self, reactor: Any, file: str) -> None:
        """Fill the database, and consume the jobs."""
        self._pool = ConnectionPool(
            "sqlite3", file, check_same_thread=False, cp_min=THREADS, cp_max=THREADS, cp_reactor=reactor
        )
        await self._pool.runInteraction(_fill)
        await self._node.listen("bare.db", self._take)

    def _take(self, properties: Properties, job: Any) -> None:
        found = self._pool.runQuery("SELECT document FROM movies WHERE title = ?", (job["params"]["title"],))
        found.addCallback(self._found, properties)

    def _found(self, rows: list[tuple[str]], properties: Properties) -> None:
        self._node.send(
            properties.reply_to or "", properties, msgpack.packb([json.loads(row[0]) for row in rows])
        )


def _fill(transaction: Any) -> None:
    transaction.execute("PRAGMA journal_mode = WAL")
    transaction.execute("CREATE TABLE movies (title TEXT, document TEXT)")
    transaction.execute("CREATE INDEX titles ON movies (title)")
    rows = [(movie["title"], json.dumps({**movie, "id": str(number)})) for number, movie in enumerate(MOVIES)]
    transaction.executemany("INSERT INTO movies VALUES (?, ?)", rows)


async def main(reactor: Any, role: str, url: str, *arguments: str) -> None:
    """Run one of the three processes."""
    client = await dial(target(reactor, url), reactor, HEARTBEAT, f"bare {role}")
    node = Node(await client.channel_open())
    part: Any = {"rest": Rest, "pilot": Pilot, "db": Database}[role](node)
    await part.open(reactor, *arguments)
    print("ready", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
