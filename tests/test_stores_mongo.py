from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from txmicro.stores import Store, open_store

from . import contract_store, mongo

_numbers = count()


def fresh() -> str:
    """The name of a database that nobody has used."""
    return f"test{next(_numbers)}"


class MongoTests(contract_store.StoreContract):
    def open(self) -> Deferred[Store[Any]]:
        return Deferred.fromCoroutine(self.opened())

    async def opened(self) -> Store[Any]:
        server = await mongo.require_mongo()
        return await open_store(server.url(fresh()), reactor, indexes=["title"], texts=["plot"])
