"""The limit of similar log events."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import WORKER, Reactor, event, failure
from txmicro.daemons.log_limit import MOST, PERIOD, RateLimitedObserver
from txmicro.log import read
from txmicro.log_format import json_format


class RateLimitedObserverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.events: list[LogEvent] = []
        self.limited = RateLimitedObserver(self.events.append, self.reactor)

    def texts(self) -> list[str]:
        texts = [formatEvent(event) for event in self.events]
        self.events.clear()
        return texts

    def fail(self, number: Any, **fields: Any) -> None:  # type: ignore[override]
        self.limited(event(f"job {number} failed", log_format="{message}", recurring=True, **fields))

    def test_a_few_events_of_a_kind_are_logged_and_the_others_counted(self) -> None:
        for number in range(5000):
            self.fail(number)
        self.assertEqual(self.texts(), [f"job {number} failed" for number in range(MOST)])
        self.reactor.advance(PERIOD)
        self.assertEqual(
            self.texts(), ["… 4,995 more like this in the last 10 s; the last one: job 4999 failed"]
        )
        self.reactor.advance(PERIOD)
        self.assertEqual(self.texts(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_while_more_come_only_numbers_are_logged(self) -> None:
        for _ in range(3):
            for number in range(100):
                self.fail(number)
            self.reactor.advance(PERIOD)
        texts = self.texts()
        self.assertEqual(len(texts), MOST + 3)
        self.assertEqual([text[:6] for text in texts[MOST:]], ["… 95 m", "… 100 ", "… 100 "])
        self.reactor.advance(PERIOD)
        self.fail("another")
        self.assertEqual(self.texts(), ["job another failed"])

    def test_after_a_period_without_events_it_starts_again(self) -> None:
        for _ in range(2):
            for number in range(MOST):
                self.fail(number)
            self.reactor.advance(PERIOD)
        self.assertEqual(len(self.texts()), 2 * MOST)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_other_events_are_all_logged(self) -> None:
        for _ in range(50):
            self.limited(event())
        self.assertEqual(len(self.events), 50)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_events_of_twisted_are_limited(self) -> None:
        for _ in range(50):
            self.limited(event(log_namespace="twisted.web.http"))
        self.assertEqual(len(self.events), MOST)

    def test_kinds_are_limited_separately(self) -> None:
        kinds: list[dict[str, Any]] = [
            {},
            {"worker": WORKER},
            {"log_level": LogLevel.error},
            {"log_failure": failure(ValueError("a"))},
            {"log_failure": failure(KeyError("a"))},
        ]
        for fields in kinds:
            for number in range(50):
                self.fail(number, **fields)
        self.assertEqual(len(self.events), MOST * len(kinds))

    def test_the_summary_says_what_failed_without_its_traceback(self) -> None:
        for number in range(MOST + 1):
            self.fail(number, log_failure=failure(ValueError("boom")), worker=WORKER)
        self.events.clear()
        self.reactor.advance(PERIOD)
        (summary,) = self.events
        self.assertTrue(formatEvent(summary).endswith(f"job {MOST} failed: ValueError: boom"))
        self.assertEqual(summary["worker"], WORKER)
        self.assertNotIn("log_failure", summary)

    def test_the_number_is_a_field_of_the_line_in_json(self) -> None:
        for number in range(MOST + 3):
            self.fail(number, log_failure=failure(ValueError("boom")), worker=WORKER, job="7c3e-1/0")
        self.reactor.advance(PERIOD)
        line = json.loads(json_format()(read(self.events[-1])))
        self.assertEqual((line["repeated"], line["error"]), (3, "ValueError"))
        self.assertEqual((line["job"], line["hop"], line["worker"]), ("7c3e-1", 0, WORKER))
        self.assertNotIn("repeated", json.loads(json_format()(read(self.events[0]))))

    def test_an_event_during_the_report_is_counted_once(self) -> None:
        def observe(event: LogEvent) -> None:  # a thread may log at the same time
            self.events.append(event)
            if "more" in event and len(self.events) == MOST + 1:
                self.fail("meanwhile")

        self.limited = RateLimitedObserver(observe, self.reactor)
        for number in range(MOST + 1):
            self.fail(number)
        for _ in range(2):
            self.reactor.advance(PERIOD)
        self.assertEqual(len(self.events), MOST + 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close_reports_the_events_that_were_left_out(self) -> None:
        for number in range(MOST + 2):
            self.fail(number)
        self.events.clear()
        self.limited.close()
        self.assertTrue(self.texts()[0].startswith("… 2 more like this"))
        self.fail("late")
        self.assertEqual(self.texts(), ["job late failed"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
