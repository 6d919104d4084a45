from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import treq
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from werkzeug.exceptions import Conflict, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import RequestRedirect

from txmicro.config import Config
from txmicro.errors import (
    BadRequest,
    EncodeError,
    JobError,
    JobTimeout,
    MessageTooLarge,
    NoWorkerAvailable,
    RemoteError,
)
from txmicro.sending.future import JobFuture
from txmicro.stores import StoreError, StoreTimeout
from txmicro.testing import running
from txmicro.web.site import LimitedRequest
from txmicro.worker import Worker
from txmicro.workers.rest import RestWorker, status


class Part(Resource):
    """A resource for all paths that begin with its own."""

    isLeaf = True

    def render_GET(self, request: LimitedRequest) -> bytes:
        return request.json([each.decode() for each in request.postpath or ()])


class Asking(Protocol):
    """A client that sends a request, and fires with the whole answer when the connection is closed."""

    transport: Any

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.heard = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.request)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.heard)


class Things(RestWorker):
    """A REST worker with many kinds of paths and handlers."""

    type = "WT"
    asked = 0
    waits = False

    def routes(self, app: Klein) -> None:
        app.route("/plain")(self.plain)
        app.route("/things/<int:number>", methods=["GET"])(self.thing)
        app.route("/conflict")(self.conflict)
        app.route("/own")(self.own)
        app.route("/ask")(self.answer)
        app.route("/text")(self.text)
        app.route("/nothing")(self.nothing)
        app.route("/part", branch=True)(self.part)
        app.route("/wait")(self.wait)
        app.handle_errors(LookupError)(self.explain)

    def plain(self, request: LimitedRequest) -> bytes:
        return request.json({"plain": b"\x00"})

    def thing(self, request: LimitedRequest, number: int) -> bytes:
        return request.json(number)

    def conflict(self, request: LimitedRequest) -> bytes:
        raise Conflict("it is there already")

    def own(self, request: LimitedRequest) -> bytes:
        raise LookupError("no such thing")

    def text(self, request: LimitedRequest) -> str:
        return '"text"'

    def part(self, request: LimitedRequest) -> Any:
        return Part()

    def nothing(self, request: LimitedRequest) -> None:
        self.asked += 1
        request.setResponseCode(204)

    async def wait(self, request: LimitedRequest) -> bytes:
        self.waits = True
        try:
            await Deferred()
        except CancelledError as error:
            raise ValueError("nobody hears this") from error
        return b""

    async def answer(self, request: LimitedRequest) -> bytes:
        return request.json(await self.ask(request, "WX:*", "question"))

    def explain(self, request: LimitedRequest, failure: Failure) -> bytes:
        return request.error(410, "Gone", str(failure.value))


@asynccontextmanager
async def things(*others: Worker, **keys: Any) -> AsyncIterator[Any]:
    """Run a :class:`Things`; yield a function that sends it a request and returns status and JSON."""
    rest = Things()
    agent: Any = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
    client = treq.client.HTTPClient(agent)

    async def ask(path: str, method: str = "GET") -> tuple[int, Any]:
        response = await client.request(method, f"http://127.0.0.1:{rest.port}{path}")
        return response.code, await treq.json_content(response)

    async with running(rest, *others, config=Config(rest_port=0, **keys), reactor=reactor):
        yield ask


