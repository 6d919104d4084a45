from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from txmicro.config import Config, load
from txmicro.daemons.catalog import Catalog
from txmicro.errors import BadRequest, ConfigError, JobCancelled, NoWorkerAvailable
from txmicro.examples.movies.workers import DBWorker, LoggerWorker, PilotWorker, RestWorker
from txmicro.protocol.job import Job
from txmicro.sending.future import JobFuture
from txmicro.testing import running
from txmicro.worker import Worker

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
OTHER_PATHS = [
    "/",
    "/movies",
    "/movies//",
    "//movies/",
    "/movies%2F",
    "/movies/1",
    "/Movies/",
    "/%00",
    "/%ff",
    "/movies/;x",
]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Answer:
    """An HTTP response with its whole body."""

    def __init__(self, response: Any, body: bytes) -> None:
        self.code = response.code
        self.headers = response.headers
        self.body = body

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        values = self.headers.getRawHeaders(name, [""])
        return str(values[0])


class Client:
    """Sends requests to the REST worker *rest*."""

    def __init__(self, rest: RestWorker) -> None:
        self.base = f"http://{HOST}:{rest.port}"
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent: Any = Agent(reactor, pool=pool)
        self.http = treq.client.HTTPClient(agent)

    async def __call__(self, method: str, path: str = "/movies/", **options: Any) -> Answer:
        response = await self.http.request(method, self.base + path, **options)
        return Answer(response, await treq.content(response))


