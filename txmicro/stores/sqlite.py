"""Documents in SQLite, through :mod:`twisted.enterprise.adbapi`.

One table: ``sequence`` is the order of insertion, ``id`` a name-based UUID (version 5, :rfc:`9562`) of the
key, ``document`` the JSON that the codec writes, ``id`` included.

The file is in WAL mode, so reading and writing do not wait for each other, and ``synchronous=FULL``: what was
accepted survives a power cut. That costs one ``fsync`` per transaction, so all inserts that arrive while one
transaction is written share the next.

To a filter, a text ends at its first NUL and an integer of more than 64 bits is the nearest float, as SQLite
reads JSON like that. What is stored and given back has them whole.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Event
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from twisted.enterprise.adbapi import ConnectionPool, Transaction
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, fail, succeed

from txmicro import codec
from txmicro.errors import BadRequest, JobError

from . import Store, StoreError

READERS: Final = 3
"""How many finds run at once on a file; one more thread writes."""
PAGE: Final = 2**20
"""A find stops after this many characters of JSON, whatever its limit: the reactor stands still to read them."""
MAX_FILTERS: Final = 32
BUSY_TIMEOUT: Final = 5.0
"""How long to wait for another process that writes to the file, in seconds."""

# Of our own, drawn once; another one would give all documents other ids.
_NAMESPACE: Final = UUID("8a2e6d0c-5b7f-4b57-9c39-6f0f3f0b7f51")
_JSON: Final = codec.by_name("JSON")
_SCALARS: Final = (str, int, float, bytes, datetime, type(None))
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CHECK_EVERY: Final = 100_000  # steps of SQLite's machine, about a millisecond
_PASSING: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}

_CREATE: Final = """
    CREATE TABLE IF NOT EXISTS documents (
        sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL)
"""
_INSERT: Final = "INSERT INTO documents (id, document) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
_STORED: Final = "SELECT document FROM documents WHERE id = ?"
_PLACE: Final = "SELECT sequence FROM documents WHERE id = ?"

# A field's name is data here, like its value: nothing that a user sends becomes SQL, or a path into the JSON.
_EQUALS: Final = """EXISTS (
    SELECT 1 FROM json_each(document) AS field, json_each(?, '$.choices') AS choice
    WHERE field.key = ? AND field.value IS choice.value
        AND replace(field.type, 'integer', 'real') = replace(choice.type, 'integer', 'real'))
"""
_INDEXED: Final = "{column} IN (SELECT value FROM json_each(?, '$.choices'))"


class _Row(NamedTuple):
    """An insert that waits for the next transaction; ``stored`` is fired with the stored document's JSON."""

    id: str
    document: str
    stored: Deferred[Any]