class RestWorkerTests(TestCase):
    async def test_a_plain_function_answers_with_any_encodable_value(self) -> None:
        async with things() as ask:
            binary = {"$binary": {"base64": "AA==", "subType": "00"}}
            self.assertEqual(await ask("/plain"), (200, {"plain": binary}))

    async def test_a_path_may_have_parameters(self) -> None:
        async with things() as ask:
            self.assertEqual(await ask("/things/7"), (200, 7))
            self.assertEqual((await ask("/things/x"))[0], 404)

    async def test_requests_are_counted_by_template_and_never_by_path(self) -> None:
        rest = Things()
        async with running(rest, config=Config(rest_port=0), reactor=reactor) as bus:
            for path in ("/things/7", "/things/8", "/own", "/things/x", "/secret-1", "/secret-2"):
                response = await treq.get(f"http://127.0.0.1:{rest.port}{path}", persistent=False)
                await treq.content(response)
            response = await treq.delete(f"http://127.0.0.1:{rest.port}/things/7", persistent=False)
            await treq.content(response)
            counts = {
                (sample.labels["method"], sample.labels["path"], sample.labels["status"]): sample.value
                for family in bus.metrics.registry.collect()
                for sample in family.samples
                if sample.name == "microservices_http_requests_total"
            }
        self.assertEqual(
            counts,
            {
                ("GET", "/things/<int:number>", "200"): 2,
                ("GET", "/own", "410"): 1,
                ("GET", "unknown", "404"): 3,
                ("DELETE", "unknown", "405"): 1,
            },
        )

    async def test_a_method_that_a_path_does_not_have_is_405(self) -> None:
        async with things() as ask:
            code, body = await ask("/things/7", "DELETE")
            self.assertEqual((code, body["error"]), (405, "MethodNotAllowed"))

    async def test_a_405_lists_the_allowed_methods(self) -> None:
        rest = Things()
        async with running(rest, config=Config(rest_port=0), reactor=reactor):
            response = await treq.delete(f"http://127.0.0.1:{rest.port}/things/7", persistent=False)
            allowed = response.headers.getRawHeaders("allow", [""])[0]
            self.assertIn("GET", allowed.split(", "))
            self.assertEqual(response.headers.getRawHeaders("content-type"), ["application/json"])
            await treq.content(response)

    async def test_an_exception_of_werkzeug_has_its_own_status(self) -> None:
        async with things() as ask:
            self.assertEqual(
                await ask("/conflict"), (409, {"error": "Conflict", "message": "it is there already"})
            )

    async def test_a_worker_may_handle_its_own_errors(self) -> None:
        async with things() as ask:
            self.assertEqual(await ask("/own"), (410, {"error": "Gone", "message": "no such thing"}))

    async def test_other_values_are_rendered_by_klein(self) -> None:
        async with things() as ask:
            self.assertEqual(await ask("/text"), (200, "text"))
            self.assertEqual(await ask("/part/of/it"), (200, ["of", "it"]))

    async def test_a_handler_that_returns_none_is_called_once(self) -> None:
        rest = Things()
        async with running(rest, config=Config(rest_port=0), reactor=reactor):
            response = await treq.get(f"http://127.0.0.1:{rest.port}/nothing", persistent=False)
            self.assertEqual((response.code, rest.asked), (204, 1))

    async def test_a_host_that_is_not_utf_8_is_400_and_not_logged(self) -> None:
        rest = Things()
        async with running(rest, config=Config(rest_port=0), reactor=reactor):
            for path in (b"/plain", b"/missing", b"/nothing"):
                line = b"GET %b HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n" % path
                endpoint = HostnameEndpoint(reactor, "127.0.0.1", rest.port)
                asking = await connectProtocol(endpoint, Asking(line))
                answer = await asking.ended
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
                self.assertIn(b"the Host header is not valid UTF-8", answer)

    async def test_an_error_after_the_client_has_left_is_logged(self) -> None:
        rest = Things()
        async with running(rest, config=Config(rest_port=0), reactor=reactor):
            asking = treq.get(f"http://127.0.0.1:{rest.port}/wait", persistent=False)
            while not rest.waits:
                await deferLater(reactor, 0)
            asking.addErrback(lambda _: None).cancel()
            while not (logged := self.flushLoggedErrors(ValueError)):
                await deferLater(reactor, 0)
            self.assertEqual(len(logged), 1)

    async def test_a_job_may_have_any_result(self) -> None:
        async with things(Worker("WX", do_job=lambda job: [job.data, None, 1.5])) as ask:
            self.assertEqual(await ask("/ask"), (200, ["question", None, 1.5]))

    async def test_server_errors_are_counted(self) -> None:
        def fail(job: Any) -> Any:
            raise JobTimeout("too late")

        rest = Things()
        async with running(rest, Worker("WX", do_job=fail), config=Config(rest_port=0), reactor=reactor):
            for path, code in (("ask", 504), ("nowhere", 404)):
                response = await treq.get(f"http://127.0.0.1:{rest.port}/{path}", persistent=False)
                await treq.content(response)
                self.assertEqual(response.code, code)
            labels = {"service": "WT", "error_type": "JobTimeout"}
            count = rest.metrics.registry.get_sample_value("microservices_job_errors_total", labels)
            self.assertEqual(count, 1)

    async def test_an_unawaited_failed_job_is_reported(self) -> None:
        rest = Things()
        seen: list[Any] = []
        self.patch(Worker, "treat_error", lambda self, error, job: seen.append(error))
        error = JobTimeout("late")
        rest.treat_error(error, JobFuture("7c3e-1", "WB:*", lambda: None, rest.treat_error))
        self.assertEqual(seen, [error])

    async def test_a_worker_that_never_started_stops(self) -> None:
        await Things().stopService()


