"""pymongo's client: one for each URL in a process, with the threads that wait for it."""

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

from .mongo_query import ID, ORDER, WORDS
from .words import entries

MAX_READERS: Final = 16
"""How many finds run at once at most; more would only wait for Python's lock."""
DATABASE: Final = "txmicro"
COLLECTION: Final = "documents"
TEXTS: Final = "documents.texts"

_BATCH: Final = 500
_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "txmicro",
    "w": "majority",
    "connectTimeoutMS": 5_000,
    "maxPoolSize": 0,  # as many connections as threads
}

_clients: dict[str, Client] = {}


def connect(url: str, capacity: int) -> Client:
    """The client for *url*, for *capacity* jobs at once; it is left by :meth:`Client.leave`.

    Nothing is connected yet. Raises what pymongo raises when the URL is wrong.
    """
    client = _clients.get(url)
    if client is None:
        client = _clients[url] = Client(url, capacity)
    client.join()
    return client


class Client:
    """A pool of connections and one of threads, shared by the stores of a process.

    :ivar readers: how many finds may run at once. :ivar threads: where pymongo may block.
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

    def join(self) -> None:
        """Be one more user."""
        self._users += 1
        self.threads.adjustPoolsize(maxthreads=self._users * (self.readers + 1))  # and one that writes

    def leave(self, reactor: Any) -> Deferred[None]:
        """Be one user less. The last one closes everything.

        Fires when that is done: threads that are still busy are waited for, in one of *reactor*'s.
        """
        self._users -= 1
        if self._users:
            return succeed(None)
        del _clients[self._url]
        return deferToThreadPool(reactor, reactor.getThreadPool(), self._end)

    def _end(self) -> None:
        self._client.close()
        self.threads.stop()

    def prepare(self, indexes: Sequence[str], texts: Sequence[str], timeout: float) -> None:
        """Create what the database lacks, in a thread; wait at most *timeout* seconds for a server."""
        with pymongo.timeout(timeout):
            self._client.admin.command("ping")
        self.documents.create_indexes(list(_indexes(indexes, texts)))
        for field in texts:
            if self._texts.find_one({"_id": field}) is None:
                self._index_text(field)
                self._texts.replace_one({"_id": field}, {}, upsert=True)

    def _index_text(self, field: str) -> None:
        """Write down the words of documents that were inserted before anybody looked for words in *field*."""
        plain: Collection[Any] = self.documents.with_options(CodecOptions())
        with plain.find({field: {"$exists": True}}, [field]) as found:
            while updates := [_add_words(document, field) for document in islice(found, _BATCH)]:
                plain.bulk_write(updates, ordered=False)


def _indexes(fields: Sequence[str], texts: Sequence[str]) -> Iterator[IndexModel]:
    order = [(ORDER, pymongo.ASCENDING), (ID, pymongo.ASCENDING)]
    yield IndexModel(order, name="in_order")
    for field in fields:
        yield IndexModel([(field, pymongo.ASCENDING), *order], name=f"by_{field}")
    if texts:
        yield IndexModel([(WORDS, pymongo.ASCENDING)], name="of_words")


def _add_words(document: Mapping[str, Any], field: str) -> UpdateOne:
    words = sorted(entries(document, [field]))
    return UpdateOne({ID: document[ID]}, {"$addToSet": {WORDS: {"$each": words}}})
