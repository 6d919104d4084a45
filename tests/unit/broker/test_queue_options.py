"""The options of queues of the embedded broker."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.broker.errors import Refused
from txmicro.broker.queue_options import parse_options


class QueueOptionsTests(SynchronousTestCase):
    def read(self, **arguments: Any) -> Any:
        given = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        return parse_options("queue", durable=True, exclusive=False, auto_delete=False, arguments=given)

    def test_times_are_read_as_seconds(self) -> None:
        read = self.read(message_ttl=1500, expires=60_000)
        self.assertEqual((read.ttl, read.expires), (1.5, 60.0))

    def test_other_arguments_have_no_effect(self) -> None:
        self.assertEqual(self.read(queue_mode="lazy"), self.read())

    def test_only_quorum_queues_limit_deliveries_and_keep_dead_letters(self) -> None:
        wanted = {"delivery_limit": 3, "dead_letter_strategy": "at-least-once"}
        classic, quorum = self.read(**wanted), self.read(queue_type="quorum", **wanted)
        self.assertEqual((classic.delivery_limit, classic.at_least_once), (None, False))
        self.assertEqual((quorum.delivery_limit, quorum.at_least_once), (3, True))

    def test_unsupported_options_are_refused(self) -> None:
        for wanted in ({"single_active_consumer": True}, {"max_priority": 5}, {"queue_type": "stream"}):
            self.assertEqual(self.assertRaises(Refused, self.read, **wanted).code, 540)

    def test_quorum_queues_are_durable_and_shared(self) -> None:
        for field, options in (
            ("durable", {"durable": False, "exclusive": False, "auto_delete": False}),
            ("exclusive", {"durable": True, "exclusive": True, "auto_delete": False}),
            ("auto-delete", {"durable": True, "exclusive": False, "auto_delete": True}),
        ):
            refusal = self.assertRaises(
                Refused, parse_options, "queue", arguments={"x-queue-type": "quorum"}, **options
            )
            self.assertEqual(
                refusal.text,
                f"PRECONDITION_FAILED - invalid property '{field}' for queue 'queue' in vhost '/'",
            )