class SoldOut(JobError):
    """An error of a user's program."""

    http_status = 409


class Secret(JobError):
    """An error that is only logged."""

    http_status = 503
    public = False


class NoText(SoldOut):
    """An error whose constructor does not call that of its base class."""

    def __init__(self) -> None:
        Exception.__init__(self, "the text")


def raiser(error: Exception) -> Any:
    """Return a handler of :class:`Things` that raises *error*."""

    def fail(self: Things, request: LimitedRequest) -> bytes:
        raise error

    return fail


class Odd(JobError):
    """An error whose status is not one of an error."""

    http_status = 200


class LeavingTests(TestCase):
    async def leave(self, error: Exception) -> tuple[int, Any]:
        """Return the client's response when a handler raises *error*."""

        async def fail(job: Any) -> Any:
            raise error

        async with things(Worker("WX", do_job=fail)) as ask:
            code, body = await ask("/ask")
            return code, body

    async def test_the_client_gets_status_and_text_of_a_job_error(self) -> None:
        told = await self.leave(SoldOut("none left"))
        self.assertEqual(told, (409, {"error": "SoldOut", "message": "none left"}))
        told = await self.leave(JobError("it is gone", http_status=410))
        self.assertEqual(told, (410, {"error": "JobError", "message": "it is gone"}))

    async def test_an_error_with_any_content_is_answered(self) -> None:
        for error in (SoldOut(object()), SoldOut("\ud800"), Conflict("\ud800"), NoText()):  # type: ignore[arg-type]
            self.patch(Things, "own", raiser(error))
            async with things() as ask:
                code, body = await ask("/own")
                self.assertEqual((code, body["error"]), (409, type(error).__name__))
        self.assertEqual(body["message"], "the text")

    async def test_an_answer_that_cannot_be_encoded_is_an_internal_error(self) -> None:
        self.patch(Things, "own", lambda self, request: request.json(object()))
        async with things() as ask:
            code, body = await ask("/own")
        self.assertEqual((code, body["error"]), (500, "InternalError"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    async def test_of_any_other_error_the_client_gets_only_the_job_id(self) -> None:
        for error, expected in (
            (RuntimeError("cannot open postgres://admin:topsecret@db/prod"), 500),
            (Secret("topsecret"), 503),
            (StoreError("SQLite: topsecret"), 503),
        ):
            code, body = await self.leave(error)
            self.assertEqual((code, body["error"]), (expected, "InternalError"))
            self.assertNotIn("topsecret", str(body))
        self.flushLoggedErrors(RuntimeError)

    async def test_the_log_has_the_error_that_the_client_does_not_get(self) -> None:
        with capturedLogs() as lines:
            _, body = await self.leave(Secret("topsecret"))
        told = [formatEvent(line) for line in lines if "the HTTP client gets only" in str(line["log_format"])]
        self.assertEqual(len(told), 1)
        for part in ("Secret: topsecret", "at WX:", body["message"].split()[-1]):
            self.assertIn(part, told[0])

    async def test_an_error_of_an_unknown_class_keeps_status_and_text(self) -> None:
        known = JobError.types
        self.patch(JobError, "types", {name: kind for name, kind in known.items() if "SoldOut" not in name})
        told = await self.leave(SoldOut("none left"))
        self.assertEqual(told, (409, {"error": "SoldOut", "message": "none left"}))


class StatusTests(SynchronousTestCase):
    def test_each_error_has_its_status(self) -> None:
        for error, code in (
            (BadRequest("no"), 400),
            (BadRequest("no", worker="WB:1"), 400),
            (EncodeError("no"), 400),
            (EncodeError("no", worker="WB:1"), 500),
            (MessageTooLarge("no"), 413),
            (MessageTooLarge("no", worker="WB:1"), 500),
            (JobTimeout("no"), 504),
            (NoWorkerAvailable("no", worker="WB:1"), 503),
            (StoreTimeout("no", worker="WB:1"), 504),
            (JobError("no"), 500),
            (SoldOut("no", worker="WB:1"), 409),
            (SoldOut("no", http_status=410), 410),
            (Odd("no"), 500),
            (RemoteError("no", type="BadRequest"), 500),
            (NotFound(), 404),
            (RequestRedirect("/x/"), 404),
            (MethodNotAllowed(), 405),
            (RequestEntityTooLarge(), 413),
            (HTTPException(), 500),
            (ValueError("no"), 500),
        ):
            self.assertEqual(status(error), code, repr(error))
