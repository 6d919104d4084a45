"""``python -m benchmarks.store_run VARIANT URL SECONDS``: a process of ``benchmarks.stores``; prints JSON."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any

import pymongo
from bson.raw_bson import RawBSONDocument
from prometheus_client import CollectorRegistry
from pymongo import AsyncMongoClient, MongoClient
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from txmicro import Worker
from txmicro.bus.connections import Bus
from txmicro.bus.targets import target
from txmicro.config import Config
from txmicro.metrics import Metrics
from txmicro.protocol.address import Ids
from txmicro.stores import batching, mongo, open_store
from txmicro.workers.db import DBWorker

IN_FLIGHT = 100
DOCUMENT = {"title": "Alien", "year": 1979, "plot": "x" * 200, "cast": ["Weaver", "Holm"], "rating": 8.5}

Call = Callable[[str], Any]
"""One call: with a new key, or with the id of a document."""
Measured = dict[str, float]


async def measure(seconds: float, insert: Call, find: Call) -> Measured:
    """Return how many inserts, and then finds, end per second, with 100 of them under way."""
    run = f"{time.time_ns()}"
    keys = (f"{run}/{number}" for number in count())
    stored = [(await insert(f"{run}/first/{number}"))["id"] for number in range(IN_FLIGHT)]
    inserted = await _rate(seconds, lambda: insert(next(keys)))
    return {"insert": inserted, "find": await _rate(seconds, lambda: find(random.choice(stored)))}


async def _rate(seconds: float, call: Callable[[], Any]) -> float:
    until, done = time.perf_counter() + seconds, count()

    async def one_after_the_other() -> None:
        while time.perf_counter() < until:
            await call()
            next(done)

    began = time.perf_counter()
    await gatherResults([ensureDeferred(one_after_the_other()) for _ in range(IN_FLIGHT)])
    return next(done) / (time.perf_counter() - began)


def bare(url: str, seconds: float) -> Measured:
    """Measure pymongo's client in threads, with the best number of them."""
    documents: Any = MongoClient(url, w="majority").get_default_database()["documents"]
    run = f"{time.time_ns()}"
    documents.create_index([("_order", 1), ("_id", 1)])  # the store has the same index
    documents.insert_one({"_id": run, "_order": 0, **DOCUMENT})
    keys = (f"{run}/{number}" for number in count())
    calls: dict[str, Callable[[], Any]] = {
        "insert": lambda: documents.insert_one({"_id": next(keys), "_order": time.time_ns(), **DOCUMENT}),
        "find": lambda: list(documents.find({"_id": run})),
    }
    return {
        name: max(_in_threads(call, threads, seconds / 3) for threads in (4, 8, 16))
        for name, call in calls.items()
    }


def _in_threads(call: Callable[[], Any], threads: int, seconds: float) -> float:
    until, done = time.perf_counter() + seconds, count()

    def one_after_the_other() -> None:
        while time.perf_counter() < until:
            call()
            next(done)

    began = time.perf_counter()
    running = [threading.Thread(target=one_after_the_other) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return next(done) / (time.perf_counter() - began)


async def store(reactor: Any, url: str, seconds: float) -> Measured:
    """Measure a store without changes."""
    opened = await open_store(url, reactor)
    try:
        return await measure(
            seconds, lambda key: opened.insert(key, DOCUMENT), lambda id: opened.find({"id": id})
        )
    finally:
        await opened.close()


async def single(reactor: Any, url: str, seconds: float) -> Measured:
    """Measure the MongoDB store without batches: each insert and each find in a thread of its own."""
    batching.MAX_BATCH = 1  # type: ignore[misc]
    return await store(reactor, url, seconds)


class AsyncStore(mongo.MongoStore):
    """The MongoDB store on pymongo's asynchronous client, which needs Twisted's asyncio reactor."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        client: Any = AsyncMongoClient(self._client._url, w="majority")
        self._asynchronous = client
        self._raw = client.get_default_database().get_collection(
            "documents", self._collection.documents.codec_options
        )

    def _insert(self, rows: Sequence[Any]) -> Any:
        return _deferred(self._insert_all(rows))

    async def _insert_all(self, rows: Sequence[Any]) -> Any:
        with pymongo.timeout(30):
            await self._raw.insert_many([RawBSONDocument(row.document) for row in rows], ordered=False)
        return [row.document for row in rows]

    def _look_up(self, lookups: Sequence[Any]) -> Any:
        return _deferred(self._found(lookups))

    async def _found(self, lookups: Sequence[Any]) -> Any:
        query = {"_id": {"$in": [each.id for each in lookups]}}
        with pymongo.timeout(30):
            found = {each["_id"]: bytes(each.raw) async for each in self._raw.find(query)}
        return [[found[each.id]] if each.id in found else [] for each in lookups]

    async def _close(self) -> None:
        await _deferred(self._asynchronous.close())
        await super()._close()


def _deferred(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


class AsyncDBWorker(DBWorker):
    """A DB worker with an :class:`AsyncStore`."""

    async def opened(self) -> None:
        """Open the store."""
        mongo.MongoStore = AsyncStore  # type: ignore[assignment, misc]
        await super().opened()


async def with_asyncio(reactor: Any, url: str, seconds: float) -> Measured:
    """Measure an :class:`AsyncStore`."""
    mongo.MongoStore = AsyncStore  # type: ignore[assignment, misc]
    return await store(reactor, url, seconds)


async def chain(reactor: Any, url: str, seconds: float) -> Measured:
    """Measure jobs to the DB worker of another process, through the broker at *url*."""
    sender = Worker("Bench")
    bus = Bus(
        reactor,
        [target(reactor, url)],
        config=Config(data_transfer_protocol="MessagePack"),
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    sender.setServiceParent(bus)
    bus.startService()
    await sender.when_ready()

    def post(key: str) -> Any:
        return sender.send("DB:*", {"method": "POST", "params": DOCUMENT})

    def get(id: str) -> Any:
        return sender.send("DB:*", {"method": "GET", "params": {"id": id}})

    try:
        return await measure(seconds, post, get)
    finally:
        await bus.stopService()


RUNS: dict[str, Any] = {
    "threads": store,
    "sqlite": store,
    "single": single,
    "asyncio": with_asyncio,
    "chain": chain,
}


def main(variant: str, url: str, seconds: str) -> None:
    """Measure, and print the result."""
    if variant == "bare":
        print(json.dumps(bare(url, float(seconds))), flush=True)
        return
    if variant == "asyncio":
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    from twisted.internet.task import react  # not before the reactor is chosen

    async def run(reactor: Any) -> None:
        print(json.dumps(await RUNS[variant](reactor, url, float(seconds))), flush=True)

    react(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
