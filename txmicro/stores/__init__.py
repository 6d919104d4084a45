"""Documents kept: what a store does, and how one is opened by its URL.

A document is a dict with text keys, of any values that JSON carries (:mod:`txmicro.codec`). A store gives it
an ``id``, which is made from the key of the job that inserts it. So the same job done twice, by two workers
or by one that crashed and came back, is one document with one id, and nobody has to hand out numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail

from txmicro.errors import JobError


class StoreError(JobError):
    """The store did not do it; ``retryable`` where that may pass: a locked file, a full disk."""


class Store(Protocol):
    """Where documents are. All of its errors are a :class:`~txmicro.errors.JobError`."""

    def insert(self, key: str, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Store *document*, once for each *key*.

        Fires with the stored document and its ``id`` when it is safe: it survives the end of this process. A
        key that was inserted before stores nothing, and fires with the first document of that key. Fails with
        :class:`~txmicro.errors.BadRequest` (names that are not text, an ``id`` of its own),
        :class:`~txmicro.errors.EncodeError` or :class:`StoreError`. Cancelling stops only the wait.
        """
        ...

    def find(
        self, filters: Mapping[str, Any], limit: int = 100, after: str | None = None
    ) -> Deferred[list[dict[str, Any]]]:
        """Find documents whose fields equal *filters*, in the order of their insertion.

        A filter is a field of the document's top level and the scalar that it has to be, or a list of scalars
        of which it has to be one. ``1`` equals ``1.0``; ``True``, ``"1"`` and ``1`` differ; None finds a
        field that is None, not one that is missing.

        Fires with a list of at most *limit* documents, of fewer when they are large. It goes on behind the
        document whose id is *after*; the empty list is the end. Fails with
        :class:`~txmicro.errors.BadRequest` (a filter that is no scalar, too many, an unknown *after*),
        :class:`~txmicro.errors.EncodeError` or :class:`StoreError`. Cancelling stops the search.
        """
        ...

    def close(self) -> Deferred[None]:
        """Finish what has begun and let go of everything; what comes later fails. Fires when it is done."""
        ...


def open_store(url: str, reactor: Any, *, indexes: Sequence[str] = ()) -> Deferred[Store]:
    """Open the store at *url*: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``sqlite://``.

    The last one is in memory. *indexes* are the fields that filters often name: finding by them does not read
    all documents.

    Fires with the store; fails with :class:`StoreError`.
    """
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        from .sqlite import open_sqlite  # a worker imports only the store that it uses

        return open_sqlite(url, reactor, indexes=indexes)
    return fail(StoreError(f"store_url: no store is called {scheme!r:.40}; there is sqlite"))
