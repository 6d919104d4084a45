from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support import mongo
from tests.support.documents import ROOT
from tests.support.programs import ProgramTestCase
from tests.support.rabbitmq import reactor
from tests.system.test_movies import movies
from txmicro.config import Config, load
from txmicro.errors import JobError, JobTimeout
from txmicro.examples.movies.workers import DBWorker
from txmicro.stores import StoreError
from txmicro.testing import running


def post(**movie: Any) -> dict[str, Any]:
    return {"method": "POST", "params": movie}


class StartTests(ProgramTestCase):
    async def test_a_worker_waits_for_its_server_and_logs_it(self) -> None:
        mongo.check_installed()
        server = mongo.own_server()
        self.addCleanup(mongo.end, server)
        config = {
            "services": ["broker", "WB"],
            "worker_types": {"WB": "txmicro.workers.db:DBWorker"},
            "broker_listen_port": 0,
            "store_url": server.url("movies"),
        }
        (self.directory / "mongo.json").write_text(json.dumps(config))
        worker = self.twistd("txmicro --config mongo.json", TXMICRO_WORKER_METRICS_PORT="0")
        await worker.says(
            r"cannot open its store: .*no server answers.*; it takes no jobs; next attempt in 2 s"
        )
        await server.start()
        await worker.says(r"stores in mongodb://")
        await worker.says(r"is ready")


class MoviesTests(TestCase):
    async def test_a_movie_is_posted_and_found_on_mongodb(self) -> None:
        server = await mongo.require_mongo()
        async with movies(store_url=server.url("movies")) as http:
            posted = await http("POST", json={"title": "Alien", "year": 1979})
            self.assertEqual(posted.code, 201)
            self.assertEqual(posted.value, {"id": posted.value["id"], "title": "Alien", "year": 1979})
            await http("POST", json={"title": "Aliens", "year": 1986})
            for query in ("year=1979", "title=Alien", f"id={posted.value['id']}"):
                found = await http("GET", f"/movies/?{query}")
                self.assertEqual((found.code, found.value), (200, [posted.value]))

    async def test_a_query_string_is_never_an_operator(self) -> None:
        server = await mongo.require_mongo()
        async with movies(store_url=server.url("operators")) as http:
            await http("POST", json={"title": "Alien", "year": 1979})
            for query in (
                "year[$gt]=0",
                "year[$ne]=0",
                "title[$regex]=.*",
                "$where=sleep(10000)",
                "$or=1",
                "title.$exists=true",
                'title={"$ne":null}',
                "$expr=true",
                "_id[$gt]=",
            ):
                found = await http("GET", f"/movies/?{query}")
                self.assertEqual((found.code, found.value), (200, []), query)

    def test_the_configuration_with_mongodb_differs_from_the_other_in_its_store(self) -> None:
        ours, other = (load(str(ROOT / f"etc/{name}.json"), {}) for name in ("config-mongodb", "config"))
        self.assertTrue(ours.store_url.startswith("mongodb://"))
        self.assertEqual(replace(ours, store_url=other.store_url, broker_url=other.broker_url), other)


class ChainTests(TestCase):
    """Jobs for a DB worker whose server is killed and frozen."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        mongo.check_installed()
        self.server = mongo.own_server()
        self.addCleanup(mongo.end, self.server)
        await self.server.start()
        self.config = Config(store_url=self.server.url("movies"))

    def chain(self) -> Any:
        return running(DBWorker(), config=self.config, reactor=reactor)

    async def assert_stored(self, bus: Any, accepted: list[dict[str, Any]]) -> None:
        found = await bus.send("WB:*", {"method": "GET", "limit": 1000})
        titles = [movie["title"] for movie in found]
        self.assertEqual(len(titles), len(set(titles)))
        for movie in accepted:
            self.assertIn(movie, found)

    async def test_jobs_survive_a_server_that_is_killed(self) -> None:
        async with self.chain() as bus:
            jobs: list[Deferred[Any]] = []
            for number in range(200):
                jobs.append(bus.send("WB:*", post(title=f"movie {number}")).when_done())
                if number == 100:
                    self.server.kill()
                await deferLater(reactor, 0)
            await self.server.start()
            accepted = await gatherResults(jobs)
            self.assertEqual(len(accepted), 200)
            await self.assert_stored(bus, accepted)

    async def test_jobs_end_at_their_deadline_while_the_server_is_frozen(self) -> None:
        async with self.chain() as bus:
            accepted = [await bus.send("WB:*", post(title="before"))]
            self.server.freeze()
            self.addCleanup(self.server.thaw)
            hasty = [bus.send("WB:*", post(title=f"hasty {number}"), timeout=0.5) for number in range(20)]
            patient = bus.send("WB:*", post(title="patient"))
            for good, failure in await DeferredList([job.when_done() for job in hasty], consumeErrors=True):
                self.assertFalse(good)
                self.assertIsInstance(failure.value, (JobTimeout, StoreError))
                self.assertTrue(failure.value.retryable)
            self.server.thaw()
            accepted.append(await patient)
            await self.assert_stored(bus, accepted)

    async def test_a_full_disk_is_a_retryable_failure(self) -> None:
        async with self.chain() as bus:
            await self.server.fail(14031, ["insert"])
            with self.assertRaises(JobError) as raised:
                await bus.send("WB:*", post(title="late"))
            self.assertEqual((type(raised.exception), raised.exception.retryable), (StoreError, True))
            await self.server.recover()
            await self.assert_stored(bus, [await bus.send("WB:*", post(title="late"))])
