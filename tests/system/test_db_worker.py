from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from txmicro.config import Config
from txmicro.errors import BadRequest, JobError
from txmicro.stores import DocumentTooDeep, StoreError, open_store
from txmicro.testing import running
from txmicro.workers import db
from txmicro.workers.db import MAX_LIMIT, DBWorker

CONFIG = Config(store_url="sqlite://")


def post(**movie: Any) -> dict[str, Any]:
    return {"method": "POST", "params": movie}


def get(**filters: Any) -> dict[str, Any]:
    return {"method": "GET", "params": filters}


class DBWorkerTests(TestCase):
    async def test_a_stored_document_is_found(self) -> None:
        async with running(DBWorker(), config=CONFIG) as bus:
            stored = await bus.send("DB:*", post(title="Alien", year=1979))
            self.assertEqual(stored, {"id": stored["id"], "title": "Alien", "year": 1979})
            self.assertEqual(await bus.send("DB:*", get(title="Alien")), [stored])
            self.assertEqual(await bus.send("DB:*", get(title="Aliens")), [])
            self.assertEqual(await bus.send("DB:*", {"method": "GET"}), [stored])

    async def test_found_documents_come_in_pages(self) -> None:
        async with running(DBWorker(), config=CONFIG) as bus:
            ids = [(await bus.send("DB:*", post(n=number)))["id"] for number in range(3)]
            page = await bus.send("DB:*", {**get(), "limit": 1, "after": ids[0]})
            self.assertEqual([movie["id"] for movie in page], [ids[1]])

    async def test_documents_are_filtered_sorted_and_reduced_to_fields(self) -> None:
        class Movies(DBWorker):
            texts = ("plot",)

        plots = {1979: "An alien ship", 1986: "Many aliens", 1997: "The ship of an alien"}
        async with running(Movies(), config=CONFIG) as bus:
            for year, plot in plots.items():
                await bus.send("DB:*", post(year=year, plot=plot))
            for asked, years in (
                ({"ranges": {"year": [1980, None]}}, [1986, 1997]),
                ({"words": {"plot": "ship ALIEN"}, "sort": ["-year"]}, [1997, 1979]),
            ):
                found = await bus.send("DB:*", {**get(), **asked, "fields": ["year"]})
                self.assertEqual(
                    [{**movie, "id": ""} for movie in found], [{"id": "", "year": y} for y in years]
                )

    async def test_an_unreachable_database_is_logged_and_retried(self) -> None:
        failures = [StoreError(f"no server is there {n}", retryable=True) for n in range(2)]

        def not_yet(*args: Any, **options: Any) -> Deferred[Any]:
            return fail(failures.pop()) if failures else open_store(*args, **options)

        self.patch(db, "open_store", not_yet)
        self.patch(db, "OPEN_PAUSE", 0)
        with capturedLogs() as events:
            async with running(DBWorker(), config=CONFIG) as bus:
                self.assertEqual(await bus.send("DB:*", get()), [])
        said = [formatEvent(event) for event in events if "cannot open" in formatEvent(event)]
        self.assertEqual(len(said), 2)
        self.assertRegex(
            said[0], r"cannot open its store: no server is there 1; it takes no jobs; next attempt in 0 s"
        )

    async def test_a_failure_of_the_store_is_logged(self) -> None:
        worker: Any = DBWorker()
        deep: Any = None
        for _ in range(101):
            deep = [deep]
        with capturedLogs() as events:
            async with running(worker, config=CONFIG) as bus:
                await worker.store._pool.runQuery("PRAGMA max_page_count = 10")  # the disk is full
                with self.assertRaises(StoreError) as raised:
                    await bus.send("DB:*", post(text="x" * 100_000))
                self.assertTrue(raised.exception.retryable)
                with self.assertRaises(DocumentTooDeep):
                    await bus.send("DB:*", post(deep=deep))
        (told,) = [event for event in events if event["log_format"] == db.STORE_FAILED]
        self.assertIn("the store failed: SQLite: database or disk is full; job ", formatEvent(told))
        self.assertTrue(told["recurring"])

    async def test_its_operations_are_counted_and_timed(self) -> None:
        async with running(DBWorker(), config=CONFIG) as bus:
            await bus.send("DB:*", post(title="Alien"))
            await bus.send("DB:*", get())
            with self.assertRaises(BadRequest):
                await bus.send("DB:*", post(id="mine"))
            value = bus.metrics.registry.get_sample_value
            for labels, count in (
                ({"operation": "insert", "outcome": "succeeded"}, 1),
                ({"operation": "insert", "outcome": "BadRequest"}, 1),
                ({"operation": "find", "outcome": "succeeded"}, 1),
            ):
                name = "microservices_store_operations_total"
                self.assertEqual(value(name, {"store": "sqlite", **labels}), count)
            labels = {"store": "sqlite", "operation": "insert"}
            self.assertEqual(value("microservices_store_operation_seconds_count", labels), 2)

    async def test_the_store_gets_the_deadline_of_the_job(self) -> None:
        worker = DBWorker()
        given: list[float] = []

        async with running(worker, config=CONFIG) as bus:
            for name in ("insert", "find"):
                do = getattr(worker.store, name)

                def noting(*args: Any, timeout: float, do: Any = do, **options: Any) -> Any:
                    given.append(timeout)
                    return do(*args, **options)

                self.patch(worker.store, name, noting)
            await bus.send("DB:*", post(), timeout=7)
            await bus.send("DB:*", get(), timeout=9)
        self.assertEqual([round(timeout) for timeout in given], [7, 9])

    async def test_a_job_that_runs_twice_stores_once(self) -> None:
        worker = DBWorker()
        async with running(worker, config=CONFIG) as bus:
            sent = bus.send("DB:*", post(title="Alien"))
            stored = await sent
            again = await worker.store.insert(f"{sent.id}/0", {"title": "Alien"})
            self.assertEqual(again, stored)

    async def test_data_that_is_not_valid_is_a_bad_request(self) -> None:
        bad: list[Any] = [None, [], "GET", {}, {"method": "PUT"}, {"method": ["GET"]}, post(id="mine")]
        bad += [{"method": "POST", "params": params} for params in (None, [], "x", [["a", 1]])]
        bad += [{**get(), "limit": limit} for limit in (0, -1, MAX_LIMIT + 1, "10", None, True, 1.5)]
        bad += [{**get(), "after": after} for after in (1, ["x"], "nobody")]
        bad += [get(title={"$ne": 1}), get(title=[[1]])]
        for option in ("ranges", "words", "fields", "sort"):
            bad += [{**get(), option: value} for value in ("x", 1, [1], {"a": {"$gt": 1}})]
        bad += [{**get(), option: value} for option in ("ranges", "words", "sort") for value in (None, "x")]
        async with running(DBWorker(), config=CONFIG) as bus:
            for data in bad:
                with self.assertRaises(BadRequest) as raised:
                    await bus.send("DB:*", data)
                self.assertFalse(raised.exception.retryable)

    async def test_the_stores_errors_reach_the_sender(self) -> None:
        worker = DBWorker()
        async with running(worker, config=CONFIG) as bus:
            await worker.store.close()
            with self.assertRaises(StoreError) as raised:
                await bus.send("DB:*", get())
            self.assertTrue(raised.exception.retryable)
            self.assertEqual(raised.exception.worker, worker.id)

    async def test_the_log_has_the_place_of_the_store(self) -> None:
        file = os.path.abspath(self.mktemp())
        for url, said in (
            (f"sqlite:///{os.path.relpath(file)}", f"stores in {file}"),
            (f"sqlite:///{file}", f"stores in {file}"),
            ("sqlite://", "stores in memory: its documents are lost when the process ends"),
        ):
            worker = DBWorker()
            with capturedLogs() as events:
                async with running(worker, config=Config(store_url=url)):
                    pass
            (line,) = (text for text in map(formatEvent, events) if "stores in" in text)
            self.assertTrue(line.startswith(f"{worker.id} {said}"), line)

    async def test_the_default_in_tests_is_a_store_in_memory(self) -> None:
        worker = DBWorker()
        async with running(worker):
            self.assertEqual(worker.config.store_url, "sqlite://")

    async def test_a_worker_without_its_store_does_not_start(self) -> None:
        with self.assertRaises(JobError) as raised:
            async with running(DBWorker(), config=Config(store_url="sqlite:///no/such/folder/x.db")):
                self.fail("started")
        self.assertIn("store_url", str(raised.exception))
        self.flushLoggedErrors()

    async def test_the_store_is_closed_at_the_end(self) -> None:
        worker = DBWorker()
        async with running(worker, config=CONFIG):
            pass
        with self.assertRaises(StoreError):
            await worker.store.find({})
