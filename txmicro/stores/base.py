"""The base of all stores: ids, limits, timeouts, and inserts in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid5

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from txmicro.errors import BadRequest, JobError
from txmicro.protocol.span import Span
from txmicro.protocol.tracer import Tracer
from txmicro.util.clock import Clock

from .batching import Batcher, Operation
from .errors import DocumentTooDeep, DocumentTooLarge, StoreError, StoreTimeout
from .query import Query, read_query
from .timeouts import TimeoutWheel

TIMEOUT: Final = 30.0
"""Seconds until an operation fails, unless the caller gives fewer."""
MAX_DOCUMENT: Final = 16 * 2**20
"""Bytes of the largest document, as the store encodes it: MongoDB's limit, applied by every store."""
MAX_DEPTH: Final = 100
"""Levels of the deepest document, itself included: MongoDB's limit, applied by every store."""
COLLECTION: Final = "documents"
"""The table or collection of the documents."""
MAX_PAGE: Final = 2**20
"""Bytes after which a find stops, whatever its limit: decoding them blocks the reactor."""

# A random UUID of this project. Another one would give all documents other ids.
_NAMESPACE: Final = UUID("8a2e6d0c-5b7f-4b57-9c39-6f0f3f0b7f51")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

Encoded = TypeVar("Encoded", str, bytes)

StoreObserver = Callable[[str, str, str, float], None]
"""Is called at the end of each operation with the store's kind, ``insert`` or ``find``, the outcome, and its seconds.

The outcome is ``succeeded``, ``canceled`` or the type of the error. It must not raise.
"""


class Row(Operation, Generic[Encoded]):
    """An insert that waits. ``done`` fires with the stored document, encoded."""

    __slots__ = ("document", "id", "terms")

    def __init__(self, id: str, document: Encoded, terms: set[str], deadline: float) -> None:
        super().__init__(deadline)
        self.id = id
        self.document: Encoded = document
        self.terms = terms


