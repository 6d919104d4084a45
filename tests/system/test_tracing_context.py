"""The current span in handlers, and the trace context of what they send."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Tracer, get_current_span
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import TestCase

from tests.support.programs import reactor
from tests.support.spans import Spans, TracedSystemTestCase, attributes, span_id
from tests.support.system import SystemTestCase
from txmicro.protocol.job import Forward, Job
from txmicro.testing import running
from txmicro.tracing import OpenTelemetryTracer
from txmicro.tracing.context import parse
from txmicro.worker import Worker

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


class CurrentSpanTests(TestCase):
    """A handler's own spans are below the span of its run, and so are the jobs that it sends."""

    timeout = 30.0

    def setUp(self) -> None:
        self.spans = Spans()
        self.own: Tracer = self.spans.provider.get_tracer("of the user")

    async def run_one(self, handler: Callable[[Job], Any], *, threads: bool = False) -> None:
        """Run two jobs at once, so that each could have the other's span. Check the trees."""

        async def last(job: Job) -> None:
            pass

        self.worker = Worker("WB", do_job=handler)
        self.worker.threads = threads
        tracer = OpenTelemetryTracer(self.spans.provider)
        async with running(self.worker, Worker("WC", do_job=last), tracer=tracer) as client:
            jobs = [client.send("WB:*") for _ in range(2)]
            for job in jobs:
                await job
        within = ["own", ["send WC", ["process WC"]]]
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB", within]]] * 2)
        self.assertFalse(get_current_span().get_span_context().is_valid)

    async def test_a_coroutine_also_after_an_await(self) -> None:
        async def handle(job: Job) -> None:
            await deferLater(reactor, 0)
            with self.own.start_as_current_span("own"):
                await deferLater(reactor, 0)
                await self.worker.send("WC:*")

        await self.run_one(handle)

    async def test_an_inline_callbacks_function(self) -> None:
        @inlineCallbacks
        def handle(job: Job) -> Generator[Any, Any, None]:
            yield deferLater(reactor, 0)
            with self.own.start_as_current_span("own"):
                yield self.worker.send("WC:*").when_done()

        await self.run_one(handle)

    async def test_a_function_that_returns_a_deferred(self) -> None:
        def handle(job: Job) -> Deferred[Any]:
            with self.own.start_as_current_span("own"):
                return self.worker.send("WC:*").when_done()

        await self.run_one(handle)

    async def test_a_thread(self) -> None:
        def handle(job: Job) -> None:
            with self.own.start_as_current_span("own"):
                blockingCallFromThread(
                    reactor, copy_context().run, lambda: self.worker.send("WC:*").when_done()
                )

        await self.run_one(handle, threads=True)

    async def test_a_call_in_a_thread(self) -> None:
        def block() -> None:
            with self.own.start_as_current_span("own"):
                blockingCallFromThread(
                    reactor, copy_context().run, lambda: self.worker.send("WC:*").when_done()
                )

        async def handle(job: Job) -> None:
            await self.worker.in_thread(block)

        await self.run_one(handle)

    async def test_a_callback_that_takes_the_context_along(self) -> None:
        def handle(job: Job) -> Deferred[Any]:
            def call() -> Deferred[Any]:
                with self.own.start_as_current_span("own"):
                    return self.worker.send("WC:*").when_done()

            context = copy_context()
            return deferLater(reactor, 0).addCallback(lambda _: context.run(call))

        await self.run_one(handle)


