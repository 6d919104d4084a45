"""A document store in MongoDB, with pymongo's blocking client in threads of its own.

The documents are in the collection ``documents`` of the database that the URL names, by default ``txmicro``. ``_id`` is
the document's id, ``_order`` the time of its insertion, ``_words`` its index terms. The other fields are the document's
own, encoded as BSON (:mod:`txmicro.protocol.codec`).

Inserts that arrive while a batch is being written form the next batch. A write is durable when the majority of the
servers has it (``w=majority``), unless the URL says otherwise. A write whose connection breaks is tried again until
the deadline. As the id is derived from the key, the document is stored once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pymongo.errors import PyMongoError
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txmicro.errors import JobError
from txmicro.protocol.codec.bson import BSON

from .base import Row, Store
from .batching import Batcher, Operation
from .errors import StoreError
from .executor import ThreadExecutor
from .mongo_client import SharedMongoClient, connect
from .mongo_collection import BlockingCollection, to_store_error
from .mongo_query import ID, ORDER, OWN, WORDS, Search, original_name, stored_name
from .query import Query
from .text_index import index_terms

OPEN_TIMEOUT: Final = 5.0
"""Seconds to wait for a server when a store is opened."""


class Lookup(Operation):
    """A find of one document by its id. ``done`` fires with a list of that document, or an empty list."""

    __slots__ = ("id",)

    def __init__(self, id: str, deadline: float) -> None:
        super().__init__(deadline)
        self.id = id


class MongoStore(Store[bytes]):
    """A :class:`txmicro.stores.Store` in MongoDB. :func:`open_mongo` makes it."""

    kind = "mongodb"

    def __init__(
        self, client: SharedMongoClient, reactor: Any, texts: Sequence[str], now: Callable[[], float]
    ) -> None:
        super().__init__(reactor, texts)
        self._client = client
        self._reactor = reactor
        self._now = now
        self._latest = 0
        self._collection = BlockingCollection(client.documents, reactor)
        self._readers = ThreadExecutor(reactor, client.threads, client.readers)
        self._writer = ThreadExecutor(reactor, client.threads, 1)
        self._lookups: Batcher[Lookup] = Batcher(
            reactor, self._look_up, to_store_error, client.readers // 4 or 1
        )

    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[bytes, set[str]]:
        terms = index_terms(document, self.texts)
        self._latest = max(self._latest + 1, int(self._now() * 1e6))
        own = {ID: id, ORDER: self._latest, **({WORDS: sorted(terms)} if terms else {})}
        return BSON.encode(own | {stored_name(name): value for name, value in document.items()}), terms

    def _load(self, encoded: bytes) -> dict[str, Any]:
        document = BSON.decode(encoded)
        fields = {original_name(name): value for name, value in document.items() if name not in OWN}
        return {"id": document[ID], **fields}

    def _insert(self, rows: Sequence[Row[bytes]]) -> Deferred[list[bytes | JobError]]:
        return self._writer.call(self._collection.insert, rows, max(row.deadline for row in rows))

    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        try:
            # The codec's error names the value that cannot be encoded; pymongo's would not.
            BSON.encode({"filters": query.filters, "ranges": query.ranges})
        except JobError as error:
            return fail(error)
        if query.id is None:
            found = self._readers.call(self._collection.find, Search(query), deadline)
        else:
            lookup = Lookup(query.id, deadline)
            self._lookups.add(lookup)
            found = lookup.done
        return found.addCallbacks(self._load_all, self._failed, (query,))

    def _look_up(self, lookups: Sequence[Lookup]) -> Deferred[list[list[bytes]]]:
        ids = [lookup.id for lookup in lookups]
        return self._readers.call(self._collection.get, ids, max(lookup.deadline for lookup in lookups))

    def _load_all(self, documents: Sequence[bytes], query: Query) -> list[dict[str, Any]]:
        return [query.pick(self._load(document)) for document in documents]

    def _failed(self, failure: Failure) -> Failure:
        error = failure.value
        return Failure(to_store_error(error)) if isinstance(error, PyMongoError) else failure

    async def _close(self) -> None:
        await self._lookups.when_idle()
        await self._writer.when_idle()
        await self._readers.when_idle()
        await self._client.release(self._reactor)

    def _to_error(self, error: Exception) -> StoreError:
        return to_store_error(error)


def open_mongo(
    url: str,
    reactor: Any,
    *,
    indexes: Sequence[str] = (),
    texts: Sequence[str] = (),
    capacity: int = 100,
    timeout: float = OPEN_TIMEOUT,
    now: Callable[[], float] = time.time,
) -> Deferred[Store[bytes]]:
    """Open the database at *url* and create the indexes that it lacks.

    :param indexes: see :func:`~txmicro.stores.open_store`. :param texts: likewise. :param capacity: likewise.
    :param timeout: seconds to wait for a server.
    :param now: returns Unix time in seconds, for the order of insertion.

    Fires with the store; fails with :class:`StoreError`. Canceling it closes what has been opened, before it fails.
    """
    return Deferred.fromCoroutine(_open(url, reactor, indexes, texts, capacity, timeout, now))


async def _open(
    url: str,
    reactor: Any,
    indexes: Sequence[str],
    texts: Sequence[str],
    capacity: int,
    timeout: float,
    now: Callable[[], float],
) -> Store[bytes]:
    try:
        client = connect(url, capacity)
    except Exception as error:
        # pymongo's message may contain a part of the password.
        raise StoreError(
            f"store_url: pymongo cannot parse the URL ({type(error).__name__}): expected "
            "mongodb://user:password@host/database, with special characters percent-encoded"
        ) from None
    try:
        await deferToThreadPool(reactor, client.threads, client.prepare, indexes, texts, timeout)
    except BaseException as error:  # a cancellation, too
        await client.release(reactor)
        if isinstance(error, PyMongoError):
            raise StoreError(f"store_url: {to_store_error(error).message}", retryable=True) from error
        raise
    return MongoStore(client, reactor, texts, now)
