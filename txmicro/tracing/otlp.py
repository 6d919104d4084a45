"""Sends the spans of a process to a collector, with OTLP over HTTP.

The environment variables ``OTEL_…`` configure it, as in other programs. OpenTelemetry reads them itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_tracer_provider
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from .collector import ReportingExporter, SdkLog
from .tracer import OpenTelemetryTracer

FLUSH: Final = 3.0
"""Seconds that a stop waits at most until the last spans are sent."""

_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_UNNAMED: Final = "unknown_service"


class OtlpTracing(Service):
    """The spans of a process, and the thread that sends them. It starts before the workers, and stops after them.

    :param name: the ``service.name`` of the process, unless the environment has one.
    :raise ValueError: an environment variable is not valid.
    :ivar tracer: records the spans.
    """

    log = Logger()

    def __init__(self, name: str, reactor: Any, environ: Mapping[str, str]) -> None:
        _check_protocol(environ)
        self._reactor = reactor
        self._sdk_log = SdkLog(reactor.callFromThread)
        self._sdk_log.install()
        endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), "http://localhost:4318")
        self._exporter = ReportingExporter(
            OTLPSpanExporter(), f"the collector {endpoint}", self._sdk_log, reactor.callFromThread
        )
        self._provider = TracerProvider(resource=_resource(name), shutdown_on_exit=False)
        self.tracer = OpenTelemetryTracer(self._provider)

    def startService(self) -> None:
        """Start the thread. A daemon has forked before, and threads do not survive that."""
        super().startService()  # type: ignore[no-untyped-call]
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        set_tracer_provider(self._provider)  # for spans of the program, and for instrumented libraries

    def stopService(self) -> Deferred[None]:
        """Send the last spans, for at most :data:`FLUSH` seconds. Fires with None when that is over; does not fail."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        flushed: Deferred[None] = Deferred()  # may fire after the wait: the thread goes on
        # Not in Twisted's pool: Python waits for the threads of that when the process ends.
        threading.Thread(target=self._flush, args=(flushed,), name="txmicro tracing", daemon=True).start()
        try:
            await flushed.addTimeout(FLUSH, self._reactor)
        except TimeoutError:
            self.log.warn(
                "the last spans were not sent within {seconds:g} s and are lost; the process stops without them",
                seconds=FLUSH,
            )
        else:
            self._sdk_log.remove()  # otherwise the exporter would still log, to stderr

    def _flush(self, flushed: Deferred[None]) -> None:
        """Send what waits, and end the thread of the processor. This runs in a thread."""
        self._provider.shutdown()
        self._reactor.callFromThread(flushed.callback, None)


def _check_protocol(environ: Mapping[str, str]) -> None:
    for name in _PROTOCOLS:
        protocol = environ.get(name)
        if protocol not in (None, "", "http/protobuf"):
            raise ValueError(
                f"{name} is {protocol!r:.40}: expected http/protobuf, at the collector's HTTP port, usually 4318"
            )


def _resource(name: str) -> Resource:
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: name}))
    return resource