class PassedOnTests(TracedSystemTestCase):
    """The trace context that messages carry."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[tuple[str | None, str | None]] = []
        self.sender = Worker("WA")

    def run_one(self, handler: Any = None, **send: Any) -> list[tuple[str | None, str | None]]:
        """Run a job that is forwarded; return the trace contexts that both handlers see."""

        async def first(job: Job) -> Forward:
            self.seen.append((job.traceparent, job.tracestate))
            return Forward("WC:*")

        async def second(job: Job) -> None:
            self.seen.append((job.traceparent, job.tracestate))

        self.process(self.sender, Worker("WB", do_job=handler or first), Worker("WC", do_job=second))
        self.result(self.sender.send("WB:*", **send).when_done(), 1)
        return self.seen

    def parent(self, span: ReadableSpan) -> int:
        return span.parent.span_id if span.parent else 0

    def test_a_trace_of_another_program_goes_on(self) -> None:
        first, second = self.run_one(traceparent=SAMPLED, tracestate="vendor=1,other=2")
        self.assertEqual({str(seen[0])[:36] for seen in (first, second)}, {SAMPLED[:36]})
        self.assertEqual({seen[1] for seen in (first, second)}, {"vendor=1,other=2"})
        self.assertNotEqual(first[0], second[0])
        send = self.spans.one("send WB")
        self.assertEqual(self.parent(send), 0xB7AD6B7169203331)
        self.assertEqual(self.parent(self.spans.one("process WB")), span_id(send))

    def test_what_is_not_sampled_passes_unchanged(self) -> None:
        self.trace_with(ParentBased(ALWAYS_ON))
        self.patch(self.tracer, "_start", None)  # the sampler is not asked, which takes long
        seen = self.run_one(traceparent=UNSAMPLED, tracestate="vendor=1")
        self.assertEqual(seen, [(UNSAMPLED, "vendor=1")] * 2)
        self.assertEqual(self.spans.all, [])

    def test_what_only_this_process_does_not_sample_passes_unchanged(self) -> None:
        """The next process may record, and must not get a parent that nobody records."""
        self.trace_with(ALWAYS_OFF)
        seen = self.run_one(traceparent=SAMPLED, tracestate="vendor=1")
        self.assertEqual(seen, [(SAMPLED, "vendor=1")] * 2)

    def test_a_hop_is_below_its_own_handler_whatever_ends_that(self) -> None:
        """A handler ends in the context of the one that fires what it waits for."""
        waiting: Deferred[None] = Deferred()

        async def handle(job: Job) -> Any:
            if job.data == "fire":
                waiting.callback(None)
                return None
            await waiting
            return Forward("WC:*")

        async def last(job: Job) -> None:
            pass

        self.process(self.sender, Worker("WB", do_job=handle), Worker("WC", do_job=last))
        for data in ("wait", "fire"):
            self.sender.send("WB:*", data, traceparent=SAMPLED)
            self.advance(0.2)
        waits = self.spans.named("process WB")[0]
        self.assertEqual(self.parent(self.spans.one("send WC")), span_id(waits))

    def test_a_sampler_that_ignores_the_parents_decision_is_asked(self) -> None:
        self.trace_with(ALWAYS_ON)
        self.run_one(traceparent=UNSAMPLED)
        self.assertEqual(len(self.spans.named("process WB")), 1)

    def test_spans_of_a_handler_that_is_not_sampled_are_not_sampled(self) -> None:
        self.trace_with(ParentBased(ALWAYS_ON))

        async def handle(job: Job) -> None:
            with self.spans.provider.get_tracer("own").start_as_current_span("own") as span:
                self.seen.append((f"{span.get_span_context().trace_id:032x}", None))

        self.assertEqual(self.run_one(handle, traceparent=UNSAMPLED), [(TRACE, None)])
        self.assertEqual(self.spans.all, [])

    def test_the_decision_not_to_sample_is_passed_on(self) -> None:
        """Otherwise each worker would decide anew, and record a part of the trace."""
        self.trace_with(ParentBased(ALWAYS_OFF))
        (first, _), (second, _) = self.run_one()
        self.assertRegex(str(first), "00-[0-9a-f]{32}-[0-9a-f]{16}-0[02]")
        self.assertEqual(first, second)
        self.assertEqual(self.spans.all, [])

    def test_a_job_in_an_unsampled_handler_is_unsampled(self) -> None:
        self.trace_with(ParentBased(TraceIdRatioBased(1.0)))

        async def handle(job: Job) -> None:
            self.seen.append((job.traceparent, job.tracestate))
            await self.sender.send("WC:*")

        self.assertEqual(self.run_one(handle, traceparent=UNSAMPLED), [(UNSAMPLED, None)] * 2)
        self.assertEqual(self.spans.all, [])

    def test_an_explicit_context_of_another_trace_is_the_parent(self) -> None:
        async def handle(job: Job) -> None:
            await self.sender.send("WC:*", traceparent=SAMPLED)

        self.run_one(handle)
        self.assertEqual(self.parent(self.spans.one("send WC")), 0xB7AD6B7169203331)

    def test_a_context_that_is_not_valid_begins_a_new_trace(self) -> None:
        wrong = (
            "",
            "5",
            SAMPLED.replace("00-", "ff-", 1),
            f"{SAMPLED}-x",
            f"00-{'0' * 32}-b7ad6b7169203331-01",
        )
        for traceparent in wrong:
            with self.subTest(traceparent):
                self.assertIsNone(parse(traceparent))
        self.trace_with(ParentBased(ALWAYS_ON))
        self.run_one(traceparent="5")
        for traceparent in ("", "0"):
            self.result(self.sender.send("WB:*", traceparent=traceparent).when_done())
        self.assertEqual([span.parent for span in self.spans.named("send WB")], [None] * 3)

    def test_a_later_version_is_read(self) -> None:
        later = parse(SAMPLED.replace("00-", "01-", 1) + "-more")
        self.assertEqual(later and later.trace_id, int(TRACE, 16))


class WithoutTracerTests(SystemTestCase):
    """Without a tracer, the context of the sender goes through all hops unchanged."""

    def test_both_headers_are_passed_on(self) -> None:
        sender = Worker("WA")
        seen: list[tuple[str | None, str | None]] = []

        async def first(job: Job) -> Forward:
            await sender.send("WC:*")
            await sender.send("WC:*", durable=True).when_stored()
            return Forward("WC:*")

        async def second(job: Job) -> None:
            seen.append((job.traceparent, job.tracestate))

        self.process(sender, Worker("WB", do_job=first), Worker("WC", do_job=second))
        job = sender.send("WB:*", traceparent=SAMPLED, tracestate="vendor=1")
        self.result(job.when_done(), 1)
        self.assertEqual(seen, [(SAMPLED, "vendor=1")] * 3)


class EventTests(TracedSystemTestCase):
    """Events carry a trace context, too."""

    def setUp(self) -> None:
        super().setUp()
        self.sender, self.subscriber = Worker("WA"), Worker("WS")
        self.seen: list[tuple[str | None, str | None]] = []

        async def last(job: Job) -> None:
            self.seen.append((job.traceparent, job.tracestate))

        self.last = Worker("WC", do_job=last)

    async def handle(self, topic: str, data: Any) -> None:
        await self.subscriber.send("WC:*")

    def publish_in_a_job(self, topic: str, **send: Any) -> None:
        async def publish(job: Job) -> None:
            self.first.publish(topic, 5)

        self.first = Worker("WB", do_job=publish)
        self.processes()
        self.result(self.subscriber.subscribe("order.*" if topic.startswith("order") else "#", self.handle))
        self.result(self.sender.send("WB:*", **send).when_done(), 1)

    def processes(self) -> None:
        self.process(self.sender, self.first, self.subscriber, self.last)

    def test_an_event_is_part_of_the_trace_of_its_publisher(self) -> None:
        self.publish_in_a_job("order.7")
        event = ["publish txmicro.events", ["process order.*", ["send WC", ["process WC"]]]]
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB", event]]])
        publish, process = self.spans.one("publish txmicro.events"), self.spans.one("process order.*")
        self.assertEqual((publish.kind, process.kind), (SpanKind.PRODUCER, SpanKind.CONSUMER))
        same = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": "txmicro.events:order.7",
            "messaging.rabbitmq.destination.routing_key": "order.7",
        }
        self.assertEqual(
            dict(attributes(publish)),
            {
                **same,
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.client.id": self.first.id,
            },
        )
        self.assertEqual(
            dict(attributes(process)),
            {
                **same,
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.template": "order.*",
                "messaging.client.id": self.subscriber.id,
            },
        )

    def test_an_error_of_its_handler_is_recorded(self) -> None:
        async def fail(topic: str, data: Any) -> None:
            raise KeyError(data)

        self.process(self.sender, self.subscriber)
        self.result(self.subscriber.subscribe("order.*", fail))
        self.sender.publish("order.7", 5)
        self.advance(0.2)
        self.assertEqual(self.spans.tree(), [["publish txmicro.events", ["process order.*"]]])
        self.assertEqual(attributes(self.spans.one("process order.*"))["error.type"], "KeyError")
        self.flushLoggedErrors(KeyError)

    def test_log_lines_have_no_spans(self) -> None:
        """Otherwise each line of a logger worker would be one more span."""
        self.publish_in_a_job("log.info.WB")
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"]], ["send WC", ["process WC"]]])


class EventWithoutTracerTests(EventTests):
    """Without a tracer, an event carries the context of the job whose handler publishes it."""

    def processes(self) -> None:
        SystemTestCase.process(self, self.sender, self.first, self.subscriber, self.last)

    def test_an_event_is_part_of_the_trace_of_its_publisher(self) -> None:
        self.publish_in_a_job("order.7", traceparent=SAMPLED, tracestate="vendor=1")
        self.assertEqual(self.seen, [(SAMPLED, "vendor=1")])
        self.assertEqual(self.spans.all, [])

    def test_log_lines_have_no_spans(self) -> None:
        self.publish_in_a_job("log.info.WB", traceparent=SAMPLED)
        self.assertEqual(self.seen, [(None, None)])