class SQLiteStore:
    """Implements :class:`txmicro.stores.Store`; made by :func:`open_sqlite`."""

    def __init__(self, pool: ConnectionPool, readers: int, columns: Mapping[str, str]) -> None:
        self._pool = pool
        self._readers = readers
        self._reads = DeferredSemaphore(readers)
        self._columns = columns
        self._waiting: list[_Row] = []
        self._writer: Deferred[None] | None = None
        self._closed = False

    def insert(self, key: str, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Insert, as :meth:`Store.insert <txmicro.stores.Store.insert>` says."""
        try:
            self._check_open()
            row = _row(key, document)
        except JobError as error:
            return fail(error)
        self._waiting.append(row)
        if self._writer is None:
            self._writer = Deferred.fromCoroutine(self._write())
        return row.stored

    def find(
        self, filters: Mapping[str, Any], limit: int = 100, after: str | None = None
    ) -> Deferred[list[dict[str, Any]]]:
        """Find, as :meth:`Store.find <txmicro.stores.Store.find>` says."""
        return Deferred.fromCoroutine(self._find(filters, limit, after))

    def close(self) -> Deferred[None]:
        """Close, as :meth:`Store.close <txmicro.stores.Store.close>` says."""
        if self._closed:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._writer is not None:
            await self._writer
        for _ in range(self._readers):
            await self._reads.acquire()
        self._pool.close()  # joins its threads, which have nothing left to do

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", retryable=True)

    async def _write(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            try:
                documents = await self._pool.runInteraction(_insert, rows)
            except Exception as error:  # whatever it is, nobody may wait for ever
                for row in rows:
                    row.stored.errback(_typed(error))
            else:
                for row, document in zip(rows, documents, strict=True):
                    row.stored.callback(document)
        self._writer = None

    async def _find(self, filters: Mapping[str, Any], limit: int, after: str | None) -> list[dict[str, Any]]:
        self._check_open()
        conditions, values = self._conditions(filters)
        stop = Event()
        await self._reads.acquire()
        try:
            documents = await self._pool.runInteraction(_select, conditions, values, limit, after, stop)
        except sqlite3.Error as error:
            raise _typed(error) from error
        finally:
            stop.set()
            self._reads.release()
        return [_load(document) for document in documents]

    def _conditions(self, filters: Mapping[str, Any]) -> tuple[str, list[str]]:
        """The SQL that holds for documents that match *filters*, and its values."""
        if len(filters) > MAX_FILTERS:
            raise BadRequest(f"{len(filters)} filters: expected at most {MAX_FILTERS}")
        sql, values = "", []
        for name, value in filters.items():
            choices = _choices(name, value)
            wanted = _dump({"choices": choices})
            sql += f" AND {_EQUALS}"
            values += [wanted, name]
            if name in self._columns and None not in choices:  # NULL is never IN, so no index finds None
                sql += f" AND {_INDEXED.format(column=self._columns[name])}"
                values.append(wanted)
        return sql, values


def open_sqlite(
    url: str, reactor: Any, *, indexes: Sequence[str] = (), busy_timeout: float = BUSY_TIMEOUT
) -> Deferred[Store]:
    """Open the database at *url* and create what it lacks; *busy_timeout* in seconds.

    Fires with the store; fails with :class:`StoreError`. Cancelling leaves nothing open.
    """
    return Deferred.fromCoroutine(_open(url, reactor, indexes, busy_timeout))


async def _open(url: str, reactor: Any, indexes: Sequence[str], busy_timeout: float) -> Store:
    path, columns = _path(url), {"id": "id", **{name: _column(name) for name in indexes}}
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
        await pool.runInteraction(_create, [(name, _column(name)) for name in indexes])
    except CancelledError:
        pool.close()
        raise
    except Exception as error:
        pool.close()
        raise StoreError(f"store_url: cannot open {path}: {error}") from error
    return SQLiteStore(pool, readers or 1, columns)


def _path(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite" or (rest and not rest.startswith("/")) or rest == "/":
        raise StoreError(f"store_url: {url!r:.200} is not sqlite:///path, sqlite:////path or sqlite://")
    return rest[1:] or ":memory:"


def _column(field: str) -> str:
    """The SQL of a field; an index serves a query only if both have the same text."""
    if not _FIELD.fullmatch(field):
        raise StoreError(f"cannot index {field!r:.100}: expected up to 64 letters, digits and _")
    return f"json_extract(document, '$.{field}')"


def _row(key: str, document: Mapping[str, Any]) -> _Row:
    if "id" in document or not all(isinstance(name, str) for name in document):
        raise BadRequest("a field's name is text, and not 'id', which the store gives")
    name = str(uuid5(_NAMESPACE, key))
    stored: Deferred[str] = Deferred()
    return _Row(name, _dump({"id": name, **document}), stored.addCallback(_load))


def _choices(name: str, value: Any) -> list[Any]:
    choices = list(value) if isinstance(value, (list, tuple)) else [value]
    if not isinstance(name, str) or not all(isinstance(choice, _SCALARS) for choice in choices):
        raise BadRequest(f"filter {name!r:.100}: expected a scalar or a list of scalars, not {value!r:.100}")
    return choices


def _dump(value: dict[str, Any]) -> str:
    return _JSON.encode(value).decode()


def _load(text: str) -> dict[str, Any]:
    document: dict[str, Any] = _JSON.decode(text.encode())
    return document


def _typed(error: Exception) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without its extended part
    return StoreError(f"SQLite: {error}", retryable=code in _PASSING)


# These run in the pool's threads:


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")


def _create(transaction: Transaction, indexes: list[tuple[str, str]]) -> None:
    transaction.execute("PRAGMA journal_mode = WAL")
    transaction.execute(_CREATE)
    for name, column in indexes:
        transaction.execute(f"CREATE INDEX IF NOT EXISTS documents_{name} ON documents ({column})")


def _insert(transaction: Transaction, rows: list[_Row]) -> list[str]:
    return [_insert_one(transaction, row) for row in rows]


def _insert_one(transaction: Transaction, row: _Row) -> str:
    transaction.execute(_INSERT, (row.id, row.document))
    if transaction.rowcount:
        return row.document
    first: str = transaction.execute(_STORED, (row.id,)).fetchone()[0]
    return first


def _select(
    transaction: Transaction, conditions: str, values: list[str], limit: int, after: str | None, stop: Event
) -> list[str]:
    connection = transaction.connection
    connection.set_progress_handler(stop.is_set, _CHECK_EVERY)
    try:
        place = 0 if after is None else _place(transaction, after)
        transaction.execute(
            f"SELECT document FROM documents WHERE sequence > ?{conditions} ORDER BY sequence LIMIT ?",  # noqa: S608
            (place, *values, limit),
        )
        return _page(transaction)
    finally:
        connection.set_progress_handler(None, 0)


def _place(transaction: Transaction, after: str) -> int:
    row = transaction.execute(_PLACE, (after,)).fetchone()
    if row is None:
        raise BadRequest(f"after: no document has the id {after!r:.100}")
    return int(row[0])


def _page(transaction: Transaction) -> list[str]:
    page, size = [], 0
    for (document,) in iter(transaction.fetchone, None):
        page.append(document)
        size += len(document)
        if size >= PAGE:
            break
    return page
