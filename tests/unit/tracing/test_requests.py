"""The spans of HTTP requests that no server would expect."""

from __future__ import annotations

from opentelemetry.trace import StatusCode
from twisted.trial.unittest import SynchronousTestCase

from tests.support.spans import Spans, attributes
from txmicro.tracing import OpenTelemetryTracer


class RequestSpanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.spans = Spans()
        self.tracer = OpenTelemetryTracer(self.spans.provider)

    def test_an_unknown_method_is_not_in_the_name(self) -> None:
        """Clients can send any, and names of spans are grouped."""
        self.tracer.request("BREW", "/", "", (None, None)).answered("", 405)
        (span,) = self.spans.all
        self.assertEqual(span.name, "HTTP")
        self.assertEqual(attributes(span)["http.request.method"], "_OTHER")
        self.assertEqual(attributes(span)["http.request.method_original"], "BREW")

    def test_a_host_of_any_text(self) -> None:
        for host, expected in (
            ("shop", {"server.address": "shop"}),
            ("[::1]:80", {"server.address": "::1", "server.port": 80}),
            ("[", {}),
            ("shop:x", {}),
            (":80", {}),
        ):
            self.spans.clear()
            self.tracer.request("GET", "/", host, (None, None)).answered("/", 200)
            (span,) = self.spans.all
            server = {name: value for name, value in attributes(span).items() if name.startswith("server.")}
            self.assertEqual(server, expected, host)

    def test_it_is_ended_once(self) -> None:
        span = self.tracer.request("GET", "/", "shop", (None, None))
        span.answered("/", 503)
        span.answered("/", 200)
        span.failed(KeyError())
        span.event("late")
        span.end(KeyError())
        (ended,) = self.spans.all
        self.assertEqual(attributes(ended)["http.response.status_code"], 503)
        self.assertEqual(
            (ended.status.status_code, attributes(ended)["error.type"]), (StatusCode.ERROR, "503")
        )
        self.assertEqual(ended.events, ())
