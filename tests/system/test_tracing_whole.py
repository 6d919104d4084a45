"""A whole trace: an HTTP request, a routing slip, a forward, a durable job that is tried again, and a store."""

from __future__ import annotations

from typing import Any

import treq
from klein import Klein
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.support.spans import Spans, attributes, span_id
from txmicro.config import Config
from txmicro.errors import BadRequest
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.testing import running
from txmicro.tracing import OpenTelemetryTracer
from txmicro.web.site import LimitedRequest
from txmicro.worker import Worker
from txmicro.workers.db import DBWorker
from txmicro.workers.rest import RestWorker

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
CONFIG = Config(store_url="sqlite://", rest_port=0)


class Web(RestWorker):
    type = "Web"
    asked: Deferred[None]

    def routes(self, app: Klein) -> None:
        app.route("/orders/<id>")(self.order)
        app.route("/broken")(self.broken)
        app.route("/wrong")(self.wrong)
        app.route("/slow")(self.slow)

    async def order(self, request: LimitedRequest, id: str) -> bytes:
        return request.json(await self.ask(request, ["A:*", "B:*", "C:*"], [id]))  # type: ignore[arg-type]

    async def broken(self, request: LimitedRequest) -> bytes:
        raise ZeroDivisionError

    async def wrong(self, request: LimitedRequest) -> bytes:
        raise BadRequest("wrong")

    async def slow(self, request: LimitedRequest) -> bytes:
        self.asked.callback(None)
        await Deferred()
        return b""


class Append(Worker):
    """A step of the slip."""

    async def do_job(self, job: Job) -> Any:
        return [*job.data, self.type]


class Third(Worker):
    type = "C"

    async def do_job(self, job: Job) -> Any:
        return Forward("D:*", [*job.data, self.type])


class Fourth(Worker):
    type = "D"

    async def do_job(self, job: Job) -> Any:
        return await self.send("E:*", {"steps": [*job.data, self.type]}, durable=True)


class Last(DBWorker):
    """Fails at first, and then stores the job's data."""

    type = "E"
    retry = RetryPolicy(attempts=2, steps=(0.001,))
    failed = False

    async def do_job(self, job: Job) -> Any:
        if not self.failed:
            self.failed = True
            raise OSError("the disk is full")
        return (await self.store.insert(job.key, job.data))["steps"]


class WholeTraceTests(TestCase):
    timeout = 30.0

    def setUp(self) -> None:
        self.spans = Spans()
        self.web = Web()
        self.web.asked = Deferred()

    def workers(self) -> Any:
        tracer = OpenTelemetryTracer(self.spans.provider)
        steps = (Append("A"), Append("B"), Third(), Fourth(), Last())
        return running(self.web, *steps, config=CONFIG, tracer=tracer)

    async def get(self, path: str, **headers: str) -> Any:
        sent: dict[bytes | str, bytes | str] = {name: value for name, value in headers.items()}  # noqa: C416
        url = f"http://127.0.0.1:{self.web.port}{path}"
        response = await treq.get(url, headers=sent, persistent=False)
        return response.code, await treq.json_content(response)

    async def test_one_tree_with_kinds_links_and_statuses(self) -> None:
        async with self.workers():
            answer = await self.get("/orders/7", traceparent=TRACEPARENT, tracestate="vendor=1")
        self.assertEqual(answer, (200, ["7", "A", "B", "C", "D"]))
        self.flushLoggedErrors(OSError)

        last: list[Any] = ["send E", ["process E"], ["process E", ["insert documents"]]]
        tree = ["send C", ["process C", ["send D", ["process D", last]]]]
        tree = ["send A", ["process A", ["send B", ["process B", tree]]]]
        self.assertEqual(self.spans.tree(), [["GET /orders/<id>", tree]])

        kinds = {span.name.split()[0]: span.kind for span in self.spans.all}
        self.assertEqual(
            kinds,
            {
                "GET": SpanKind.SERVER,
                "send": SpanKind.PRODUCER,
                "process": SpanKind.CONSUMER,
                "insert": SpanKind.CLIENT,
            },
        )
        contexts: list[Any] = [span.get_span_context() for span in self.spans.all]
        self.assertEqual({f"{context.trace_id:032x}" for context in contexts}, {TRACE})
        self.assertEqual({context.trace_state.to_header() for context in contexts}, {"vendor=1"})
        root = self.spans.one("GET /orders/<id>")
        self.assertEqual(root.parent and root.parent.span_id, 0xB7AD6B7169203331)

        first, second = self.spans.named("process E")
        failed = [span for span in self.spans.all if span.status.status_code is not StatusCode.UNSET]
        self.assertEqual(failed, [first])
        linked = {
            span.name: [link.context.span_id for link in span.links] for span in self.spans.all if span.links
        }
        self.assertEqual(linked, {"process E": [span_id(first)]})
        self.assertEqual(len(second.links), 1)

    async def test_the_span_of_a_request(self) -> None:
        async with self.workers():
            await self.get("/orders/7?secret=1")
        self.flushLoggedErrors(OSError)
        self.assertEqual(
            dict(attributes(self.spans.one("GET /orders/<id>"))),
            {
                "http.request.method": "GET",
                "http.route": "/orders/<id>",
                "http.response.status_code": 200,
                "url.path": "/orders/7",
                "url.scheme": "http",
                "server.address": "127.0.0.1",
                "server.port": self.web.port,
            },
        )

    async def test_the_span_of_an_operation_of_a_store(self) -> None:
        async with self.workers() as client:
            await client.send("E:*", {"steps": []}, durable=True)
        self.flushLoggedErrors(OSError)
        self.assertEqual(
            dict(attributes(self.spans.one("insert documents"))),
            {"db.system.name": "sqlite", "db.collection.name": "documents", "db.operation.name": "insert"},
        )

    def status(self, span: ReadableSpan) -> tuple[Any, ...]:
        about = attributes(span)
        return about.get("http.response.status_code"), span.status.status_code, about.get("error.type")

    async def test_an_error_of_the_server_is_one_in_the_trace(self) -> None:
        async with self.workers():
            for path in ("/broken", "/wrong", "/nowhere"):
                await self.get(path)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        broken = self.spans.one("GET /broken")
        self.assertEqual(self.status(broken), (500, StatusCode.ERROR, "ZeroDivisionError"))
        self.assertEqual([event.name for event in broken.events], ["exception"])
        self.assertEqual(self.status(self.spans.one("GET /wrong")), (400, StatusCode.UNSET, None))
        self.assertEqual(self.status(self.spans.one("GET")), (404, StatusCode.UNSET, None))

    async def test_a_request_whose_client_goes_away_has_no_status(self) -> None:
        async with self.workers():
            waiting = Deferred.fromCoroutine(self.get("/slow"))
            await self.web.asked
            waiting.cancel()
            await self.failed(waiting)
        self.assertEqual(self.status(self.spans.one("GET /slow")), (None, StatusCode.UNSET, None))

    async def failed(self, waiting: Deferred[Any]) -> None:
        with self.assertRaises(Exception):  # noqa: B017  # the client's own way to say that it was canceled
            await waiting
