"""Reads and writes MongoDB with calls of pymongo that block, for threads."""

from __future__ import annotations

import re
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

from txmicro.errors import BadRequest, JobError
from txmicro.util.clock import Clock

from .base import MAX_PAGE, Row
from .errors import DocumentTooLarge, StoreError, StoreTimeout
from .mongo_query import ID, Search

WRITE_TIMEOUT: Final = 10.0
"""Seconds until a write is tried again on another connection."""
PAUSE: Final = 0.05
"""Seconds between two reads that look whether the majority has a document."""

_REPETITION: Final = re.compile(r" \(configured timeouts: [^)]*\)|, Timeout: .*", re.DOTALL)
"""The parts that pymongo adds to each server's error: its timeouts, and at the end all errors again."""

_DUPLICATE: Final = 11000
_TOO_LARGE: Final = (10334, 17280)
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml: LockTimeout, MaxTimeMSExpired,
# WriteConcernFailed, ExceededTimeLimit, OutOfDiskSpace.
_TRANSIENT: Final = frozenset({24, 50, 64, 262, 14031})

Result = TypeVar("Result")


class BlockingCollection:
    """The collection of documents. All methods block until they are done or their *deadline* passes.

    They raise pymongo's exceptions. *deadline* is in the seconds of *clock*.
    """

    def __init__(self, documents: Collection[RawBSONDocument], clock: Clock) -> None:
        self.documents = documents
        self._majority = documents.with_options(read_concern=ReadConcern("majority"))
        self._clock = clock

    def insert(self, rows: Sequence[Row[bytes]], deadline: float) -> list[bytes | JobError]:
        """Insert *rows*; return one outcome per row: the stored document, or the error that prevented it."""
        documents = [RawBSONDocument(row.document) for row in rows]
        try:
            self._retry(lambda: self.documents.insert_many(documents, ordered=False), deadline, WRITE_TIMEOUT)
        except BulkWriteError as error:
            return self._outcomes(rows, error.details or {}, deadline)
        return [row.document for row in rows]

    def get(self, ids: Sequence[str], deadline: float) -> list[list[bytes]]:
        """Return, for each of *ids*, a list of its document, or an empty list."""
        found = self._retry(lambda: self._stored(self.documents, ids), deadline)
        return [[found[id]] if id in found else [] for id in ids]

    def find(self, search: Search, deadline: float) -> list[bytes]:
        """Return a page of the documents that *search* finds."""
        return self._retry(lambda: self._page(search), deadline)

    def _outcomes(
        self, rows: Sequence[Row[bytes]], details: Mapping[str, Any], deadline: float
    ) -> list[bytes | JobError]:
        errors = {error["index"]: error for error in details["writeErrors"]}
        # These are stored, by this attempt or an earlier one, but the majority may not have them yet.
        unsure = {index for index, error in errors.items() if error["code"] == _DUPLICATE}
        if details["writeConcernErrors"]:
            unsure |= set(range(len(rows))) - errors.keys()
        safe = self._wait_for_majority([rows[index].id for index in unsure], deadline)

        def outcome(index: int, row: Row[bytes]) -> bytes | JobError:
            if index in unsure:
                return safe.get(row.id) or StoreError(
                    "MongoDB: the document is stored, but not yet on the majority of the servers",
                    retryable=True,
                )
            error = errors.get(index)
            return _server_error(error["code"], error["errmsg"]) if error else row.document

        return [outcome(index, row) for index, row in enumerate(rows)]

    def _wait_for_majority(self, ids: Sequence[str], deadline: float) -> dict[str, bytes]:
        """Return the documents of *ids* by id when the majority has them all; at *deadline*, those that it has."""
        while True:
            safe = self._retry(lambda: self._stored(self._majority, ids), deadline)
            if len(safe) == len(set(ids)) or self._clock.seconds() + PAUSE >= deadline:
                return safe
            time.sleep(PAUSE)

    def _stored(self, documents: Collection[RawBSONDocument], ids: Sequence[str]) -> dict[str, bytes]:
        return {document[ID]: bytes(document.raw) for document in documents.find({ID: {"$in": ids}})}

    def _page(self, search: Search) -> list[bytes]:
        start = None if search.after is None else self._start(search)
        page: list[bytes] = []
        size = 0
        found = self.documents.find(search.filter(start), search.fields, sort=search.sort, limit=search.limit)
        with found:
            for document in found:
                page.append(bytes(document.raw))
                size += len(page[-1])
                if size >= MAX_PAGE:
                    break
        return page

    def _start(self, search: Search) -> Mapping[str, Any]:
        start = self.documents.find_one(search.start, [name for name, _ in search.sort])
        if start is None:
            raise BadRequest(
                f"after: no document with the id {search.after!r:.100} can be sorted: expected the id of one "
                "that this query has found"
            )
        return start

    def _retry(
        self, function: Callable[[], Result], deadline: float, longest: float = float("inf")
    ) -> Result:
        """Return what *function* returns; call it again when its connection breaks, until *deadline*.

        An attempt takes at most *longest* seconds. No pause is needed between attempts: pymongo looks for a server at
        most twice a second.
        """
        while True:
            left = deadline - self._clock.seconds()
            if left <= 0:
                raise NetworkTimeout("the deadline has passed")
            try:
                with pymongo.timeout(min(left, longest)):
                    return function()
            except AutoReconnect as error:
                if error.timeout and left <= longest:
                    raise


def to_store_error(error: Exception) -> StoreError:
    """Convert an exception of pymongo to the error that the caller of the store gets."""
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreError(
            f"MongoDB: no server answers: {_REPETITION.sub('', str(error)):.300}", retryable=True
        )
    if isinstance(error, PyMongoError) and error.timeout:
        return StoreTimeout(f"MongoDB: {error!s:.300}")
    if isinstance(error, OperationFailure):
        return _server_error(error.code or 0, str(error))
    return StoreError(f"MongoDB: {error!s:.300}", retryable=isinstance(error, AutoReconnect))


def _server_error(code: int, text: str) -> StoreError:
    if code in _TOO_LARGE:
        return DocumentTooLarge(f"MongoDB: {text:.300}")
    return StoreError(f"MongoDB: {text:.300}", retryable=code in _TRANSIENT)
