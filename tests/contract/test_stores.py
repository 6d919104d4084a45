from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from txmicro.errors import DecodeError
from txmicro.stores import Store, StoreError, open_store, sqlite, sqlite_query
from txmicro.stores.query import read_query
from txmicro.stores.sqlite import SQLiteStore, open_sqlite
from txmicro.stores.sqlite_query import Statement

from . import store as contract_store


class MemoryTests(contract_store.StoreContract):
    def open(self) -> Deferred[Store[Any]]:
        return open_store("sqlite://", reactor, indexes=["title"], texts=["plot"])


class FileTests(contract_store.StoreContract):
    def open(self) -> Deferred[Store[Any]]:
        return open_store(f"sqlite:///{self.mktemp()}", reactor, indexes=["title"], texts=["plot"])


class OpenTests(TestCase):
    async def open(self, url: str, **options: Any) -> Any:
        store = await open_sqlite(url, reactor, **options)
        self.addCleanup(store.close)
        return store

    async def refused(self, url: str, **options: Any) -> str:
        with self.assertRaises(StoreError) as raised:
            await open_store(url, reactor, **options)
        return str(raised.exception)

    async def test_an_unknown_scheme_is_named(self) -> None:
        self.assertIn("'couch'", await self.refused("couch://user:secret@host/db"))
        self.assertNotIn("secret", await self.refused("couch://user:secret@host/db"))

    async def test_a_url_that_is_not_valid_is_refused(self) -> None:
        for url in ("sqlite://host/path", "sqlite:///", "sqlite:path", ""):
            self.assertIn("store_url", await self.refused(url))

    async def test_a_path_that_cannot_be_opened_is_refused(self) -> None:
        self.assertIn("no/such/folder", await self.refused("sqlite:///no/such/folder/x.db"))

    async def test_a_file_that_is_not_a_database_is_refused(self) -> None:
        path = self.mktemp()
        Path(path).write_bytes(b"no database at all, but quite a few bytes of something else" * 20)
        self.assertIn("not a database", await self.refused(f"sqlite:///{path}"))

    async def test_opening_can_be_canceled(self) -> None:
        pools: list[Any] = []

        class Pool(ConnectionPool):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                pools.append(self)

        self.patch(sqlite, "ConnectionPool", Pool)
        opening = open_store("sqlite://", reactor)
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        self.assertEqual([pool.running for pool in pools], [False])

    async def test_an_index_on_a_name_with_other_characters_is_refused(self) -> None:
        for name in ("a b", "a')--", "", "ähre", "1"):
            self.assertIn("cannot index", await self.refused("sqlite://", indexes=[name]))

    async def test_a_relative_and_an_absolute_path_are_the_same_file(self) -> None:
        path = self.mktemp()
        first = await self.open(f"sqlite:///{path}")
        second = await self.open(f"sqlite:///{Path(path).absolute()}")
        stored = await first.insert("k/0", {"n": 1})
        self.assertEqual(await second.find({}), [stored])

    async def test_stores_in_memory_are_separate(self) -> None:
        first, second = await self.open("sqlite://"), await self.open("sqlite://")
        await first.insert("k/0", {})
        self.assertEqual(await second.find({}), [])

    async def test_documents_are_there_after_reopening(self) -> None:
        url = f"sqlite:///{self.mktemp()}"
        store = await open_store(url, reactor)
        stored = await store.insert("k/0", {"n": 1})
        await store.close()
        again = await self.open(url)
        self.assertEqual(await again.insert("k/0", {"n": 2}), stored)

    async def test_texts_inserted_before_the_index_are_found_by_their_words(self) -> None:
        url = f"sqlite:///{self.mktemp()}"
        before = await self.open(url, texts=["title"])
        plots: list[Any] = ["word0", ["word1", "x"], "word1 y", 5]
        await gatherResults([before.insert(f"k/{n}", {"n": n, "plot": plot}) for n, plot in enumerate(plots)])
        for _ in range(2):
            store = await self.open(url, texts=["title", "plot"])
            found = await store.find({}, words={"plot": "word1"})
            self.assertEqual([document["n"] for document in found], [1, 2])

    async def test_a_worker_imports_only_the_store_that_it_uses(self) -> None:
        script = "import sys, txmicro.stores; sys.exit('sqlite3' in sys.modules or 'pymongo' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", script]).returncode, 0)