class Store(ABC, Generic[Encoded]):
    """A document store. All of its errors are a :class:`~txmicro.errors.JobError`.

    :param clock: measures deadlines. :param texts: the fields that are searched by their words.
    :cvar kind: the name of the database.
    :ivar observer: is told of each operation; None: nobody is.
    :ivar tracer: records a span for each operation; None: there are none.
    """

    kind: str
    observer: StoreObserver | None = None
    tracer: Tracer | None = None

    def __init__(self, clock: Clock, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._clock = clock
        self._timeouts = TimeoutWheel(clock)
        self._inserts: Batcher[Row[Encoded]] = Batcher(clock, self._insert, self._to_error)
        self._closed = False

    def insert(
        self, key: str, document: Mapping[str, Any], *, timeout: float = TIMEOUT
    ) -> Deferred[dict[str, Any]]:
        """Store *document* once per *key*, within *timeout* seconds.

        Fires with the stored document and its ``id`` when the document is durable: it survives the end of this process.
        If the key has been inserted before, nothing is stored and it fires with the first document of that key.

        Fails with :class:`~txmicro.errors.BadRequest` if a name is not text or the document has an ``id``, and with
        :class:`~txmicro.errors.EncodeError`, :class:`DocumentTooLarge` or :class:`DocumentTooDeep`. Fails with
        :class:`StoreTimeout`, in which case the document may have been stored, or another :class:`StoreError`.
        Canceling it ends only the wait.
        """
        began, span = self._clock.seconds(), self._begin("insert")
        inserted: Deferred[dict[str, Any]]
        try:
            self._check_open()
            row = self._row(key, document, self._deadline(timeout))
        except JobError as error:
            inserted = fail(error)
        else:
            self._inserts.add(row)
            inserted = self._timeouts.add(row.done, row.deadline).addCallback(self._load)
        return inserted.addBoth(self._observe, "insert", began, span)

    def find(
        self,
        filters: Mapping[str, Any] = _NOTHING,
        limit: int = 100,
        after: str | None = None,
        *,
        ranges: Mapping[str, Sequence[Any]] = _NOTHING,
        words: Mapping[str, str] = _NOTHING,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = (),
        timeout: float = TIMEOUT,
    ) -> Deferred[list[dict[str, Any]]]:
        """Find the documents that meet all conditions, within *timeout* seconds.

        :param filters: the values of top-level fields: a scalar, or a list of scalars of which one has to match. ``1``
            equals ``1.0``; ``True``, ``"1"`` and ``1`` differ. None matches a field that is None, not a missing one.
        :param ranges: the least and the greatest value of fields. Both are numbers, texts (compared by code points) or
            dates. One of them may be None.
        :param words: the words that fields have to contain, in any order and case. The store has to have been opened
            with these fields as ``texts``.
        :param fields: the fields to return besides ``id``; None: all.
        :param sort: the fields to sort by; a ``-`` in front of a name means descending. None and missing fields come
            first, then numbers, texts, False, True, dates. A document whose field has another type is not found.
            Equal documents are in the order of insertion, or in its reverse if the last of these fields is descending.
        :param limit: the most documents to return. :param after: the id of the last document of the page before.

        Fires with a list of at most *limit* documents, and fewer if they are large. They are in the order of insertion
        unless *sort* is given. An empty list is the end. Page by page, every document that existed at the beginning is
        found once.

        Fails with :class:`~txmicro.errors.BadRequest`, :class:`~txmicro.errors.EncodeError`, :class:`StoreTimeout` or
        another :class:`StoreError`. Canceling it stops the search.
        """
        began, span = self._clock.seconds(), self._begin("find")
        found: Deferred[list[dict[str, Any]]]
        try:
            self._check_open()
            deadline = self._deadline(timeout)
            query = read_query(
                filters, limit, after, ranges=ranges, words=words, fields=fields, sort=sort, texts=self.texts
            )
        except JobError as error:
            found = fail(error)
        else:
            found = self._timeouts.add(self._find(query, deadline), deadline)
        return found.addBoth(self._observe, "find", began, span)

    def close(self) -> Deferred[None]:
        """Finish the operations that have begun and close the database. Later operations fail.

        Fires with None when all of that is done. Canceling it does not stop the closing.
        """
        if self._closed:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        await self._inserts.when_idle()
        await self._close()
        self._timeouts.stop()

    def _begin(self, operation: str) -> Span | None:
        return None if self.tracer is None else self.tracer.store(self.kind, COLLECTION, operation)

    def _observe(self, result: Any, operation: str, began: float, span: Span | None) -> Any:
        """Tell the observer and the tracer how an operation has ended, and return *result*."""
        if span is not None:
            span.end(result.value if isinstance(result, Failure) else None)
        if self.observer is not None:
            self.observer(self.kind, operation, _outcome(result), self._clock.seconds() - began)
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", retryable=True)

    def _deadline(self, timeout: float) -> float:
        if not timeout > 0:
            raise StoreTimeout("the deadline had passed before the store was asked")
        return self._clock.seconds() + min(timeout, TIMEOUT)

    def _row(self, key: str, document: Mapping[str, Any], deadline: float) -> Row[Encoded]:
        if "id" in document or not all(isinstance(name, str) for name in document):
            raise BadRequest("the names of fields must be texts other than 'id', which the store sets")
        name = str(uuid5(_NAMESPACE, key))
        encoded, terms = self._encode(name, document)
        if len(encoded) > MAX_DOCUMENT:
            raise DocumentTooLarge(f"the document has {len(encoded)} bytes: expected at most {MAX_DOCUMENT}")
        _check_depth(document)
        return Row(name, encoded, terms, deadline)

    @abstractmethod
    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[Encoded, set[str]]:
        """Return *document* as it is stored, and its index terms. Raise EncodeError if it cannot be encoded."""

    @abstractmethod
    def _load(self, encoded: Encoded) -> dict[str, Any]:
        """Return the document that was encoded, with its ``id``."""

    @abstractmethod
    def _insert(self, rows: Sequence[Row[Encoded]]) -> Deferred[list[Encoded | JobError]]:
        """Store *rows*. Fires with one outcome per row: the stored document, or the error that prevented it."""

    @abstractmethod
    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        """Fire with the documents that *query* finds. The Deferred is canceled at *deadline*."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the database. No insert is running."""

    @abstractmethod
    def _to_error(self, error: Exception) -> StoreError:
        """Convert an exception of the database's client to the error that the caller gets."""


def _outcome(result: Any) -> str:
    if not isinstance(result, Failure):
        return "succeeded"
    error: Any = result.value
    if isinstance(error, CancelledError):
        return "canceled"
    return error.type if isinstance(error, JobError) else type(error).__name__


def _check_depth(document: Mapping[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [item for held in level for item in _items(held) if isinstance(item, (Mapping, list, tuple))]
        if not level:
            return
    raise DocumentTooDeep(f"the document is nested more than {MAX_DEPTH} levels deep: expected fewer")


def _items(held: Any) -> Any:
    return held.values() if isinstance(held, Mapping) else held
