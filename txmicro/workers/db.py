"""A worker that keeps documents for others, in the store that ``store_url`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from txmicro.errors import BadRequest
from txmicro.messages import Job
from txmicro.stores import Store, open_store
from txmicro.worker import Worker

MAX_LIMIT: Final = 1000
"""The most documents that one job may ask for."""


class DBWorker(Worker):
    """Stores and finds. A job's data is an object:

    - ``{"method": "POST", "params": document}`` stores; its result is the stored document with its ``id``. The
      document's key is ``job.key``, so a job that is done twice stores once;
    - ``{"method": "GET", "params": filters, "limit": 100, "after": id}`` finds, as
      :meth:`txmicro.stores.Store.find` says; its result is a list. All but ``method`` may be left out.

    Anything else fails with :class:`~txmicro.errors.BadRequest`.

    :cvar indexes: the fields that filters often name.
    """

    type = "WB"
    indexes: Sequence[str] = ()
    store: Store

    async def opened(self) -> None:
        """Open the store."""
        self.store = await open_store(self.config.store_url, self.bus.clock, indexes=self.indexes)

    async def closed(self) -> None:
        """Close the store."""
        await self.store.close()

    async def do_job(self, job: Job) -> Any:
        """Store or find."""
        method, params, limit, after = _read(job.data)
        if method == "POST":
            return await self.store.insert(job.key, params)
        if method == "GET":
            return await self.store.find(params, limit, after)
        raise BadRequest(f"method: {method!r:.100} is neither GET nor POST")


def _read(data: Any) -> tuple[Any, dict[str, Any], int, str | None]:
    if not isinstance(data, dict):
        raise BadRequest(f"expected an object, got {type(data).__name__}")
    params, limit, after = data.get("params", {}), data.get("limit", 100), data.get("after")
    if not isinstance(params, dict):
        raise BadRequest(f"params: expected an object, got {type(params).__name__}")
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(f"limit: {limit!r:.100} is no number from 1 to {MAX_LIMIT}")
    if not isinstance(after, str | None):
        raise BadRequest(f"after: {after!r:.100} is no id")
    return data.get("method"), params, limit, after