class SQLiteTests(TestCase):
    async def open(self, url: str = "sqlite://", **options: Any) -> SQLiteStore:
        store = await open_sqlite(url, reactor, **options)
        self.addCleanup(store.close)
        self.assertIsInstance(store, SQLiteStore)
        return store  # type: ignore[return-value]

    async def sql(self, store: SQLiteStore, text: str) -> Any:
        return await store._pool.runQuery(text)

    async def test_the_id_depends_only_on_the_key(self) -> None:
        stores = [await self.open(), await self.open()]
        ids = [(await store.insert("a-job/1", {}))["id"] for store in stores]
        self.assertEqual(ids, ["73505121-e74f-5acb-8e4d-cd28e35b4063"] * 2)
        self.assertEqual(UUID(ids[0]).version, 5)

    async def test_concurrent_inserts_share_a_transaction(self) -> None:
        store = await self.open()
        written: list[int] = []
        insert = sqlite._insert

        def counted(transaction: Any, rows: list[Any]) -> list[str]:
            written.append(len(rows))
            return insert(transaction, rows)

        self.patch(sqlite, "_insert", counted)
        await gatherResults([store.insert(f"job/{number}", {}) for number in range(100)])
        self.assertEqual(written, [1, 99])

    async def test_the_file_is_in_wal_mode_and_synced(self) -> None:
        store = await self.open(f"sqlite:///{self.mktemp()}")
        self.assertEqual(await self.sql(store, "PRAGMA journal_mode"), [("wal",)])
        self.assertEqual(await self.sql(store, "PRAGMA synchronous"), [(2,)])  # FULL

    async def test_an_accepted_insert_survives_the_death_of_its_process(self) -> None:
        path = self.mktemp()
        script = """if True:
            import os, sys
            from twisted.internet import reactor, task
            from txmicro.stores import open_store
            async def main(reactor):
                store = await open_store(f"sqlite:///{sys.argv[1]}", reactor)
                await store.insert("k/0", {"n": 1})
                os.kill(os.getpid(), 9)
            task.react(lambda reactor: main(reactor))
        """
        died = subprocess.run([sys.executable, "-c", script, path])
        self.assertEqual(died.returncode, -9)
        store = await self.open(f"sqlite:///{path}")
        self.assertEqual([document["n"] for document in await store.find({})], [1])

    async def plan(self, store: SQLiteStore, filters: dict[str, Any] | None = None, **options: Any) -> str:
        asked: dict[str, Any] = {"ranges": {}, "words": {}, "fields": None, "sort": [], **options}
        query = Statement(read_query(filters or {}, 10, None, texts=["plot"], **asked), store._keys).select(
            None
        )
        steps = await store._pool.runQuery(f"EXPLAIN QUERY PLAN {query.text}", query.values)
        return "; ".join(step[3] for step in steps)

    async def test_a_filter_on_an_indexed_field_uses_the_index(self) -> None:
        store = await self.open(indexes=["title"])
        for filters, plan in (
            ({"title": "x"}, "by_title"),
            ({"title": ["x", 1, True]}, "by_title"),
            ({"id": "x"}, "sqlite_autoindex_documents_1"),
            ({"year": 1}, "SCAN documents"),
        ):
            self.assertIn(plan, await self.plan(store, filters), filters)
        self.assertIn("by_title", await self.plan(store, ranges={"title": ["a", "b"]}))
        self.assertIn("by_title", await self.plan(store, sort=["-title"]))
        self.assertNotIn("TEMP B-TREE", await self.plan(store, sort=["-title"]))
        self.assertIn("INTEGER PRIMARY KEY", await self.plan(store, words={"plot": "alien"}))

    async def test_a_full_disk_fails_the_inserts_as_retryable(self) -> None:
        store = await self.open()
        await self.sql(store, "PRAGMA max_page_count = 10")
        inserts = [store.insert(f"job/{number}", {"text": "x" * 100_000}) for number in range(2)]
        for insert in inserts:
            with self.assertRaises(StoreError) as raised:
                await insert
            self.assertTrue(raised.exception.retryable)
            self.assertIn("full", str(raised.exception))
        await self.sql(store, "PRAGMA max_page_count = 10000")
        await store.insert("job/0", {})

    async def test_a_locked_file_fails_the_insert_as_retryable(self) -> None:
        path = self.mktemp()
        store = await self.open(f"sqlite:///{path}", busy_timeout=0)
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        with self.assertRaises(StoreError) as raised:
            await store.insert("k/0", {})
        self.assertTrue(raised.exception.retryable)
        self.assertEqual(await store.find({}), [])
        other.execute("COMMIT")
        await store.insert("k/0", {})

    async def test_a_locked_file_may_be_opened_later(self) -> None:
        path = self.mktemp()
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        with self.assertRaises(StoreError) as raised:
            await self.open(f"sqlite:///{path}", busy_timeout=0)
        self.assertTrue(raised.exception.retryable)
        other.execute("COMMIT")
        await self.open(f"sqlite:///{path}", busy_timeout=0)

    async def test_a_broken_database_fails_as_not_retryable(self) -> None:
        store = await self.open()
        await self.sql(store, "ALTER TABLE documents RENAME TO gone")
        for broken in (store.insert("k/0", {}), store.find({})):
            with self.assertRaises(StoreError) as raised:
                await broken
            self.assertFalse(raised.exception.retryable)

    async def test_workers_that_share_a_file_store_a_key_once(self) -> None:
        url = f"sqlite:///{self.mktemp()}"
        stores = await gatherResults([open_store(url, reactor) for _ in range(3)])
        for store in stores:
            self.addCleanup(store.close)
        inserts = [
            store.insert(f"job/{number % 40}", {"n": number}) for number in range(120) for store in stores
        ]
        await gatherResults(inserts)
        found = [await store.find({}) for store in stores]
        self.assertEqual(len(found[0]), 40)
        self.assertEqual(found, found[:1] * 3)

    async def test_an_unexpected_error_fails_the_insert(self) -> None:
        store = await self.open()
        self.patch(sqlite, "_insert", lambda transaction, rows: 1 / 0)
        with self.assertRaises(StoreError):
            await store.insert("k/0", {})
        self.patch(sqlite, "_insert", lambda transaction, rows: ["{"])
        with self.assertRaises(DecodeError):
            await store.insert("k/0", {})

    async def test_a_canceled_find_stops_its_search(self) -> None:
        store = await self.open()
        await gatherResults([store.insert(f"job/{number}", {"n": number}) for number in range(2_000)])
        endless = "(SELECT count(*) FROM documents a, documents b, documents c) > length(?) + length(?)"
        self.patch(sqlite_query, "_EQUALS", endless)
        find = store.find({"field": 1})
        cancelled: list[Any] = []
        find.addBoth(cancelled.append)
        find.cancel()
        self.assertEqual(len(cancelled), 1)
        await store.insert("late/0", {})  # the only thread of a database in memory is idle again
