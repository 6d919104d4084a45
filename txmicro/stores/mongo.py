"""Documents in MongoDB, through pymongo's client in threads of its own.

One collection, ``documents``, in the database that the URL names (``txmicro`` if it names none). ``_id`` is the
document's id, ``_order`` the time of its insertion, ``_words`` what its texts are found by, and the other fields are
the document's own, as BSON has them (:mod:`txmicro.protocol.codec`).

All inserts that arrive while one batch is written share the next. A write is safe when the majority of the servers
has it (``w=majority``), unless the URL says otherwise. What breaks off is tried again until the deadline: as the id
comes from the key, it is stored once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txmicro.errors import BadRequest, JobError
from txmicro.protocol import codec

from .base import PAGE, Row, Store
from .errors import DocumentTooLarge, StoreError, StoreTimeout
from .lanes import Lanes
from .mongo_client import Client, connect
from .mongo_query import ID, ORDER, OWN, WORDS, Search, stored_name, users_name
from .query import Query
from .together import Together, Waiting
from .words import entries

ATTEMPT: Final = 10.0
"""How long one attempt to write may take, in seconds: then it is made again through another connection."""
OPENING: Final = 5.0
"""How long a server is waited for, in seconds, until who opens the store is told that there is none."""
PAUSE: Final = 0.05
"""How long to wait, in seconds, before looking again whether a document is safe."""

_DUPLICATE: Final = 11000
_TOO_LARGE: Final = (10334, 17280)
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml: LockTimeout, MaxTimeMSExpired,
# WriteConcernFailed, ExceededTimeLimit, OutOfDiskSpace.
_PASSING: Final = frozenset({24, 50, 64, 262, 14031})

Result = TypeVar("Result")


class Wanted(Waiting):
    """A document that is looked for by its id."""

    __slots__ = ("id",)

    def __init__(self, id: str, deadline: float) -> None:
        super().__init__(deadline)
        self.id = id


class MongoStore(Store[bytes]):
    """Implements :class:`txmicro.stores.Store`; made by :func:`open_mongo`."""

    def __init__(self, client: Client, reactor: Any, texts: Sequence[str], now: Callable[[], float]) -> None:
        super().__init__(reactor, texts)
        self._client = client
        self._reactor = reactor
        self._now = now
        self._latest = 0
        self._reading = Lanes(reactor, client.threads, client.readers)
        self._writing = Lanes(reactor, client.threads, 1)
        self._documents = client.documents
        self._gets: Together[Wanted] = Together(reactor, self._get, typed, client.readers // 4 or 1)
        self._safe = client.documents.with_options(read_concern=ReadConcern("majority"))

    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[bytes, set[str]]:
        words = entries(document, self.texts)
        self._latest = max(self._latest + 1, int(self._now() * 1e6))
        own = {ID: id, ORDER: self._latest, **({WORDS: sorted(words)} if words else {})}
        return codec.BSON.encode(own | {stored_name(name): value for name, value in document.items()}), words

    def _load(self, encoded: bytes) -> dict[str, Any]:
        document = codec.BSON.decode(encoded)
        users = {users_name(name): value for name, value in document.items() if name not in OWN}
        return {"id": document[ID], **users}

    def _insert(self, rows: Sequence[Row[bytes]]) -> Deferred[list[bytes | JobError]]:
        return self._writing.call(self._write_all, rows, max(row.deadline for row in rows))

    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        try:
            # The codec says what it cannot carry, and where that is.
            codec.BSON.encode({"filters": query.filters, "ranges": query.ranges})
        except JobError as error:
            return fail(error)
        if query.id is None:
            found = self._reading.call(self._read, Search(query), deadline)
        else:
            wanted = Wanted(query.id, deadline)
            self._gets.add(wanted)
            found = wanted.done
        return found.addCallbacks(self._load_all, self._failed, (query,))

    def _get(self, wanted: Sequence[Wanted]) -> Deferred[list[list[bytes]]]:
        return self._reading.call(self._get_all, wanted, max(each.deadline for each in wanted))

    def _load_all(self, documents: Sequence[bytes], query: Query) -> list[dict[str, Any]]:
        return [query.pick(self._load(document)) for document in documents]

    def _failed(self, failure: Failure) -> Failure:
        error = failure.value
        return Failure(typed(error)) if isinstance(error, PyMongoError) else failure

    async def _close(self) -> None:
        await self._gets.idle()
        await self._writing.idle()
        await self._reading.idle()
        await self._client.leave(self._reactor)

    def _typed(self, error: Exception) -> StoreError:
        return typed(error)

    # These run in the client's threads:

    def _write_all(self, rows: Sequence[Row[bytes]], deadline: float) -> list[bytes | JobError]:
        documents = [RawBSONDocument(row.document) for row in rows]
        try:
            self._attempt(lambda: self._documents.insert_many(documents, ordered=False), deadline, ATTEMPT)
        except BulkWriteError as error:
            return self._outcomes(rows, error.details or {}, deadline)
        return [row.document for row in rows]

    def _outcomes(
        self, rows: Sequence[Row[bytes]], details: Mapping[str, Any], deadline: float
    ) -> list[bytes | JobError]:
        errors = {error["index"]: error for error in details["writeErrors"]}
        # Those that are there, of this attempt or of an earlier one, but perhaps not with the majority yet.
        unsure = {index for index, error in errors.items() if error["code"] == _DUPLICATE}
        if details["writeConcernErrors"]:
            unsure |= set(range(len(rows))) - errors.keys()
        safe = self._wait_until_safe([rows[index].id for index in unsure], deadline)

        def outcome(index: int, row: Row[bytes]) -> bytes | JobError:
            if index in unsure:
                return safe.get(row.id) or StoreError("MongoDB: stored, but not safe yet", retryable=True)
            error = errors.get(index)
            return _failure(error["code"], error["errmsg"]) if error else row.document

        return [outcome(index, row) for index, row in enumerate(rows)]

    def _wait_until_safe(self, ids: Sequence[str], deadline: float) -> dict[str, bytes]:
        """The documents of *ids* that the majority has: all of them, or until *deadline* what there is."""
        while True:
            safe = self._attempt(lambda: self._stored(self._safe, ids), deadline)
            if len(safe) == len(set(ids)) or self._clock.seconds() + PAUSE >= deadline:
                return safe
            time.sleep(PAUSE)

    def _stored(self, documents: Collection[RawBSONDocument], ids: Sequence[str]) -> dict[str, bytes]:
        return {document[ID]: bytes(document.raw) for document in documents.find({ID: {"$in": ids}})}

    def _get_all(self, wanted: Sequence[Wanted], deadline: float) -> list[list[bytes]]:
        found = self._attempt(lambda: self._stored(self._documents, [each.id for each in wanted]), deadline)
        return [[found[each.id]] if each.id in found else [] for each in wanted]

    def _read(self, search: Search, deadline: float) -> list[bytes]:
        return self._attempt(lambda: self._page(search), deadline)

    def _page(self, search: Search) -> list[bytes]:
        place = None if search.after is None else self._place(search)
        page: list[bytes] = []
        size = 0
        found = self._documents.find(
            search.filter(place), search.fields, sort=search.sort, limit=search.limit
        )
        with found:
            for document in found:
                page.append(bytes(document.raw))
                size += len(page[-1])
                if size >= PAGE:
                    break
        return page

    def _place(self, search: Search) -> Mapping[str, Any]:
        place = self._documents.find_one(search.place, [name for name, _ in search.sort])
        if place is None:
            raise BadRequest(
                f"after: no document with the id {search.after!r:.100} has a place in this order"
            )
        return place

    def _attempt(
        self, function: Callable[[], Result], deadline: float, longest: float = float("inf")
    ) -> Result:
        """What *function* returns, which is called again when a connection breaks, until *deadline*.

        pymongo lets no server be asked more than twice a second whether it is back, so this does not spin.
        """
        while True:
            left = deadline - self._clock.seconds()
            if left <= 0:
                raise NetworkTimeout("no time was left")
            try:
                with pymongo.timeout(min(left, longest)):
                    return function()
            except AutoReconnect as error:
                if error.timeout and left <= longest:
                    raise


def open_mongo(
    url: str,
    reactor: Any,
    *,
    indexes: Sequence[str] = (),
    texts: Sequence[str] = (),
    capacity: int = 100,
    timeout: float = OPENING,
    now: Callable[[], float] = time.time,
) -> Deferred[Store[bytes]]:
    """Open the database at *url* and create what it lacks.

    :param capacity: how many jobs run at once. :param timeout: how long a server is waited for, in seconds.
    :param now: Unix time in seconds, for the order of insertion.

    Fires with the store; fails with :class:`StoreError`. Cancelling leaves nothing open, and waits for that.
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
        # Its text may have a part of the password in it.
        raise StoreError(f"store_url: pymongo cannot read it: {type(error).__name__}") from None
    try:
        await deferToThreadPool(reactor, client.threads, client.prepare, indexes, texts, timeout)
    except BaseException as error:  # also when it is cancelled
        await client.leave(reactor)
        if isinstance(error, PyMongoError):
            raise StoreError(f"store_url: {typed(error).message}", retryable=True) from error
        raise
    return MongoStore(client, reactor, texts, now)


def typed(error: Exception) -> StoreError:
    """What *error*, of pymongo, is to whoever asked."""
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreError(f"MongoDB: no server is there: {error!s:.300}", retryable=True)
    if isinstance(error, PyMongoError) and error.timeout:
        return StoreTimeout(f"MongoDB: {error!s:.300}")
    if isinstance(error, OperationFailure):
        return _failure(error.code or 0, str(error))
    return StoreError(f"MongoDB: {error!s:.300}", retryable=isinstance(error, AutoReconnect))


def _failure(code: int, text: str) -> StoreError:
    if code in _TOO_LARGE:
        return DocumentTooLarge(f"MongoDB: {text:.300}")
    return StoreError(f"MongoDB: {text:.300}", retryable=code in _PASSING)
