"""A worker that keeps documents for others, in the store that ``store_url`` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.task import deferLater

from txmicro.errors import BadRequest
from txmicro.protocol.messages import Job
from txmicro.stores import DocumentTooDeep, DocumentTooLarge, Store, StoreError, open_store
from txmicro.util.passwords import mask
from txmicro.worker import Worker

RETRY: Final = 2.0
"""Seconds between two attempts to open a store that may come back."""

MAX_LIMIT: Final = 1000
"""The most documents that one job may ask for."""

IN_MEMORY: Final = (
    "{worker} stores in memory: its documents are lost when the process ends, and no other process has them; "
    "store_url, or TXMICRO_STORE_URL in the environment, names a file or a database"
)

TROUBLE: Final = "{worker}: the store has not done job {job}, which fails: {reason}"


class DBWorker(Worker):
    """Stores and finds. A job's data is an object:

    - ``{"method": "POST", "params": document}`` stores; its result is the stored document with its ``id``. The
      document's key is ``job.key``, so a job that is done twice stores once;
    - ``{"method": "GET", "params": filters, "limit": 100, "after": id, "ranges": {"year": [1970, 1979]}, "words":
      {"plot": "alien ship"}, "fields": ["title"], "sort": ["-year"]}`` finds, as
      :meth:`txmicro.stores.Store.find` says; its result is a list. All but ``method`` may be left out.

    Anything else fails with :class:`~txmicro.errors.BadRequest`. What the store has not done by the job's deadline
    fails with :class:`~txmicro.stores.StoreTimeout`.

    :cvar type: give each collection of documents a type of its own.
    :cvar indexes: the fields that filters, ranges and sorting often name.
    :cvar texts: the fields whose words can be looked for.
    """

    type = "DB"
    indexes: Sequence[str] = ()
    texts: Sequence[str] = ()
    store: Store[Any]

    async def opened(self) -> None:
        """Open the store, and say where it is. A database that is not there is tried again until it is."""
        self.store = await self._open()
        if self.config.store_url == "sqlite://":
            self.log.warn(IN_MEMORY, worker=self.id)
        else:
            self.log.info("{worker} stores in {store}", worker=self.id, store=_place(self.config.store_url))

    async def _open(self) -> Store[Any]:
        while True:
            try:
                return await open_store(
                    self.config.store_url,
                    self.bus.clock,
                    indexes=self.indexes,
                    texts=self.texts,
                    capacity=self.config.capacity,
                )
            except StoreError as error:
                if not error.retryable:
                    raise
                reason = error.message
            text = "{worker} cannot open its store, and takes no jobs: {reason}; next attempt in {pause:g} s"
            self.log.warn(text, worker=self.id, reason=reason, pause=RETRY)
            await deferLater(self.bus.clock, RETRY)

    async def closed(self) -> None:
        """Close the store."""
        await self.store.close()

    async def do_job(self, job: Job) -> Any:
        """Store or find."""
        try:
            return await self._do(job)
        except (DocumentTooDeep, DocumentTooLarge):
            raise  # the sender's doing, not the store's
        except StoreError as error:
            self.log.error(TROUBLE, worker=self.id, job=job.id, reason=error.message, recurring=True)
            raise

    async def _do(self, job: Job) -> Any:
        method, params = _read(job.data)
        left = job.deadline - self.bus.clock.seconds()
        if method == "POST":
            return await self.store.insert(job.key, params, timeout=left)
        if method == "GET":
            return await self.store.find(params, **_options(job.data), timeout=left)
        raise BadRequest(f"method: {method!r:.100} is neither GET nor POST")


def _place(url: str) -> str:
    file = url.removeprefix("sqlite:///")
    return mask(url) if file == url else os.path.abspath(file)


def _read(data: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(data, dict):
        raise BadRequest(f"expected an object, got {type(data).__name__}")
    return data.get("method"), _mapping(data, "params")


def _options(data: dict[str, Any]) -> dict[str, Any]:
    limit, after = data.get("limit", 100), data.get("after")
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(f"limit: {limit!r:.100} is no number from 1 to {MAX_LIMIT}")
    if not isinstance(after, str | None):
        raise BadRequest(f"after: {after!r:.100} is no id")
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
