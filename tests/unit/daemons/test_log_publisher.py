"""The publication of log lines."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import TIME, WORKER, event, failure
from txmicro.daemons.log_publisher import LogPublisher
from txmicro.errors import BusClosed


class LogPublisherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.observer = self.build(lambda topic, body: self.published.append((topic, body)))

    def build(self, publish: Any, rate: int = 3) -> LogPublisher:
        return LogPublisher(publish, self.clock.seconds, rate, "a.host")

    def messages(self) -> list[str]:
        return [body["message"] for _, body in self.published]

    def test_topic_and_body(self) -> None:
        self.observer(event(worker=WORKER, job="7c3e-1", log_level=LogLevel.warn))
        body = {
            "time": TIME,
            "level": "warn",
            "worker": WORKER,
            "job": "7c3e-1",
            "service": "WB",
            "message": "hello",
            "component": "bus",
            "logger": "txmicro.bus.connections.Bus",
            "host": "a.host",
            "pid": os.getpid(),
        }
        self.assertEqual(self.published, [("log.warn.WB", body)])

    def test_events_without_a_worker(self) -> None:
        self.observer(event())
        ((topic, body),) = self.published
        self.assertEqual((topic, body["worker"], body["service"]), ("log.info.process", "", "Bus"))

    def test_a_failure_is_its_last_line(self) -> None:
        self.observer(event(log_failure=failure(ValueError("no"))))
        self.assertEqual(self.messages(), ["hello: builtins.ValueError: no"])
        _, body = self.published[0]
        self.assertEqual(body["error"], "ValueError")
        self.assertTrue(body["traceback"].startswith("Traceback"), body)

    def test_what_an_event_knows_of_its_job_and_of_repeats(self) -> None:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        self.observer(event(job="7c3e-1", hop=0, traceparent=f"00-{trace}-b7ad6b7169203331-01", more=7))
        _, body = self.published[0]
        self.assertEqual((body["hop"], body["trace"], body["repeated"]), (0, trace, 7))

    def test_events_during_a_publication_are_not_published(self) -> None:
        def publish(topic: str, body: dict[str, Any]) -> None:
            self.published.append((topic, body))
            observer(event("publishing"))

        observer = self.build(publish)
        observer(event("one"))
        observer(event("two"))
        self.assertEqual(self.messages(), ["one", "two"])

    def test_the_rate_is_limited_and_dropped_lines_are_counted(self) -> None:
        for number in range(10):
            self.observer(event(str(number)))
        self.assertEqual(self.messages(), ["0", "1", "2"])
        self.assertEqual(self.observer.dropped, 7)
        self.clock.advance(0.4)
        self.observer(event("later"))
        self.observer(event("too soon"))
        self.assertEqual(self.messages()[3:], ["later (7 lines before this one were dropped)"])
        self.clock.advance(1000)
        for number in range(10):
            self.observer(event(str(number)))
        self.assertEqual(self.messages()[4:], ["0 (1 lines before this one were dropped)", "1", "2"])

    def test_many_info_lines_do_not_drop_an_error(self) -> None:
        for number in range(10):
            self.observer(event(str(number)))
        self.observer(event("bad", log_level=LogLevel.error))
        self.assertEqual(self.messages()[3:], ["bad (7 lines before this one were dropped)"])

    def test_a_closed_bus_loses_only_the_line(self) -> None:
        def publish(topic: str, body: dict[str, Any]) -> None:
            if not self.published:
                self.published.append((topic, body))
                raise BusClosed
            self.published.append((topic, body))

        observer = self.build(publish)
        observer(event("one"))
        observer(event("two"))
        self.assertEqual(observer.dropped, 1)
        self.assertEqual(self.messages(), ["one", "two (1 lines before this one were dropped)"])

    def test_it_works_again_after_an_unexpected_exception(self) -> None:
        def publish(topic: str, body: dict[str, Any]) -> None:
            self.published.append((topic, body))
            raise ZeroDivisionError

        observer = self.build(publish)
        for _ in range(2):
            self.assertRaises(ZeroDivisionError, observer, event())
        self.assertEqual(len(self.published), 2)
