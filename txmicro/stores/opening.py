"""Opens the store that a URL names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from txmicro.protocol.tracer import Tracer

from .base import Store, StoreObserver
from .errors import StoreError

_INDEXABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def open_store(
    url: str,
    reactor: Any,
    *,
    indexes: Sequence[str] = (),
    texts: Sequence[str] = (),
    capacity: int = 100,
    observer: StoreObserver | None = None,
    tracer: Tracer | None = None,
) -> Deferred[Store[Any]]:
    """Open the store at *url*.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db`` and ``sqlite://`` (in memory) are SQLite.
    ``mongodb://user:password@host/database`` and ``mongodb+srv://…`` are MongoDB, with all the `options
    <https://www.mongodb.com/docs/manual/reference/connection-string-options/>`_ of such URLs.

    :param indexes: the fields that filters, ranges and sorting often use. An index spares them a scan of all documents.
    :param texts: the fields that are searched by their words. These names and those of *indexes* consist of letters,
        digits and ``_``. The store creates the indexes that the database lacks.
    :param capacity: how many jobs run at once.
    :param observer: is told of each operation, as ``metrics.record_store_operation`` of a worker; None: nobody is.
    :param tracer: records a span for each operation, as ``bus.tracer`` of a worker; None: there are none.

    Fires with the store. Fails with :class:`StoreError`; it is ``retryable`` where a later attempt may succeed.
    Canceling it closes what has been opened.
    """

    def opened(store: Store[Any]) -> Store[Any]:
        store.observer = observer
        store.tracer = tracer
        return store

    return _open(url, reactor, indexes, texts, capacity).addCallback(opened)


def _open(
    url: str, reactor: Any, indexes: Sequence[str], texts: Sequence[str], capacity: int
) -> Deferred[Store[Any]]:
    for name in [*indexes, *texts]:
        if not _INDEXABLE.fullmatch(name):
            return fail(
                StoreError(
                    f"cannot index the field {name!r:.100}: expected a letter and up to 63 letters, digits and _"
                )
            )
    scheme = url.partition("://")[0]
    # A process imports only the database client that it uses.
    if scheme == "sqlite":
        from .sqlite import open_sqlite

        return open_sqlite(url, reactor, indexes=indexes, texts=texts)
    if scheme in ("mongodb", "mongodb+srv"):
        from .mongo import open_mongo

        return open_mongo(url, reactor, indexes=indexes, texts=texts, capacity=capacity)
    return fail(
        StoreError(
            f"store_url: the scheme {scheme!r:.40} is unknown: expected sqlite, mongodb or mongodb+srv, "
            "as in sqlite:///movies.db"
        )
    )
