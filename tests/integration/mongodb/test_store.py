from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.contract import store as contract_store
from tests.faults.proxy import Proxy
from tests.support import mongo
from tests.support.certificates import Authority
from tests.support.rabbitmq import HOST, free_port
from txmicro.stores import DocumentTooLarge, Store, StoreError, StoreTimeout, mongo_client, open_store
from txmicro.stores.mongo import MongoStore, open_mongo
from txmicro.stores.mongo_collection import to_store_error
from txmicro.stores.mongo_query import OWN, original_name, stored_name

reactor: Any = _reactor
_numbers = count()


def fresh() -> str:
    """Return the name of a new database."""
    return f"test{next(_numbers)}"


class MongoTests(contract_store.StoreContract):
    def open(self) -> Deferred[Store[Any]]:
        return Deferred.fromCoroutine(self.opened())

    async def opened(self) -> Store[Any]:
        server = await mongo.require_mongo()
        return await open_store(server.url(fresh()), reactor, indexes=["title"], texts=["plot"])


class NameTests(SynchronousTestCase):
    def test_no_stored_name_is_an_operator_a_path_or_a_name_of_the_store(self) -> None:
        names = [
            *contract_store.INJECTIONS,
            *OWN,
            "%",
            "%24",
            "a\0",
            "\n",
            "$\n",
            "a\n.b",
            "_ids",
            "x_id",
            "%a.b",
        ]
        for name in names:
            stored = stored_name(name)
            self.assertNotIn(stored, OWN)
            self.assertFalse(stored.startswith("$"))
            self.assertFalse(set(stored) & {".", "\0"})
            self.assertEqual(original_name(stored), name)
        self.assertEqual(len({stored_name(name) for name in names}), len(set(names)))

    def test_other_names_are_stored_unchanged(self) -> None:
        for name in ("title", "Größe", "a b", "_x", "_idea", "a$b", "x$"):
            self.assertEqual(stored_name(name), name)


class MongoTestCase(TestCase):
    """The base of tests that open stores on the shared server, or on one of their own."""

    timeout = 60
    server: mongo.Server
    url: str

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.server = await mongo.require_mongo()
        self.url = self.server.url(fresh())

    async def open(self, url: str = "", **options: Any) -> MongoStore:
        store = await open_mongo(url or self.url, reactor, **options)
        self.addCleanup(store.close)
        self.assertIsInstance(store, MongoStore)
        return store  # type: ignore[return-value]

    def in_thread(self, ask: Callable[[Any], Any], url: str = "") -> Deferred[Any]:
        def call() -> Any:
            with MongoClient[Any](url or self.url) as client:
                return ask(client.get_default_database())

        return deferToThread(call)