class Remembering(RestWorker):
    """Stores the jobs that it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[JobFuture] = []

    def send(self, *args: Any, **options: Any) -> JobFuture:
        self.sent.append(super().send(*args, **options))
        return self.sent[-1]


class Odd(Worker):
    """A pilot with the handler that it is given."""

    type = "WD"

    def __init__(self, does: Any) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.does = does

    async def do_job(self, job: Job) -> Any:
        self.jobs.append(job)
        return await self.does(job)


@asynccontextmanager
async def movies(*others: Worker, **keys: Any) -> AsyncIterator[Client]:
    """Run the example, with *others* instead of the pilot and the DB worker."""
    rest = RestWorker()
    workers = others or (PilotWorker(), DBWorker())
    settings: dict[str, Any] = {"rest_port": 0, "store_url": "sqlite://", **keys}
    config = Config(**settings)
    async with running(rest, *workers, config=config, reactor=reactor):
        yield Client(rest)


class MoviesTests(TestCase):
    async def test_a_movie_is_posted_and_found(self) -> None:
        async with movies() as http:
            posted = await http("POST", json={"title": "Alien", "year": 1979})
            self.assertEqual(posted.code, 201)
            self.assertEqual(posted.value, {"id": posted.value["id"], "title": "Alien", "year": 1979})
            found = await http("GET")
            self.assertEqual((found.code, found.value), (200, [posted.value]))
            self.assertEqual(found.header("content-type"), "application/json")

    async def test_every_answer_has_its_time_and_an_id(self) -> None:
        async with movies(http_body_max=100) as http:
            answers = [
                await http("GET"),
                await http("POST", json={}),
                await http("POST", json=[]),
                await http("POST", data=b"x" * 101),
                await http("PUT"),
                await http("GET", "/%ff"),
                await http("GET", "/movies/?limit=0"),
            ]
        self.assertEqual([answer.code for answer in answers], [200, 201, 400, 413, 404, 404, 400])
        for answer in answers:
            self.assertRegex(answer.header("server-timing"), r"^total;dur=\d+\.\d$")
        self.assertEqual(len({answer.header("x-job-id") for answer in answers}), len(answers))

    async def test_the_id_is_that_of_the_job(self) -> None:
        async def answer(job: Job) -> Any:
            return job.id

        async with movies(Odd(answer)) as http:
            got = await http("GET")
            self.assertEqual(got.header("x-job-id"), got.value)

    async def test_a_form_is_accepted_as_a_movie(self) -> None:
        async with movies() as http:
            posted = await http("POST", data={"title": "Alien", "cast": ["Weaver", "Holm"], "note": ""})
            self.assertEqual(posted.code, 201)
            del posted.value["id"]
            movie = {key: value for key, value in posted.value.items() if key != "id"}
            self.assertEqual(movie, {"title": "Alien", "cast": ["Weaver", "Holm"], "note": ""})

    async def test_the_query_string_filters(self) -> None:
        async with movies() as http:
            for movie in (
                {"title": "Alien", "year": 1979},
                {"title": "1984", "year": "1984"},
                {"year": None},
            ):
                await http("POST", json=movie)
            for query, found in {
                "title=Alien": ["Alien"],
                "title=alien": [],
                "title=1984": ["1984"],
                "year=1979": ["Alien"],
                "year=1984": ["1984"],
                "year=1979&year=1984": ["Alien", "1984"],
                "year=1979&title=1984": [],
                "year=null": [None],
                "limit=1": ["Alien"],
                "title=%C3%A4&nope=": [],
                "title=" + "[" * 5000: [],
                "year=1e999": [],
                "year=" + "9" * 5000: [],
            }.items():
                answer = await http("GET", f"/movies/?{query}")
                self.assertEqual([movie.get("title") for movie in answer.value], found, query)

    async def test_pages_follow_each_other(self) -> None:
        async with movies() as http:
            ids = [(await http("POST", json={"n": number})).value["id"] for number in range(3)]
            page = await http("GET", f"/movies/?limit=1&after={ids[0]}")
            self.assertEqual([movie["id"] for movie in page.value], [ids[1]])

    async def test_any_other_path_or_method_is_not_found(self) -> None:
        async with movies() as http:
            for method in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "MOVIES"):
                self.assertEqual((await http(method)).code, 404, method)
            for path in OTHER_PATHS:
                answer = await http("GET", path)
                self.assertEqual(answer.code, 404, path)
                self.assertIn(answer.value["error"], ("NotFound", "RequestRedirect"))

    async def test_a_body_that_is_not_valid_is_a_bad_request(self) -> None:
        plain, form = (
            {"content-type": "application/json"},
            {"content-type": "application/x-www-form-urlencoded"},
        )
        bodies = [
            b"",
            b"[]",
            b"1",
            b"{",
            b'{"a": NaN}',
            b"\xff",
            b'{"a": "\\ud800"}',
            b"[" * 10_000,
            b'{"a": 1e400}',
            b'{"a": [-1' + b"0" * 400 + b".0]}",
            b'{"id": 1}',
        ]
        cases = [(body, plain) for body in bodies]
        cases += [(body, form) for body in (b"", b"title", b"a=%ff", b"\xff=1", b"&".join([b"a=1"] * 2000))]
        cases += [
            (b"title=Alien", {"content-type": kind}) for kind in ("text/plain", "multipart/form-data", "\x7f")
        ]
        async with movies() as http:
            for body, headers in cases:
                answer = await http("POST", data=body, headers=headers)
                self.assertEqual(answer.code, 400, (body, headers))
                self.assertEqual(answer.value["error"], "BadRequest")
            self.assertEqual((await http("GET")).value, [])

    async def test_json_that_is_sent_as_a_form_names_the_right_content_type(self) -> None:
        form = {"content-type": "application/x-www-form-urlencoded"}  # as curl -d sends it
        async with movies() as http:
            for body in (b'{"title": "Alien"}', b' {"where": "a=b"}', b"[]"):
                answer = await http("POST", data=body, headers=form)
                self.assertEqual(answer.code, 400)
                for part in ("Content-Type, application/x-www-form", "Content-Type: application/json"):
                    self.assertIn(part, answer.value["message"])
            self.assertEqual((await http("GET")).value, [])

    async def test_a_document_that_is_too_deep_is_a_bad_request(self) -> None:
        async with movies() as http:
            for depth in (100, 150, 300):
                body = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
                self.assertEqual((await http("POST", data=body)).code, 400, depth)
            body = b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}"
            self.assertEqual((await http("POST", data=body)).code, 201)

    async def test_a_query_that_is_not_valid_is_a_bad_request(self) -> None:
        queries = [
            "limit=x",
            "limit=0",
            "limit=100000",
            "limit=1_0",
            "limit=%D9%A3",
            "limit=+3",
            "limit=",
            "after=nobody",
            "title=%ff",
            "%ff=1",
            "limit=" + "9" * 5000,
        ]
        queries += ["&".join(f"f{number}=1" for number in range(100))]
        async with movies() as http:
            for query in queries:
                answer = await http("GET", f"/movies/?{query}")
                self.assertEqual((answer.code, answer.value["error"]), (400, "BadRequest"), query)

    async def test_a_body_without_a_type_is_json(self) -> None:
        async with movies() as http:
            self.assertEqual((await http("POST", data=b'{"title": "Alien"}')).code, 201)

    async def test_a_body_that_is_too_large_is_refused(self) -> None:
        async with movies(http_body_max=1000) as http:
            answer = await http("POST", data=b"x" * 1001)
            self.assertEqual((answer.code, answer.value["error"]), (413, "MessageTooLarge"))

    async def test_a_job_that_is_too_large_for_the_bus_is_refused(self) -> None:
        async with movies(max_message=4096) as http:
            answer = await http("POST", json={"text": "x" * 5000})
            self.assertEqual((answer.code, answer.value["error"]), (413, "MessageTooLarge"))

    async def test_an_error_of_the_system_has_its_status_and_says_which(self) -> None:
        async def fail(job: Job) -> Any:
            raise NoWorkerAvailable("nobody is there")

        async with movies(Odd(fail)) as http:
            answer = await http("GET")
            self.assertEqual(
                (answer.code, answer.value),
                (503, {"error": "NoWorkerAvailable", "message": "nobody is there"}),
            )

    async def test_a_missing_worker_is_504(self) -> None:
        async with movies(DBWorker(), timeout=0.1) as http:
            answer = await http("GET")
            self.assertEqual((answer.code, answer.value["error"]), (504, "JobTimeout"))

    async def test_a_mistake_in_a_handler_is_500(self) -> None:
        async def fail(job: Job) -> Any:
            raise LookupError("cannot open postgres://admin:topsecret@db/prod")

        async with movies(Odd(fail)) as http:
            answer = await http("GET")
            self.assertEqual((answer.code, answer.value["error"]), (500, "InternalError"))
            self.assertIn(answer.headers.getRawHeaders("x-job-id", [""])[0], answer.value["message"])
            self.assertNotIn("topsecret", str(answer.value))
        self.flushLoggedErrors(LookupError)

    async def test_a_mistake_in_the_rest_worker_is_500_and_logged(self) -> None:
        async with movies() as http:
            self.patch(RestWorker, "ask", None)
            answer = await http("GET")
            self.assertEqual((answer.code, answer.value["error"]), (500, "InternalError"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    async def test_a_method_that_the_pilot_does_not_know_is_a_bad_request(self) -> None:
        async with running(PilotWorker()) as bus:
            for data in (None, {}, {"method": "PUT"}, [1]):
                with self.assertRaises(BadRequest):
                    await bus.send("WD:*", data)

    async def test_the_trace_context_is_passed_on(self) -> None:
        async def answer(job: Job) -> Any:
            return job.traceparent

        async with movies(Odd(answer)) as http:
            self.assertEqual((await http("GET", headers={"traceparent": TRACE})).value, TRACE)
            for wrong in ("", "x", TRACE + "-1", TRACE.upper(), "\x7f" * 55):
                self.assertIsNone((await http("GET", headers={"traceparent": wrong})).value)

    async def test_the_job_of_a_client_that_disconnects_is_canceled(self) -> None:
        begun: Deferred[Job] = Deferred()
        ended: Deferred[None] = Deferred()

        async def wait(job: Job) -> Any:
            begun.callback(job)
            try:
                await Deferred[None]()
            finally:
                ended.callback(None)

        rest = Remembering()
        async with running(rest, Odd(wait), config=Config(rest_port=0), reactor=reactor):
            asked = Deferred.fromCoroutine(Client(rest)("GET"))
            asked.addErrback(lambda failure: None)
            await begun
            await rest.sent[0].when_accepted()
            asked.cancel()
            await ended

    async def test_stopping_lets_running_requests_finish(self) -> None:
        begun: Deferred[Job] = Deferred()
        go: Deferred[str] = Deferred()

        async def wait(job: Job) -> Any:
            begun.callback(job)
            return await go

        rest = RestWorker()
        async with running(rest, Odd(wait), config=Config(rest_port=0), reactor=reactor):
            asked = Deferred.fromCoroutine(Client(rest)("GET"))
            await begun
            stopped = rest.disownServiceParent()
            with self.assertRaises(Exception) as refused:
                await Client(rest)("GET")
            self.assertIn("refused", str(refused.exception))
            go.callback("done")
            self.assertEqual((await asked).value, "done")
            await stopped

    async def test_a_taken_port_names_its_setting(self) -> None:
        taken = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(Factory())
        self.addCleanup(taken.stopListening)
        port = taken.getHost().port
        with self.assertRaises(ConfigError) as raised:
            async with running(RestWorker(), config=Config(rest_port=port), reactor=reactor):
                self.fail("started")
        self.assertIn("rest_port", str(raised.exception))
        self.assertIn(str(port), str(raised.exception))
        self.flushLoggedErrors()

    async def test_many_at_once_are_all_answered(self) -> None:
        async with movies() as http:
            posts = [Deferred.fromCoroutine(http("POST", json={"n": number})) for number in range(50)]
            answers = await gatherResults(posts)
            self.assertEqual([answer.value["n"] for answer in answers], list(range(50)))
            self.assertEqual(len((await http("GET")).value), 50)

    async def test_a_client_that_disconnects_is_not_logged(self) -> None:
        rest = RestWorker()
        job = JobFuture("7c3e-1", "WB:*", lambda: None, rest.treat_error)
        rest.treat_error(JobCancelled("its client has gone"), job)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_the_configurations_are_valid(self) -> None:
        for path in ("etc/config.json", "etc/config-mongodb.json", "examples/movies/demo.json"):
            load(str(ROOT / path), {})

    def test_these_workers_are_known_wherever_txmicro_is_installed(self) -> None:
        workers = (RestWorker, DBWorker, LoggerWorker, PilotWorker)
        self.assertEqual(
            Catalog({}).find_all(["WA", "WB", "WC", "WD"]), {worker.type: worker for worker in workers}
        )
