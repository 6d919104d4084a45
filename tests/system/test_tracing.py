"""The spans of jobs, in a system in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

from tests.support.spans import TracedSystemTestCase, attributes
from txmicro.protocol.job import Job
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
            "txmicro.job.address": "WB:*",
            "txmicro.job.hop": 0,
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