class OpenTests(MongoTestCase):
    async def refused(self, url: str, **options: Any) -> StoreError:
        with self.assertRaises(StoreError) as raised:
            await open_mongo(url, reactor, **options)
        self.assertEqual(mongo_client._clients, {})
        error: StoreError = raised.exception
        return error

    async def test_a_wrong_url_is_refused_without_its_secrets(self) -> None:
        for url in (
            "mongodb://me:s3cret/x@host",
            "mongodb://me:s3c@ret@host",
            "mongodb://me:?s3cret@host",
            "mongodb://host/?s3cret=1",
            "mongodb://host/?w=s3cret&s3cret",
            "mongodb://me:pw@host:s3cret/x",
            "mongodb://host/s3 cret",
            "mongodb://",
            "mongodb:///x",
        ):
            error = await self.refused(url)
            self.assertIn("store_url", str(error))
            self.assertNotIn("s3c", str(error))
            self.assertFalse(error.retryable)

    async def test_an_unreachable_server_is_waited_for_until_the_timeout(self) -> None:
        url = f"mongodb://me:s3cret@{HOST}:{free_port()}/x"
        error = await self.refused(url, timeout=0.3)
        self.assertIn("no server", str(error))
        self.assertNotIn("s3cret", str(error))
        self.assertTrue(error.retryable)

    async def test_a_refused_login_is_an_error_without_its_password(self) -> None:
        error = await self.refused(self.url.replace("//", "//me:s3cret@"), timeout=5)
        self.assertIn("store_url", str(error))
        self.assertNotIn("s3cret", str(error))

    async def test_opening_can_be_canceled(self) -> None:
        opening = open_mongo(f"mongodb://{HOST}:{free_port()}/x", reactor, timeout=0.3)
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        self.assertEqual(mongo_client._clients, {})

    async def test_stores_of_a_process_share_a_client_until_the_last_is_closed(self) -> None:
        first, second = await self.open(), await self.open()
        (client,) = mongo_client._clients.values()
        await first.close()
        await second.insert("k/0", {"n": 1})
        self.assertEqual(list(mongo_client._clients.values()), [client])
        await second.close()
        self.assertEqual(mongo_client._clients, {})

    async def test_a_write_is_confirmed_by_the_majority_unless_the_url_says_otherwise(self) -> None:
        for options, concern in (("", "majority"), ("w=1", 1)):
            store = await self.open(self.server.url(fresh(), options))
            self.assertEqual(store._collection.documents.write_concern.document["w"], concern)

    async def test_the_indexes_of_the_worker_are_created(self) -> None:
        for _ in range(2):
            await self.open(indexes=["title", "year"], texts=["plot"])
        keys = await self.in_thread(lambda database: [i["key"] for i in database.documents.list_indexes()])
        expected = [
            ["_id"],
            ["_order", "_id"],
            ["_words"],
            ["title", "_order", "_id"],
            ["year", "_order", "_id"],
        ]
        self.assertEqual(sorted(map(list, keys)), expected)

    async def test_texts_inserted_before_the_index_are_found_by_their_words(self) -> None:
        before = await self.open()
        await gatherResults([before.insert(f"k/{n}", {"n": n, "plot": f"word{n}"}) for n in range(3)])
        store = await self.open(texts=["plot"])
        await store.insert("k/3", {"n": 3, "plot": "word1"})
        found = await store.find({}, words={"plot": "word1"}, fields=["n"])
        self.assertEqual([document["n"] for document in found], [1, 3])

    async def test_a_database_without_a_name_is_called_txmicro(self) -> None:
        store = await self.open(f"mongodb://{HOST}:{self.server.port}")
        self.assertEqual(store._collection.documents.database.name, "txmicro")

    async def test_other_programs_read_the_documents(self) -> None:
        store = await self.open(now=lambda: 1.5)
        stored = await store.insert("k/0", {"title": "Alien", "$where": 1})
        await store.insert("k/1", {})
        found = await self.in_thread(lambda database: list(database.documents.find().sort("_order")))
        expected = {"_id": stored["id"], "_order": 1_500_000, "title": "Alien", "%24where": 1}
        self.assertEqual(found[0], expected)
        self.assertEqual(found[1]["_order"], 1_500_001)

    async def test_a_worker_with_sqlite_does_not_import_pymongo(self) -> None:
        script = "import sys, txmicro.stores.sqlite, txmicro.workers.db; sys.exit('pymongo' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", script]).returncode, 0)


class TLSTests(MongoTestCase):
    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.ca, own = folder / "ca.pem", folder / "own.pem"
        Authority(self.ca).issue(own, "the database", HOST, server=True)
        context = DefaultOpenSSLContextFactory(str(own), str(own))
        port = reactor.listenSSL(0, ProxyFactory(HOST, self.server.port), context, interface=HOST)
        self.addCleanup(self.until_all_have_left)
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def until_all_have_left(self) -> None:
        while any(hasattr(reader, "getPeer") for reader in reactor.getReaders()):  # a connection
            await deferLater(reactor, 0.01)

    async def test_a_server_whose_ca_the_url_names_is_trusted(self) -> None:
        store = await self.open(self.server.url(fresh(), f"tls=true&tlsCAFile={self.ca}", self.port))
        stored = await store.insert("k/0", {"n": 1})
        self.assertEqual(await store.find({}), [stored])

    async def test_a_server_with_an_unknown_ca_is_not_trusted(self) -> None:
        with self.assertRaises(StoreError) as raised:
            await open_mongo(self.server.url(fresh(), "tls=true", self.port), reactor, timeout=1)
        self.assertIn("certificate verify failed", str(raised.exception))


