"""Documents kept: what a store does, and how one is opened by its URL.

A document is a dict with text keys, of any values that JSON carries (:mod:`txmicro.protocol.codec`). A store gives it
an ``id``, which is made from the key of the job that inserts it. So the same job done twice, by two workers
or by one that crashed and came back, is one document with one id, and nobody has to hand out numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from .base import Store
from .errors import DocumentTooDeep, DocumentTooLarge, StoreError, StoreTimeout

__all__ = ["DocumentTooDeep", "DocumentTooLarge", "Store", "StoreError", "StoreTimeout", "open_store"]

_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def open_store(
    url: str, reactor: Any, *, indexes: Sequence[str] = (), texts: Sequence[str] = (), capacity: int = 100
) -> Deferred[Store[Any]]:
    """Open the store at *url*.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db`` and ``sqlite://``, which is in memory, are SQLite.
    ``mongodb://user:password@host/database`` and ``mongodb+srv://…`` are MongoDB, with all the `options
    <https://www.mongodb.com/docs/manual/reference/connection-string-options/>`_ that its URLs have.

    :param indexes: the fields that filters, ranges and sorting often name: finding by them does not read all
        documents. :param texts: the fields whose words can be looked for. Both have plain names, and what the
        database lacks for them is created.
    :param capacity: how many jobs run at once.

    Fires with the store; fails with :class:`StoreError`.
    """
    for name in [*indexes, *texts]:
        if not _FIELD.fullmatch(name):
            return fail(StoreError(f"cannot index {name!r:.100}: expected up to 64 letters, digits and _"))
    scheme = url.partition("://")[0]
    # A worker imports only the store that it uses.
    if scheme == "sqlite":
        from .sqlite import open_sqlite

        return open_sqlite(url, reactor, indexes=indexes, texts=texts)
    if scheme in ("mongodb", "mongodb+srv"):
        from .mongo import open_mongo

        return open_mongo(url, reactor, indexes=indexes, texts=texts, capacity=capacity)
    return fail(StoreError(f"store_url: no store is called {scheme!r:.40}; there are sqlite and mongodb"))
