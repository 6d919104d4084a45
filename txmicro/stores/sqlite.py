"""A document store in SQLite, with :mod:`twisted.enterprise.adbapi`.

The table ``documents`` has three columns. ``sequence`` is the order of insertion, and ``id`` a name-based UUID of the
key (version 5, :rfc:`9562`). ``document`` is the codec's JSON, with the ``id``. The table ``words`` has the index
terms.

The file is in WAL mode, so reads and writes do not wait for each other. With ``synchronous=FULL`` a stored document
survives a power failure, at the price of one ``fsync`` per transaction. So inserts that arrive while a transaction is
being written share the next one.

In queries, a text ends at its first NUL, and an integer of more than 64 bits is the nearest float: SQLite parses JSON
in this way. Documents are stored and returned unchanged.
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
from txmicro.protocol.codec.json import JSON

from .base import MAX_PAGE, Row, Store
from .errors import StoreError
from .executor import ThreadExecutor
from .query import Query
from .sqlite_query import Statement, index_key
from .text_index import index_terms

READERS: Final = 3
"""The most finds that run at once on a file. One more thread writes."""
GROW_AFTER: Final = 0.002
"""Seconds until a second thread reads, while finds wait: a hundred times as long as most finds take."""
BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that writes to the file."""

_CHECK_EVERY: Final = 100_000  # instructions of SQLite's virtual machine, about a millisecond
_TRANSIENT: Final = {
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
_INSERT_TERM: Final = "INSERT OR IGNORE INTO words (word, sequence) VALUES (?, ?)"
_STORED: Final = "SELECT document FROM documents WHERE id = ?"


class SQLiteStore(Store[str]):
    """A :class:`txmicro.stores.Store` in SQLite. :func:`open_sqlite` makes it."""

    kind = "sqlite"

    def __init__(
        self, pool: ConnectionPool, reactor: Any, readers: int, indexes: Sequence[str], texts: Sequence[str]
    ) -> None:
        super().__init__(reactor, texts)
        self._pool = pool
        self._readers = ThreadExecutor(reactor, pool.threadpool, readers, GROW_AFTER)
        self._keys = {"id": "id", **{name: index_key(name) for name in indexes}}

    def _encode(self, id: str, document: Mapping[str, Any]) -> tuple[str, set[str]]:
        return JSON.encode({"id": id, **document}).decode(), index_terms(document, self.texts)

    def _load(self, encoded: str) -> dict[str, Any]:
        return _load(encoded)

    def _insert(self, rows: Sequence[Row[str]]) -> Deferred[list[str | JobError]]:
        return self._pool.runInteraction(_insert, rows)  # type: ignore[no-any-return]

    def _find(self, query: Query, deadline: float) -> Deferred[list[dict[str, Any]]]:
        try:
            statement = Statement(query, self._keys)
        except JobError as error:  # a value cannot be encoded
            return fail(error)
        stop = Event()
        found = self._readers.call(self._search, statement, query.after, stop)
        return found.addBoth(_stopped, stop).addCallbacks(self._picked, self._failed, (query,))

    def _search(self, statement: Statement, after: str | None, stop: Event) -> list[str]:
        return _select(self._pool.connect(), statement, after, stop)

    def _picked(self, documents: Sequence[str], query: Query) -> list[dict[str, Any]]:
        return [query.pick(_load(document)) for document in documents]

    def _failed(self, failure: Failure) -> Failure:
        error = failure.value
        return Failure(self._to_error(error)) if isinstance(error, sqlite3.Error) else failure

    async def _close(self) -> None:
        await self._readers.when_idle()
        self._pool.close()  # joins its threads, which are idle

    def _to_error(self, error: Exception) -> StoreError:
        return StoreError(f"SQLite: {error}", retryable=_is_transient(error))


def open_sqlite(
    url: str,
    reactor: Any,
    *,
    indexes: Sequence[str] = (),
    texts: Sequence[str] = (),
    busy_timeout: float = BUSY_TIMEOUT,
) -> Deferred[Store[str]]:
    """Open the database at *url* and create the tables and indexes that it lacks.

    :param indexes: see :func:`~txmicro.stores.open_store`. :param texts: likewise.
    :param busy_timeout: seconds to wait for another process that writes to the file.

    Fires with the store. Fails with :class:`StoreError`; it is ``retryable`` where a later attempt may succeed.
    Canceling it closes what has been opened.
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
        raise StoreError(f"store_url: cannot open {path}: {error}", retryable=_is_transient(error)) from error
    return SQLiteStore(pool, reactor, readers or 1, indexes, texts)


def _is_transient(error: Exception) -> bool:
    """Return whether a later attempt may succeed, because the file is locked or the disk is full, for instance."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the extended code
    return code in _TRANSIENT


def _path(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite" or (rest and not rest.startswith("/")) or rest == "/":
        raise StoreError(
            f"store_url: {url!r:.200} is not valid: expected sqlite:///relative/path, sqlite:////absolute/path "
            "or sqlite:// (in memory)"
        )
    return rest[1:] or ":memory:"


def _stopped(outcome: Any, stop: Event) -> Any:
    """Stop the search, which a canceled find has left running; return *outcome*."""
    stop.set()
    return outcome


def _load(text: str) -> dict[str, Any]:
    document: dict[str, Any] = JSON.decode(text.encode())
    return document


# The functions below run in the threads of the pool.


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
    """Add the index terms of documents that were inserted before *field* became a text."""
    connection: sqlite3.Connection = transaction.connection
    for sequence, document in connection.execute("SELECT sequence, document FROM documents"):
        _insert_terms(transaction, sequence, index_terms(_load(document), [field]))


def _insert(transaction: Transaction, rows: Sequence[Row[str]]) -> list[str]:
    return [_insert_one(transaction, row) for row in rows]


def _insert_one(transaction: Transaction, row: Row[str]) -> str:
    transaction.execute(_INSERT, (row.id, row.document))
    if transaction.rowcount:
        if row.terms:
            _insert_terms(transaction, transaction.lastrowid, row.terms)
        return row.document
    transaction.execute(_STORED, (row.id,))
    return str(transaction.fetchone()[0])


def _insert_terms(transaction: Transaction, sequence: int, terms: set[str]) -> None:
    transaction.executemany(_INSERT_TERM, [(term, sequence) for term in terms])


def _select(
    connection: sqlite3.Connection, statement: Statement, after: str | None, stop: Event
) -> list[str]:
    connection.set_progress_handler(stop.is_set, _CHECK_EVERY)
    try:
        start = None if after is None else _start(connection, statement, after)
        return _page(connection.execute(*statement.select(start)))
    finally:
        connection.set_progress_handler(None, 0)


def _start(connection: sqlite3.Connection, statement: Statement, after: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(*statement.start()).fetchone()
    if row is None or b"" in row:
        raise BadRequest(
            f"after: no document with the id {after!r:.100} can be sorted: expected the id of one that this query "
            "has found"
        )
    return row


def _page(found: sqlite3.Cursor) -> list[str]:
    page, size = [], 0
    for (document,) in found:
        page.append(document)
        size += len(document)
        if size >= MAX_PAGE:
            break
    return page
