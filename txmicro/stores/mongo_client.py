"""The client of pymongo and its threads: one per URL in a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel, MongoClient, UpdateOne
from pymongo.collection import Collection
from pymongo.uri_parser import split_options
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from .base import COLLECTION
from .mongo_query import ID, ORDER, WORDS
from .text_index import index_terms

MAX_READERS: Final = 16
"""The most finds that run at once. More threads would wait for Python's interpreter lock."""
DATABASE: Final = "txmicro"
TEXTS: Final = "documents.texts"

_BATCH: Final = 500
_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "txmicro",
    "w": "majority",
    "connectTimeoutMS": 5_000,
    "maxPoolSize": 0,  # unlimited: the number of threads limits the connections
}

_clients: dict[str, SharedMongoClient] = {}


def connect(url: str, capacity: int) -> SharedMongoClient:
    """Return the client for *url*, which runs up to *capacity* finds at once. The caller has to release it.

    It does not connect yet. Raises pymongo's exceptions if the URL is not valid.
    """
    client = _clients.get(url)
    if client is None:
        client = _clients[url] = SharedMongoClient(url, capacity)
    client.acquire()
    return client


class SharedMongoClient:
    """A connection pool and a thread pool, shared by the stores of a process.

    :ivar readers: how many finds of a store may run at once. :ivar threads: the threads in which pymongo may block.
    :ivar documents: the collection.
    """

    def __init__(self, url: str, capacity: int) -> None:
        options = urlsplit(url).query
        given = split_options(options, validate=True, warn=False) if options else {}
        defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
        self._url = url
        self._users = 0
        self._client: MongoClient[Any] = MongoClient(url, **defaults)
        database = self._client.get_default_database(DATABASE)
        self.documents: Collection[RawBSONDocument] = database.get_collection(COLLECTION, _RAW)
        self._texts: Collection[Any] = database.get_collection(TEXTS)
        self.readers = min(capacity, MAX_READERS)
        self.threads = ThreadPool(0, self.readers, name="mongo")
        self.threads.start()

    def acquire(self) -> None:
        """Count one more user, and allow it its threads."""
        self._users += 1
        self.threads.adjustPoolsize(maxthreads=self._users * (self.readers + 1))  # one of them writes

    def release(self, reactor: Any) -> Deferred[None]:
        """Count one user less. The last one closes the connections and ends the threads.

        Fires with None when that is done. A thread of *reactor*'s pool waits for the threads that are still busy.
        """
        self._users -= 1
        if self._users:
            return succeed(None)
        del _clients[self._url]
        return deferToThreadPool(reactor, reactor.getThreadPool(), self._close)

    def _close(self) -> None:
        self._client.close()
        self.threads.stop()

    def prepare(self, indexes: Sequence[str], texts: Sequence[str], timeout: float) -> None:
        """Create the indexes that the database lacks. Blocks; waits at most *timeout* seconds for a server."""
        with pymongo.timeout(timeout):
            self._client.admin.command("ping")
        self.documents.create_indexes(list(_indexes(indexes, texts)))
        for field in texts:
            if self._texts.find_one({"_id": field}) is None:
                self._index_text(field)
                self._texts.replace_one({"_id": field}, {}, upsert=True)

    def _index_text(self, field: str) -> None:
        """Add the index terms of documents that were inserted before *field* became a text."""
        plain: Collection[Any] = self.documents.with_options(CodecOptions())
        with plain.find({field: {"$exists": True}}, [field]) as found:
            while updates := [_add_terms(document, field) for document in islice(found, _BATCH)]:
                plain.bulk_write(updates, ordered=False)


def _indexes(fields: Sequence[str], texts: Sequence[str]) -> Iterator[IndexModel]:
    order = [(ORDER, pymongo.ASCENDING), (ID, pymongo.ASCENDING)]
    yield IndexModel(order, name="in_order")
    for field in fields:
        yield IndexModel([(field, pymongo.ASCENDING), *order], name=f"by_{field}")
    if texts:
        yield IndexModel([(WORDS, pymongo.ASCENDING)], name="of_words")


def _add_terms(document: Mapping[str, Any], field: str) -> UpdateOne:
    terms = sorted(index_terms(document, [field]))
    return UpdateOne({ID: document[ID]}, {"$addToSet": {WORDS: {"$each": terms}}})