class OutcomeTests(MongoTestCase):
    """Outcomes of the single inserts of a batch."""

    async def insert(self, store: MongoStore, *keys: str, unsure: bool = False) -> list[Any]:
        """Insert in one batch; return the outcomes. The keys choose the server's answer, which is not a real one."""

        def insert_many(documents: Any, sent: Sequence[Any], ordered: bool) -> None:
            codes = {"taken/0": 11000, "full/0": 14031, "large/0": 10334}
            errors = [
                {"index": index, "code": codes[each["n"]], "errmsg": "no"}
                for index, each in enumerate(sent)
                if each["n"] in codes
            ]
            concern = [{"code": 64, "errmsg": "waiting for replication timed out"}] if unsure else []
            raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": concern})

        self.patch(Collection, "insert_many", insert_many)
        inserts = [store.insert(key, {"n": key}, timeout=1) for key in ("alone/0", *keys)]
        return [getattr(end, "value", end) for _, end in await DeferredList(inserts, consumeErrors=True)][1:]

    async def test_each_insert_of_a_batch_has_its_own_outcome(self) -> None:
        store = await self.open()
        first = await store.insert("taken/0", {"n": "first"})
        good, taken, full, large = await self.insert(store, "good/0", "taken/0", "full/0", "large/0")
        self.assertEqual((good["n"], taken), ("good/0", first))
        self.assertEqual((type(full), full.retryable), (StoreError, True))
        self.assertEqual((type(large), large.retryable), (DocumentTooLarge, False))

    async def test_a_write_without_the_majority_at_the_deadline_is_retryable(self) -> None:
        store = await self.open()
        first = await store.insert("taken/0", {"n": "first"})
        lost, taken, full = await self.insert(store, "lost/0", "taken/0", "full/0", unsure=True)
        self.assertEqual((type(lost), lost.retryable), (StoreError, True))
        self.assertEqual(taken, first)  # read with the read concern "majority"
        self.assertTrue(full.retryable)

    async def test_a_write_that_the_majority_has_later_is_stored(self) -> None:
        store = await self.open()
        first = await store.insert("slow/0", {"n": "slow/0"})
        self.assertEqual(await self.insert(store, "slow/0", unsure=True), [first])

    async def test_an_insert_waits_for_another_worker_that_writes_its_document(self) -> None:
        store = await self.open()
        first = await store.insert("taken/0", {"n": "first"})
        stored, asked = store._collection._stored, []

        def later(documents: Any, ids: Sequence[str]) -> Any:
            asked.append(documents.read_concern.level)
            return stored(documents, ids) if len(asked) > 2 else {}

        self.patch(store._collection, "_stored", later)
        self.assertEqual(await self.insert(store, "taken/0"), [first])
        self.assertEqual(asked, ["majority"] * 3)

    async def test_an_insert_waits_for_another_worker_only_until_its_deadline(self) -> None:
        store = await self.open()
        await store.insert("taken/0", {"n": "first"})
        self.patch(store._collection, "_stored", lambda documents, ids: {})
        (error,) = await self.insert(store, "taken/0")
        self.assertTrue(error.retryable)


class ErrorTests(SynchronousTestCase):
    def test_transient_errors_are_retryable(self) -> None:
        errors: list[PyMongoError] = [AutoReconnect("gone"), NetworkTimeout("late")]
        errors += [OperationFailure("full", code) for code in (14031, 50, 64, 262)]
        for error in errors:
            self.assertTrue(to_store_error(error).retryable, error)

    def test_other_errors_are_not_retryable(self) -> None:
        for error in (
            OperationFailure("no", 13),
            OperationFailure("odd"),
            PyMongoError("odd"),
            ValueError("odd"),
        ):
            self.assertFalse(to_store_error(error).retryable, error)

    def test_parts_that_pymongo_repeats_are_left_out(self) -> None:
        timeouts = "(configured timeouts: socketTimeoutMS: 5000.0ms, connectTimeoutMS: 5000.0ms)"
        error = ServerSelectionTimeoutError(
            f"a:1: refused {timeouts},b:2: refused {timeouts}, Timeout: 5s, Topology Description: <Topology…>"
        )
        self.assertEqual(str(to_store_error(error)), "MongoDB: no server answers: a:1: refused,b:2: refused")

    def test_errors_are_converted_to_types(self) -> None:
        self.assertIsInstance(to_store_error(OperationFailure("large", 10334)), DocumentTooLarge)
        self.assertIsInstance(to_store_error(NetworkTimeout("late")), StoreTimeout)


