"""Documents in SQLite, through :mod:`twisted.enterprise.adbapi`.

One table: ``sequence`` is the order of insertion, ``id`` a name-based UUID (version 5, :rfc:`9562`) of the
key, ``document`` the JSON that the codec writes, ``id`` included. Another one has the words of texts.

The file is in WAL mode, so reading and writing do not wait for each other, and ``synchronous=FULL``: what was
accepted survives a power cut. That costs one ``fsync`` per transaction, so all inserts that arrive while one
transaction is written share the next.

To a query, a text ends at its first NUL, and an integer of more than 64 bits is the nearest float, as SQLite
reads JSON like that. What is stored and given back has them whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any, Final

from twisted.enterprise.adbapi import ConnectionPool, Transaction
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.python.failure import Failure

from txmicro.errors import BadRequest, JobError
from txmicro.protocol import codec

from .base import PAGE, Row, Store
from .errors import StoreError
from .lanes import Lanes
from .query import Query
from .sqlite_query import Statement, index_key
from .words import entries

READERS: Final = 3
"""How many finds run at once on a file; one more thread writes."""
PATIENCE: Final = 0.002
"""How long one thread may have the finds for itself, in seconds: most take a hundredth of it."""
BUSY_TIMEOUT: Final = 5.0
"""How long to wait for another process that writes to the file, in seconds."""

_CHECK_EVERY: Final = 100_000  # steps of SQLite's machine, about a millisecond
_PASSING: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}

_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS documents"
    " (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS words (word TEXT, sequence INTEGER, PRIMARY KEY (word, sequence)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS texts (field TEXT PRIMARY KEY) WITHOUT ROWID",
)
_INSERT: Final = "INSERT INTO documents (id, document) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
_INSERT_WORD: Final = "INSERT OR IGNORE INTO words (word, sequence) VALUES (?, ?)"
_STORED: Final = "SELECT document FROM documents WHERE id = ?"


class SQLiteStore(Store[str]):
    """Implements :class:`txmicro.stores.Store`; made by :func:`open_sqlite`."""

    def __init__(
        self, pool: ConnectionPool, reactor: Any, readers: int, indexes: Sequence[str], texts: Sequence[str]
    ) -> None:
        super().__init__(reactor, texts)
        self._pool = pool
        self._reading = Lanes(reactor, pool.threadpool, readers, PATIENCE)
        self._keys = {"id": "id", **{name: index_key(name) for name in indexes}}

    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[str, set[str]]:
        return codec.JSON.encode({"id": id, **document}).decode(), entries(document, self.texts)

    def _load(self, encoded: str) -> dict[str, Any]:
        return _load(encoded)

    def _insert(self, rows: Sequence[Row[str]]) -> Deferred[list[str | JobError]]:
        return self._pool.runInteraction(_insert, rows)  # type: ignore[no-any-return]

    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        try:
            statement = Statement(query, self._keys)
        except JobError as error:  # it says what cannot be looked for
            return fail(error)
        stop = Event()
        found = self._reading.call(self._search, statement, query.after, stop)
        return found.addBoth(_stopped, stop).addCallbacks(self._picked, self._failed, (query,))

    def _search(self, statement: Statement, after: str | None, stop: Event) -> list[str]:
        return _select(self._pool.connect(), statement, after, stop)

    def _picked(self, documents: Sequence[str], query: Query) -> list[dict[str, Any]]:
        return [query.pick(_load(document)) for document in documents]

    def _failed(self, failure: Failure) -> Failure:
        error = failure.value
        return Failure(self._typed(error)) if isinstance(error, sqlite3.Error) else failure

    async def _close(self) -> None:
        await self._reading.idle()
        self._pool.close()  # joins its threads, which have nothing left to do

    def _typed(self, error: Exception) -> StoreError:
        return StoreError(f"SQLite: {error}", retryable=_passes(error))


def open_sqlite(
    url: str,
    reactor: Any,
    *,
    indexes: Sequence[str] = (),
    texts: Sequence[str] = (),
    busy_timeout: float = BUSY_TIMEOUT,
) -> Deferred[Store[str]]:
    """Open the database at *url* and create what it lacks; *busy_timeout* in seconds.

    Fires with the store; fails with :class:`StoreError`, ``retryable`` where that may pass. Cancelling leaves
    nothing open.
    """
    return Deferred.fromCoroutine(_open(url, reactor, indexes, texts, busy_timeout))


async def _open(
    url: str, reactor: Any, indexes: Sequence[str], texts: Sequence[str], busy_timeout: float
) -> Store[str]:
    path = _path(url)
    readers = 0 if path == ":memory:" else READERS  # in memory, one connection is the whole database
    pool = ConnectionPool(
        "sqlite3",
        path,
        timeout=busy_timeout,
        check_same_thread=False,  # the pool opens connections in its threads and closes them in the reactor's
        cp_min=1,
        cp_max=1 + readers,
        cp_openfun=_prepare,
        cp_reactor=reactor,
    )
    try:
        await pool.runInteraction(_create, indexes, texts)
    except CancelledError:
        pool.close()
        raise
    except Exception as error:
        pool.close()
        raise StoreError(f"store_url: cannot open {path}: {error}", retryable=_passes(error)) from error
    return SQLiteStore(pool, reactor, readers or 1, indexes, texts)


def _passes(error: Exception) -> bool:
    """Whether *error* may pass: another process has the file, the disk is full, …"""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without its extended part
    return code in _PASSING


def _path(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite" or (rest and not rest.startswith("/")) or rest == "/":
        raise StoreError(f"store_url: {url!r:.200} is not sqlite:///path, sqlite:////path or sqlite://")
    return rest[1:] or ":memory:"


def _stopped(outcome: Any, stop: Event) -> Any:
    """Whoever searches may stop: there is an outcome, or nobody waits for it any more."""
    stop.set()
    return outcome


def _load(text: str) -> dict[str, Any]:
    document: dict[str, Any] = codec.JSON.decode(text.encode())
    return document


# These run in the pool's threads:


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")


def _create(transaction: Transaction, indexes: Sequence[str], texts: Sequence[str]) -> None:
    transaction.execute("PRAGMA journal_mode = WAL")
    for statement in _CREATE:
        transaction.execute(statement)
    for name in indexes:
        transaction.execute(f"CREATE INDEX IF NOT EXISTS by_{name} ON documents ({index_key(name)})")
    for name in texts:
        transaction.execute("INSERT OR IGNORE INTO texts (field) VALUES (?)", (name,))
        if transaction.rowcount:
            _index_text(transaction, name)


def _index_text(transaction: Transaction, field: str) -> None:
    """Write down the words of documents that were inserted before anybody looked for words in *field*."""
    connection: sqlite3.Connection = transaction.connection
    for sequence, document in connection.execute("SELECT sequence, document FROM documents"):
        _insert_words(transaction, sequence, entries(_load(document), [field]))


def _insert(transaction: Transaction, rows: Sequence[Row[str]]) -> list[str]:
    return [_insert_one(transaction, row) for row in rows]


def _insert_one(transaction: Transaction, row: Row[str]) -> str:
    transaction.execute(_INSERT, (row.id, row.document))
    if transaction.rowcount:
        if row.entries:
            _insert_words(transaction, transaction.lastrowid, row.entries)
        return row.document
    transaction.execute(_STORED, (row.id,))
    return str(transaction.fetchone()[0])


def _insert_words(transaction: Transaction, sequence: int, words: set[str]) -> None:
    transaction.executemany(_INSERT_WORD, [(word, sequence) for word in words])


def _select(
    connection: sqlite3.Connection, statement: Statement, after: str | None, stop: Event
) -> list[str]:
    connection.set_progress_handler(stop.is_set, _CHECK_EVERY)
    try:
        place = None if after is None else _place(connection, statement, after)
        return _page(connection.execute(*statement.select(place)))
    finally:
        connection.set_progress_handler(None, 0)


def _place(connection: sqlite3.Connection, statement: Statement, after: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(*statement.place()).fetchone()
    if row is None or b"" in row:
        raise BadRequest(f"after: no document with the id {after!r:.100} has a place in this order")
    return row


def _page(found: sqlite3.Cursor) -> list[str]:
    page, size = [], 0
    for (document,) in found:
        page.append(document)
        size += len(document)
        if size >= PAGE:
            break
    return page
