"""Daemons that send spans to a collector, over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import treq
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.collector import Collector
from tests.support.logs import listen, texts
from tests.support.programs import Program, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port
from txmicro.tracing import otlp
from txmicro.tracing.otlp import FLUSH

TRACE = "0af7651916cd43dd8448eb211c80319c"
MODULES = """
import sys

from txmicro import Worker


class Modules(Worker):
    type = "Modules"

    def opened(self):
        found = sorted(name for name in sys.modules if name.startswith("opentelemetry"))
        self.log.info("OpenTelemetry: {found}", found=found)
        if found:
            from opentelemetry.trace import get_tracer

            get_tracer("own").start_span("own").end()
"""


def _kill(pidfile: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.kill(int(pidfile.read_text()), signal.SIGKILL)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        await deferLater(reactor, 0.05)
    raise AssertionError("it takes too long")


class TracingTestCase(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.collector = Collector(self)
        self.rest = f"http://127.0.0.1:{(port := free_port())}/movies/"
        self.settings |= {
            "TXMICRO_REST_PORT": str(port),
            "TXMICRO_METRICS_PORT": "0",
            "TXMICRO_BROKER_LISTEN_PORT": "0",
            "TXMICRO_STORE_URL": "sqlite://",
            "TXMICRO_TRACING": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    async def start(self, **settings: str) -> Program:
        program = self.twistd("txmicro", **settings)
        for kind in ("WA", "WB", "WD"):
            await program.says(rf"{kind}:\S+ is ready")
        return program

    async def ask(self, traceparent: str = "") -> int:
        headers: dict[bytes | str, bytes | str] = {"traceparent": traceparent}
        response = await treq.get(self.rest, headers=headers, persistent=False)
        await response.content()
        return int(response.code)


class CollectorTests(TracingTestCase):
    async def test_a_request_is_one_trace_at_the_collector(self) -> None:
        program = await self.start()
        self.assertEqual(await self.ask(traceparent=f"00-{TRACE}-b7ad6b7169203331-01"), 200)
        self.assertEqual(
            await program.signal(signal.SIGTERM), -signal.SIGTERM
        )  # what it has not sent yet is sent now
        await self.collector.has("process WB")
        self.assertEqual(self.collector.paths, {(b"/v1/traces", b"application/x-protobuf")})
        spans = [span for span in self.collector.spans if span.trace_id.hex() == TRACE]
        self.assertEqual({self.collector.services[span.span_id] for span in spans}, {"txmicro"})
        by_id = {span.span_id: span for span in spans}
        line = ["find documents"]
        while (parent := by_id.get(self.collector.one(line[-1]).parent_span_id)) is not None:
            line.append(parent.name)
        self.assertEqual(
            line, ["find documents", "process WB", "send WB", "process WD", "send WD", "GET /movies/"]
        )
        self.assertEqual(self.collector.one("GET /movies/").parent_span_id.hex(), "b7ad6b7169203331")
        self.assertEqual(self.collector.one("process WB").kind, Span.SPAN_KIND_CONSUMER)
        self.assertEqual(self.collector.one("process WB").status.code, Status.STATUS_CODE_UNSET)

    async def test_the_environment_names_the_service_and_samples(self) -> None:
        program = await self.start(OTEL_SERVICE_NAME="shop", OTEL_TRACES_SAMPLER="parentbased_always_off")
        await self.ask()
        await self.ask(traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
        await program.signal(signal.SIGTERM)
        await self.collector.has("process WB")
        self.assertEqual({span.trace_id.hex() for span in self.collector.spans}, {TRACE})
        self.assertEqual(set(self.collector.services.values()), {"shop"})


class TroubleTests(TracingTestCase):
    async def test_a_collector_that_cannot_be_reached_harms_nothing_and_is_logged_once(self) -> None:
        endpoint = f"http://127.0.0.1:{free_port()}"
        program = await self.start(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1")
        for _ in range(3):
            self.assertEqual(await self.ask(), 200)
        await program.says("does not take spans")
        self.assertEqual(await self.ask(), 200)
        began = time.monotonic()
        self.assertEqual(await program.signal(signal.SIGTERM), -signal.SIGTERM)
        self.assertLess(time.monotonic() - began, FLUSH + 5)
        self.assertEqual(program.output.count("does not take spans"), 1)
        self.assertNotIn("Traceback", program.output)

    async def test_a_collector_that_does_not_answer_delays_the_stop_for_a_bounded_time(self) -> None:
        self.collector.silent = True
        program = await self.start()
        asked = self.collector.was_asked()
        self.assertEqual(await self.ask(), 200)
        await asked
        began = time.monotonic()
        self.assertEqual(await program.signal(signal.SIGTERM), -signal.SIGTERM)
        self.assertLess(time.monotonic() - began, FLUSH + 5)
        self.assertIn("the last spans were not sent", program.output)

    async def test_a_daemon_in_the_background_sends_spans(self) -> None:
        """It forks, and threads do not survive that."""
        pidfile, log = self.directory / "pid", self.directory / "log"
        program = self.run_program("twistd", "--pidfile", str(pidfile), "--logfile", str(log), "txmicro")
        self.assertEqual(await program.ended(), 0)
        self.addCleanup(_kill, pidfile)
        await _until(
            lambda: log.exists() and all(f"{kind}:" in log.read_text() for kind in ("WA", "WB", "WD"))
        )
        await _until(lambda: log.read_text().count(" is ready") >= 4)
        self.assertEqual(await self.ask(), 200)
        await self.collector.has("process WB")

    async def test_an_unknown_protocol(self) -> None:
        program = self.twistd("txmicro", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        self.assertEqual(await program.ended(), 2)
        self.assertIn("OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc': expected http/protobuf", program.output)


class OffTests(TracingTestCase):
    async def test_without_tracing_a_daemon_does_not_import_opentelemetry(self) -> None:
        (self.directory / "modules.py").write_text(MODULES)
        self.settings |= {
            "TXMICRO_WORKER_TYPES": '{"Modules": "modules:Modules"}',
            "TXMICRO_SERVICES": "broker,manager,Modules",
            "TXMICRO_METRICS_PORT": "0",
            "TXMICRO_BROKER_LISTEN_PORT": "0",
        }
        program = self.twistd("txmicro", TXMICRO_TRACING="off")
        await program.says(r"OpenTelemetry: \[\]")
        await program.kill()
        program = self.twistd("txmicro")
        await program.says(r"OpenTelemetry: \['opentelemetry', ")
        await self.collector.has("own")  # the program's own spans go to the collector, too


class ServiceTests(TestCase):
    """The service in this process, whose lines the tests of programs do not count."""

    timeout = 30.0

    async def test_a_stop_sends_what_has_ended(self) -> None:
        collector, providers = Collector(self), list[object]()
        self.patch(otlp, "set_tracer_provider", providers.append)
        with patch.dict(os.environ, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}):
            tracing = otlp.OtlpTracing("Shop", reactor, os.environ)
        tracing.startService()
        self.assertEqual(providers, [tracing._provider])
        tracing.tracer.store("sqlite", "documents", "find").end()
        await tracing.stopService()
        self.assertEqual([span.name for span in collector.spans], ["find documents"])
        self.assertEqual(set(collector.services.values()), {"Shop"})

    async def test_a_stop_waits_for_a_bounded_time(self) -> None:
        collector = Collector(self)
        collector.silent = True
        self.patch(otlp, "set_tracer_provider", lambda provider: None)
        self.patch(otlp, "FLUSH", 0.05)
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3"}
        with patch.dict(os.environ, environ):
            tracing = otlp.OtlpTracing("Shop", reactor, os.environ)
        tracing.startService()
        tracing.tracer.store("sqlite", "documents", "find").end()
        asked = collector.was_asked()
        events = listen(self)
        await tracing.stopService()
        self.assertEqual(len(texts(events, "the last spans were not sent")), 1)
        await asked
        await _until(lambda: all(thread.name != "txmicro tracing" for thread in threading.enumerate()))
        tracing._sdk_log.remove()
