"""A worker that stores and finds documents, in the store that ``store_url`` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.task import deferLater

from txmicro.errors import BadRequest
from txmicro.protocol.job import Job
from txmicro.stores import DocumentTooDeep, DocumentTooLarge, Store, StoreError, open_store
from txmicro.util.passwords import mask
from txmicro.worker import Worker

OPEN_PAUSE: Final = 2.0
"""Seconds between two attempts to open a store."""

MAX_LIMIT: Final = 1000
"""The most documents in the result of one job."""

IN_MEMORY: Final = (
    "{worker} stores in memory: its documents are lost when the process ends, and no other process can read them; "
    "set store_url, or TXMICRO_STORE_URL in the environment, to a file or a database"
)

STORE_FAILED: Final = "{worker}: the store failed: {reason}; job {job} fails"


class DBWorker(Worker):
    """A document store for other workers. The data of a job is an object:

    - ``{"method": "POST", "params": document}`` stores a document. The result is the stored document with its ``id``.
      The document's key is ``job.key``, so a job that runs twice stores once.
    - ``{"method": "GET", "params": filters, "limit": 100, "after": id, "ranges": {"year": [1970, 1979]}, "words":
      {"plot": "alien ship"}, "fields": ["title"], "sort": ["-year"]}`` finds documents. The result is a list. All but
      ``method`` is optional. :meth:`txmicro.stores.Store.find` describes the options.

    A job with other data fails with :class:`~txmicro.errors.BadRequest`. A job whose deadline passes fails with
    :class:`~txmicro.stores.StoreTimeout`.

    :cvar type: the worker type. Set it where several stores have different documents.
    :cvar indexes: the fields that filters, ranges and sorting often use.
    :cvar texts: the fields that are searched by their words.
    """

    type = "DB"
    indexes: Sequence[str] = ()
    texts: Sequence[str] = ()
    store: Store[Any]

    async def opened(self) -> None:
        """Open the store. Retry every :data:`OPEN_PAUSE` seconds while a later attempt may succeed; otherwise raise."""
        self.store = await self._open()
        if self.config.store_url == "sqlite://":
            self.log.warn(IN_MEMORY, worker=self.id)
        else:
            self.log.info(
                "{worker} stores in {store}", worker=self.id, store=_describe(self.config.store_url)
            )

    async def _open(self) -> Store[Any]:
        while True:
            try:
                return await open_store(
                    self.config.store_url,
                    self.reactor,
                    indexes=self.indexes,
                    texts=self.texts,
                    capacity=self.config.capacity,
                    observer=self.metrics.record_store_operation,
                    tracer=self.bus.tracer,
                )
            except StoreError as error:
                if not error.retryable:
                    raise
                reason = error.message
            text = "{worker} cannot open its store: {reason}; it takes no jobs; next attempt in {pause:g} s"
            self.log.warn(text, worker=self.id, reason=reason, pause=OPEN_PAUSE)
            await deferLater(self.reactor, OPEN_PAUSE)

    async def closed(self) -> None:
        """Close the store."""
        await self.store.close()

    async def do_job(self, job: Job) -> Any:
        """Store a document or find some."""
        try:
            return await self._do(job)
        except (DocumentTooDeep, DocumentTooLarge):
            raise  # the sender is to blame, so no line in the log
        except StoreError as error:
            self.log.error(STORE_FAILED, worker=self.id, job=job.id, reason=error.message, recurring=True)
            raise

    async def _do(self, job: Job) -> Any:
        method, params = _read(job.data)
        left = job.deadline - self.reactor.seconds()
        if method == "POST":
            return await self.store.insert(job.key, params, timeout=left)
        if method == "GET":
            return await self.store.find(params, **_options(job.data), timeout=left)
        raise BadRequest(f"method: {method!r:.100} is not valid: expected GET or POST")


def _describe(url: str) -> str:
    """Return *url* without a password; the absolute path if it is a file."""
    file = url.removeprefix("sqlite:///")
    return mask(url) if file == url else os.path.abspath(file)


def _read(data: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(data, dict):
        raise BadRequest(f"expected an object, got {type(data).__name__}")
    return data.get("method"), _mapping(data, "params")


def _options(data: dict[str, Any]) -> dict[str, Any]:
    limit, after = data.get("limit", 100), data.get("after")
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(f"limit: {limit!r:.100} is not valid: expected a whole number from 1 to {MAX_LIMIT}")
    if not isinstance(after, str | None):
        raise BadRequest(f"after: {after!r:.100} is not an id: expected a text")
    return {
        "limit": limit,
        "after": after,
        "ranges": _mapping(data, "ranges"),
        "words": _mapping(data, "words"),
        "fields": data.get("fields"),
        "sort": data.get("sort", []),
    }


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name, {})
    if not isinstance(value, dict):
        raise BadRequest(f"{name}: expected an object, got {type(value).__name__}")
    return value
