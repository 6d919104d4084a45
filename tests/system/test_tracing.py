"""The spans of jobs, in a system in memory."""

from __future__ import annotations

from io import StringIO
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.support.spans import TracedSystemTestCase, attributes, span_id
from txmicro.amqp import uri
from txmicro.bus.targets import Target
from txmicro.cli import main as cli
from txmicro.errors import AddressError, EncodeError, JobTimeout, NotStored, RemoteError
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.worker import Worker


class JobSpanTests(TracedSystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA")

    def test_a_job_has_a_producer_span_and_a_consumer_span(self) -> None:
        async def echo(job: Job) -> Any:
            return job.traceparent

        worker = Worker("WB", do_job=echo)
        self.process(self.sender, worker)
        job = self.sender.send("WB:*")
        self.assertEqual(self.spans.all, [])
        seen = self.result(job.when_done())
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"]]])
        send, process = self.spans.all
        self.assertEqual((send.kind, process.kind), (SpanKind.PRODUCER, SpanKind.CONSUMER))
        self.assertEqual({span.status.status_code for span in self.spans.all}, {StatusCode.UNSET})
        context: Any = process.get_span_context()
        self.assertEqual(seen, f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
        same = {
            "messaging.system": "rabbitmq",
            "messaging.message.id": f"{job.id}/0",
            "messaging.message.conversation_id": job.id,
            "messaging.rabbitmq.destination.routing_key": "*",
            "txmicro.job.lane": "interactive",
        }
        self.assertEqual(
            dict(attributes(send)),
            {
                **same,
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": "txmicro.to.WB:*",
                "messaging.client.id": self.sender.id,
            },
        )
        self.assertEqual(
            dict(attributes(process)),
            {
                **same,
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": "txmicro.to.WB:*:txmicro.jobs.WB",
                "messaging.client.id": worker.id,
                "messaging.consumer.group.name": "WB",
                "txmicro.job.attempt": 1,
                "txmicro.job.wait": 0.0,
                "txmicro.job.outcome": "succeeded",
            },
        )

    def test_hops_of_a_slip_and_of_a_forward_are_one_tree(self) -> None:
        def step(name: str, following: str = "") -> Worker:
            async def handle(job: Job) -> Any:
                return Forward(following, job.data) if following else f"{job.data}{name}"

            return Worker(f"W{name}", do_job=handle)

        self.process(self.sender)
        self.process(step("A1"))
        self.process(step("A2"), step("A3", "WA4:*"), step("A4"))
        result = self.result(self.sender.send(["WA1:*", "WA2:*", "WA3:*"], "").when_done())
        self.assertEqual(result, "A1A2A4")
        self.advance(1)
        last = ["send WA4", ["process WA4"]]
        third = ["send WA3", ["process WA3", last]]
        second = ["send WA2", ["process WA2", third]]
        self.assertEqual(self.spans.tree(), [["send WA1", ["process WA1", second]]])
        self.assertEqual(
            [attributes(span)["txmicro.job.outcome"] for span in self.spans.all if "process" in span.name],
            ["forwarded", "forwarded", "forwarded", "succeeded"],
        )
        self.assertEqual(
            [str(attributes(span)["messaging.message.id"])[-2:] for span in self.spans.named("send WA2")],
            ["/1"],
        )
        self.assertEqual([span.links for span in self.spans.all], [()] * 8)

    def test_a_later_hop_is_sent_when_a_worker_has_it(self) -> None:
        """Its span does not last until the job ends, as the first hop's does."""
        waiting: Deferred[None] = Deferred()

        async def handle(job: Job) -> None:
            await waiting

        async def forward(job: Job) -> Forward:
            return Forward("WC:*")

        self.process(self.sender, Worker("WB", do_job=forward), Worker("WC", do_job=handle))
        job = self.sender.send("WB:*")
        self.advance(0.2)
        self.assertEqual([span.name for span in self.spans.all], ["process WB", "send WC"])
        (accepted,) = self.spans.one("send WC").events
        self.assertEqual(accepted.name, "accepted")
        waiting.callback(None)
        self.result(job.when_done())
        (accepted,) = self.spans.one("send WB").events
        self.assertEqual(accepted.name, "accepted")

    def test_an_error_is_recorded(self) -> None:
        async def handle(job: Job) -> None:
            raise KeyError("missing")

        self.process(self.sender, Worker("WB", do_job=handle))
        self.error(self.sender.send("WB:*").when_done(), RemoteError)
        send, process = self.spans.all
        self.assertEqual(attributes(process)["txmicro.job.outcome"], "failed")
        for span in (send, process):
            self.assertEqual(span.status.status_code, StatusCode.ERROR)
            self.assertEqual(attributes(span)["error.type"], "KeyError")
        self.assertEqual(process.status.description, "'missing'")
        (event,) = process.events
        self.assertEqual((event.name, (event.attributes or {})["exception.type"]), ("exception", "KeyError"))
        self.assertIn('raise KeyError("missing")', str((event.attributes or {})["exception.stacktrace"]))
        self.flushLoggedErrors(KeyError)

    def test_an_error_without_a_text_is_recorded(self) -> None:
        class Textless(Exception):
            def __str__(self) -> str:
                raise ZeroDivisionError

        async def handle(job: Job) -> None:
            raise Textless

        self.process(self.sender, Worker("WB", do_job=handle))
        self.error(self.sender.send("WB:*").when_done(), RemoteError)
        process = self.spans.one("process WB")
        self.assertEqual(process.status.status_code, StatusCode.ERROR)
        self.assertEqual(attributes(process)["error.type"], "Textless")
        self.flushLoggedErrors()

    def test_a_span_processor_that_raises_harms_no_job(self) -> None:
        class Raises(SpanProcessor):
            def on_start(self, span: Any, parent_context: Any = None) -> None:
                if "A" in span.name:
                    raise ZeroDivisionError

            def on_end(self, span: Any) -> None:
                raise ZeroDivisionError

        async def echo(job: Job) -> Any:
            return job.data

        self.spans.provider.add_span_processor(Raises())
        self.process(self.sender, Worker("WB", do_job=echo), Worker("A", do_job=echo))
        for address in ("WB:*", "A:*"):
            self.assertEqual(self.result(self.sender.send(address, 5).when_done()), 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_a_result_that_cannot_be_sent_is_an_error(self) -> None:
        async def handle(job: Job) -> Any:
            return object()

        self.process(self.sender, Worker("WB", do_job=handle))
        self.error(self.sender.send("WB:*").when_done(), EncodeError)
        self.assertEqual(attributes(self.spans.one("process WB"))["error.type"], "EncodeError")

    def test_a_job_that_cannot_be_sent_has_a_span_with_the_error(self) -> None:
        self.process(self.sender)
        for durable in (False, True):
            self.spans.clear()
            with self.assertRaises(EncodeError):
                self.sender.send("WB:*", object(), durable=durable)
            self.assertEqual(attributes(self.spans.one("send WB"))["error.type"], "EncodeError")

    def test_a_job_that_times_out_is_an_error_at_its_sender(self) -> None:
        async def handle(job: Job) -> None:
            await Deferred()

        self.process(self.sender, Worker("WB", do_job=handle))
        self.error(self.sender.send("WB:*", timeout=1.0).when_done(), JobTimeout, 2.0)
        self.assertEqual(attributes(self.spans.one("send WB"))["error.type"], "JobTimeout")

    def test_a_job_that_is_sent_again_has_one_span_and_its_run_a_link(self) -> None:
        seen: list[int] = []

        async def handle(job: Job) -> None:
            seen.append(job.tries)

        self.process(self.sender)
        job = self.sender.send("WB:*", timeout=20)
        self.advance(4)
        self.process(Worker("WB", do_job=handle))
        self.result(job.when_done(), 4)
        send, process = self.spans.all
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"]]])
        self.assertEqual(send.events[0].name, "sent again")
        self.assertGreater(seen[0], 0)
        self.assertEqual(attributes(process)["txmicro.job.attempt"], seen[0] + 1)
        (link,) = process.links
        self.assertEqual(link.context.span_id, span_id(send))
        self.assertEqual(dict(link.attributes or {}), {"txmicro.link": "sent again"})

    def test_the_time_that_a_job_has_waited(self) -> None:
        clock: Any = self.clock

        async def handle(job: Job) -> None:
            await deferLater(clock, 3)

        worker = Worker("WB", do_job=handle)
        worker.capacity = 1
        self.process(self.sender, worker)
        jobs = [self.sender.send("WB:*") for _ in range(2)]
        self.result(gatherResults([job.when_done() for job in jobs]), 12)
        first, second = self.spans.named("process WB")
        self.assertEqual(attributes(first)["txmicro.job.wait"], 0)
        self.assertGreater(float(attributes(second)["txmicro.job.wait"]), 2.9)


class DurableSpanTests(TracedSystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA")
        self.failures = 1

        async def handle(job: Job) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise OSError("the disk is full")
            return job.traceparent

        self.worker = Worker("WB", do_job=handle)
        self.worker.retry = RetryPolicy(attempts=2, steps=(1.0,))
        self.addCleanup(self.flushLoggedErrors, OSError)

    def test_the_span_of_sending_ends_when_the_broker_has_the_job(self) -> None:
        self.failures = 0
        self.process(self.worker)
        self.process(self.sender)
        self.result(self.sender.send("WB:*", durable=True).when_done())
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"]]])
        send, process = self.spans.all
        self.assertLess(send.end_time or 0, process.end_time or 0)
        self.assertEqual(attributes(send)["messaging.destination.name"], "txmicro.to.WB:durable")
        self.assertEqual(
            attributes(process)["messaging.destination.name"], "txmicro.to.WB:durable:txmicro.jobs.WB.durable"
        )
        self.assertEqual(attributes(process)["txmicro.job.lane"], "durable")

    def test_each_attempt_has_a_link_to_the_one_before(self) -> None:
        self.process(self.sender, self.worker)
        self.result(self.sender.send("WB:*", durable=True).when_done(), 2)
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"], ["process WB"]]])
        first, second = self.spans.named("process WB")
        self.assertEqual(
            (first.status.status_code, second.status.status_code), (StatusCode.ERROR, StatusCode.UNSET)
        )
        self.assertEqual(
            [
                (attributes(span)["txmicro.job.attempt"], attributes(span)["txmicro.job.outcome"])
                for span in (first, second)
            ],
            [(1, "retried"), (2, "succeeded")],
        )
        self.assertEqual(first.links, ())
        (link,) = second.links
        self.assertEqual(link.context.span_id, span_id(first))
        self.assertEqual(dict(link.attributes or {}), {"txmicro.link": "earlier attempt"})
        self.assertNotIn("txmicro.job.wait", attributes(second))

    def test_a_dead_letter_that_is_requeued_goes_on_in_its_trace(self) -> None:
        self.failures = 2
        self.process(self.sender, self.worker)
        self.error(self.sender.send("WB:*", durable=True).when_done(), RemoteError, 3)
        self.assertEqual(
            [attributes(span)["txmicro.job.outcome"] for span in self.spans.named("process WB")],
            ["retried", "dead"],
        )
        target = Target(self.endpoint, uri.parse("amqp://guest:guest@memory"))
        command = cli.Command(
            self.clock, {}, StringIO(), StringIO(), self.unix_time, targets=lambda *_: [target]
        )
        self.assertEqual(self.result(command.run(["dead", "requeue", "WB", "--all"]), 2), cli.DONE)
        third = self.spans.named("process WB")[2]
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB"], ["process WB"], ["process WB"]]])
        (link,) = third.links
        self.assertEqual(link.context.span_id, span_id(self.spans.named("process WB")[1]))
        self.assertEqual(attributes(third)["txmicro.job.attempt"], 1)

    def test_a_next_hop_that_no_queue_takes_is_an_error(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("Nobody:*")

        self.worker.do_job = forward
        self.worker.retry = RetryPolicy(attempts=1)
        self.process(self.sender, self.worker)
        self.error(self.sender.send("WB:*", durable=True).when_done(), NotStored, 10)
        self.assertEqual(self.spans.tree(), [["send WB", ["process WB", ["send Nobody"]]]])
        for name in ("process WB", "send Nobody"):
            self.assertEqual(attributes(self.spans.one(name))["error.type"], "NotStored")

    def test_a_next_hop_that_cannot_be_sent_is_an_error(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WC:one")  # durable jobs go to any worker of a type

        self.worker.do_job = forward
        self.process(self.sender, self.worker)
        self.error(self.sender.send("WB:*", durable=True).when_done(), RemoteError, 10)
        self.flushLoggedErrors(AddressError)
        for name in ("process WB", "send WC"):
            self.assertEqual(attributes(self.spans.named(name)[0])["error.type"], "AddressError")

    def test_a_job_that_no_queue_takes_is_an_error(self) -> None:
        self.process(self.sender)
        self.error(self.sender.send("Nobody:*", durable=True).when_done(), NotStored, 10)
        self.assertEqual(attributes(self.spans.one("send Nobody"))["error.type"], "NotStored")

    def test_a_stop_returns_the_job_with_its_own_context(self) -> None:
        async def wait(job: Job) -> None:
            await Deferred()

        self.worker.do_job = wait
        bus = self.process(self.worker)
        self.process(self.sender)
        self.sender.send("WB:*", durable=True)
        self.advance(0.2)
        self.stop(bus)
        self.assertEqual(attributes(self.spans.one("process WB"))["txmicro.job.outcome"], "returned")
        self.failures = 0

        async def handle(job: Job) -> None:
            return None

        self.process(Worker("WB", do_job=handle))
        self.advance(1)
        first, second = self.spans.named("process WB")
        self.assertEqual(first.parent, second.parent)