class FaultTests(MongoTestCase):
    """Faults of a server: it is killed, frozen and slowed down. Each confirmed insert is stored once."""

    database: str

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        mongo.check_installed()
        self.server = mongo.own_server()
        self.addCleanup(mongo.end, self.server)
        await self.server.start()
        self.database = fresh()
        self.url = self.server.url(self.database)

    async def open_through_a_proxy(self) -> tuple[Proxy, MongoStore]:
        proxy = Proxy(self.server.port)

        def end() -> Any:
            for call in reactor.getDelayedCalls():
                if call.func.__name__ == "_arrived":  # delayed bytes
                    call.cancel()
            return proxy.close()

        self.addCleanup(end)
        return proxy, await self.open(self.server.url(self.database, "", proxy.port))

    def load(self, store: MongoStore, number: int, timeout: float = 30.0) -> list[Deferred[Any]]:
        return [store.insert(f"job/{n}", {"n": n}, timeout=timeout) for n in range(number)]

    async def outcomes(self, calls: Sequence[Deferred[Any]]) -> tuple[list[Any], list[Any]]:
        """Return the results of *calls*, and the errors of those that failed."""
        ended = await DeferredList(calls, consumeErrors=True)
        return [each for good, each in ended if good], [each.value for good, each in ended if not good]

    async def assert_stored(self, accepted: Sequence[dict[str, Any]]) -> None:
        """Check that all *accepted* documents are stored, and none twice."""
        found: list[dict[str, Any]] = []
        store = await self.open()
        while page := await store.find({}, 1000, found[-1]["id"] if found else None):
            found += page
        for document in accepted:
            self.assertIn(document, found)
        numbers = [document["n"] for document in found]
        self.assertEqual(len(numbers), len(set(numbers)))

    async def test_a_server_that_is_killed_and_restarted_only_delays(self) -> None:
        store = await self.open()
        accepted: list[Any] = []

        async def one_after_the_other(client: int) -> None:
            for number in range(60):
                accepted.append(await store.insert(f"{client}/{number}", {"n": f"{client}/{number}"}))
                self.assertEqual(len(await store.find({"id": accepted[-1]["id"]})), 1)

        clients = [Deferred.fromCoroutine(one_after_the_other(client)) for client in range(20)]
        for _ in range(2):
            while not accepted:
                await deferLater(reactor, 0.01)
            self.server.kill()
            await self.server.start()
        await gatherResults(clients)
        self.assertEqual(len(accepted), 20 * 60)
        await self.assert_stored(accepted)

    async def test_without_a_server_operations_fail_at_their_deadlines_as_retryable(self) -> None:
        store = await self.open()
        accepted, errors = await self.outcomes(self.load(store, 10))
        self.assertEqual(errors, [])
        self.server.kill()
        calls: list[Deferred[Any]] = [
            store.insert(f"late/{n}", {"n": n + 10}, timeout=0.5) for n in range(10)
        ]
        calls += [store.find({}, timeout=0.5), store.find({"id": "x"}, timeout=0.5)]
        succeeded, errors = await self.outcomes(calls)
        self.assertEqual(succeeded, [])
        self.assertEqual(
            {(isinstance(error, StoreError), error.retryable) for error in errors}, {(True, True)}
        )
        await self.server.start()
        accepted.append(await store.insert("late/0", {"n": 10}))
        await self.assert_stored(accepted)

    async def test_a_frozen_server_is_waited_for_until_each_deadline(self) -> None:
        store = await self.open()
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        patient: list[Deferred[Any]] = [store.insert("patient/0", {"n": "patient"}), store.find({"n": 0})]
        hasty: list[Deferred[Any]] = [store.insert("hasty/0", {"n": "hasty"}, timeout=0.4)]
        hasty += [store.find(asked, timeout=0.4) for asked in ({"n": 1}, {"id": "x"})]
        succeeded, errors = await self.outcomes(hasty)
        self.assertEqual(succeeded, [])
        self.assertEqual({type(error) for error in errors}, {StoreTimeout})
        self.server.thaw()
        stored, found = await gatherResults(patient)
        self.assertEqual((stored["n"], found), ("patient", []))
        again = await store.insert("hasty/0", {"n": "hasty"})
        await self.assert_stored([stored, again])

    async def test_a_slow_network_is_tolerated_until_the_deadline(self) -> None:
        proxy, store = await self.open_through_a_proxy()
        proxy.delay = 0.05
        accepted, errors = await self.outcomes(self.load(store, 50))
        self.assertEqual(errors, [])
        proxy.delay = 1.5
        succeeded, errors = await self.outcomes([store.insert("late/0", {"n": "late"}, timeout=0.5)])
        self.assertEqual((succeeded, [type(error) for error in errors]), ([], [StoreTimeout]))
        proxy.delay = 0
        accepted.append(await store.insert("late/0", {"n": "late"}))
        await self.assert_stored(accepted)

    async def test_connections_that_break_within_a_message_only_delay(self) -> None:
        proxy, store = await self.open_through_a_proxy()
        proxy.tear_after = 1500
        inserts = self.load(store, 100)
        while not proxy.lost:
            await deferLater(reactor, 0.01)
        proxy.tear_after = None
        proxy.reset()
        accepted, errors = await self.outcomes(inserts)
        self.assertEqual((len(accepted), errors), (100, []))
        await self.assert_stored(accepted)

    async def test_a_full_disk_fails_writes_as_retryable(self) -> None:
        store = await self.open()
        accepted, _ = await self.outcomes(self.load(store, 3))
        await self.server.fail(14031, ["insert"])
        calls = [store.insert(f"late/{n}", {"n": f"late/{n}"}) for n in range(3)]
        succeeded, errors = await self.outcomes(calls)
        self.assertEqual(succeeded, [])
        self.assertEqual({(type(error), error.retryable) for error in errors}, {(StoreError, True)})
        self.assertEqual(await store.find({"id": accepted[0]["id"]}), [accepted[0]])
        await self.server.recover()
        accepted += await gatherResults([store.insert(f"late/{n}", {"n": f"late/{n}"}) for n in range(3)])
        await self.assert_stored(accepted)
