"""What every store does alike: ids, limits, deadlines, and writing together what arrives together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid5

from twisted.internet.defer import Deferred, fail, succeed

from txmicro.errors import BadRequest, JobError
from txmicro.util.clock import Clock

from .deadlines import Deadlines
from .errors import DocumentTooDeep, DocumentTooLarge, StoreError, StoreTimeout
from .query import Query, read_query
from .together import Together, Waiting

TIMEOUT: Final = 30.0
"""How long anything may take, in seconds, if it is not said."""
MAX_DOCUMENT: Final = 16 * 2**20
"""The largest document in bytes, as the store writes it: MongoDB's limit, kept by every store."""
MAX_DEPTH: Final = 100
"""How deep a document is nested at most, itself included: MongoDB's limit, kept by every store."""
PAGE: Final = 2**20
"""A find stops after this many bytes, whatever its limit: the reactor stands still to read them."""

# Of our own, drawn once; another one would give all documents other ids.
_NAMESPACE: Final = UUID("8a2e6d0c-5b7f-4b57-9c39-6f0f3f0b7f51")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

Encoded = TypeVar("Encoded", str, bytes)


class Row(Waiting, Generic[Encoded]):
    """An insert that waits; ``done`` is fired with the stored document, encoded."""

    __slots__ = ("document", "entries", "id")

    def __init__(self, id: str, document: Encoded, entries: set[str], deadline: float) -> None:
        super().__init__(deadline)
        self.id = id
        self.document: Encoded = document
        self.entries = entries


class Store(ABC, Generic[Encoded]):
    """Where documents are. All of its errors are a :class:`~txmicro.errors.JobError`.

    :param clock: for deadlines. :param texts: the fields whose words can be looked for.
    """

    def __init__(self, clock: Clock, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._clock = clock
        self._deadlines = Deadlines(clock)
        self._inserts: Together[Row[Encoded]] = Together(clock, self._insert, self._typed)
        self._closed = False

    def insert(
        self, key: str, document: Mapping[str, Any], *, timeout: float = TIMEOUT
    ) -> Deferred[dict[str, Any]]:
        """Store *document*, once for each *key*, within *timeout* seconds.

        Fires with the stored document and its ``id`` when it is safe: it survives the end of this process. A
        key that was inserted before stores nothing, and fires with the first document of that key. Fails with
        :class:`~txmicro.errors.BadRequest` (names that are not text, an ``id`` of its own),
        :class:`~txmicro.errors.EncodeError`, :class:`DocumentTooLarge`, :class:`DocumentTooDeep`,
        :class:`StoreTimeout` (it may be stored) or another :class:`StoreError`. Cancelling stops only the wait.
        """
        try:
            self._check_open()
            row = self._row(key, document, self._deadline(timeout))
        except JobError as error:
            return fail(error)
        self._inserts.add(row)
        return self._deadlines.keep(row.done, row.deadline).addCallback(self._load)

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
        """Find documents for which all of this holds, within *timeout* seconds.

        :param filters: fields of the document's top level, and the scalar that each has to be, or a list of
            scalars of which it has to be one. ``1`` equals ``1.0``; ``True``, ``"1"`` and ``1`` differ; None finds
            a field that is None, not one that is missing.
        :param ranges: fields, and a list of the least and the greatest value of each. Both are numbers, texts (by
            code points) or dates; one may be None.
        :param words: fields, of those that the store was opened with as ``texts``, and the words that each has to
            have, in any order and case.
        :param fields: which fields to give back besides ``id``; None: all.
        :param sort: fields to sort by, those with a ``-`` in front from the greatest down. None and fields that
            are missing come first, then numbers, texts, False, True, dates. Documents where such a field is
            something else have no place in that order and are not found. What is equal is in the order of
            insertion, or in the reverse of it if the last of these fields descends.
        :param limit: how many documents at most. :param after: the id of the document that they come after.

        Fires with a list of at most *limit* documents, of fewer when they are large, in the order of their
        insertion unless *sort* says otherwise; the empty list is the end. Page by page, every document that
        was there from the beginning is found once. Fails with :class:`~txmicro.errors.BadRequest`,
        :class:`~txmicro.errors.EncodeError`, :class:`StoreTimeout` or another :class:`StoreError`. Cancelling
        stops the search.
        """
        try:
            self._check_open()
            deadline = self._deadline(timeout)
            query = read_query(
                filters, limit, after, ranges=ranges, words=words, fields=fields, sort=sort, texts=self.texts
            )
        except JobError as error:
            return fail(error)
        return self._deadlines.keep(self._find(query, deadline), deadline)

    def close(self) -> Deferred[None]:
        """Finish what has begun and let go of everything; what comes later fails. Fires when it is done."""
        if self._closed:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        await self._inserts.idle()
        await self._close()
        self._deadlines.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", retryable=True)

    def _deadline(self, timeout: float) -> float:
        if not timeout > 0:
            raise StoreTimeout("there is no time left")
        return self._clock.seconds() + min(timeout, TIMEOUT)

    def _row(self, key: str, document: Mapping[str, Any], deadline: float) -> Row[Encoded]:
        if "id" in document or not all(isinstance(name, str) for name in document):
            raise BadRequest("a field's name is text, and not 'id', which the store gives")
        name = str(uuid5(_NAMESPACE, key))
        encoded, entries = self._encode(name, document)
        if len(encoded) > MAX_DOCUMENT:
            raise DocumentTooLarge(f"the document has {len(encoded)} bytes: expected at most {MAX_DOCUMENT}")
        _check_depth(document)
        return Row(name, encoded, entries, deadline)

    @abstractmethod
    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[Encoded, set[str]]:
        """The document as it is stored, and what words it is found by; raises EncodeError."""

    @abstractmethod
    def _load(self, encoded: Encoded) -> dict[str, Any]:
        """The document that was encoded, with its ``id``."""

    @abstractmethod
    def _insert(self, rows: Sequence[Row[Encoded]]) -> Deferred[list[Encoded | JobError]]:
        """Store *rows*; fires with the outcome of each: the stored document, or why it is not stored."""

    @abstractmethod
    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        """Find; the Deferred is cancelled at *deadline* if it has not ended by itself."""

    @abstractmethod
    async def _close(self) -> None:
        """Let go of everything; nothing is written any more."""

    @abstractmethod
    def _typed(self, error: Exception) -> StoreError:
        """What *error*, of the database, is to whoever asked."""


def _check_depth(document: Mapping[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [item for held in level for item in _items(held) if isinstance(item, (Mapping, list, tuple))]
        if not level:
            return
    raise DocumentTooDeep(f"the document is nested more than {MAX_DEPTH} levels deep")


def _items(held: Any) -> Any:
    return held.values() if isinstance(held, Mapping) else held
