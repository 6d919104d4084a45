from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.logs import listen, texts
from tests.support.programs import reactor
from txmicro.config import Config
from txmicro.errors import ConfigError, DecodeError
from txmicro.testing import running
from txmicro.util import background_writer
from txmicro.workers.logger import MAX_LENGTH, LoggerWorker, format_json, format_line

EVENT = {
    "time": 1795449588.3994,
    "level": "info",
    "service": "WB",
    "worker": "WB:1-a",
    "job": "7c3e-1/0",
    "message": "stored",
}


class LineTests(SynchronousTestCase):
    def test_an_event_is_a_line(self) -> None:
        self.assertEqual(format_line(EVENT), b"2026-11-23T15:59:48.399Z info   WB WB:1-a 7c3e-1/0 stored\n")

    def test_the_job_may_be_missing(self) -> None:
        for job in ({"job": None}, {}):
            event = {key: value for key, value in EVENT.items() if key != "job"} | job
            self.assertEqual(format_line(event), b"2026-11-23T15:59:48.399Z info   WB WB:1-a - stored\n")

    def test_control_characters_are_escaped(self) -> None:
        written = format_line(EVENT | {"message": "a\nb\r\x1b[2K\x00\x9b\u2028\u202eÄ", "worker": "x\ny"})
        self.assertTrue(written.endswith(b" a\\nb\\r\\x1b[2K\\x00\\x9b\\u2028\\u202e\xc3\x84\n"), written)
        self.assertEqual(written.count(b"\n"), 1)

    def test_a_lone_surrogate_is_escaped(self) -> None:
        self.assertIn(b"\\ud800", format_line(EVENT | {"message": "\ud800"}))

    def test_a_message_is_cut(self) -> None:
        self.assertLess(len(format_line(EVENT | {"message": "x" * 100_000})), MAX_LENGTH + 100)

    def test_json_has_no_fields_of_a_wrong_type(self) -> None:
        wrong = {"hop": "x", "pid": 1.5, "trace": 5, "host": ["x"], "component": None, "extra": 1}
        line = json.loads(format_json(EVENT | wrong))
        self.assertEqual(sorted(line), ["component", "job", "level", "message", "time", "worker"])
        self.assertEqual(line["component"], "WB")

    def test_json_is_one_line(self) -> None:
        written = format_json(EVENT | {"message": "a\nb\ud800", "traceback": "one\ntwo", "trace": "\ud800"})
        self.assertEqual(written.count(b"\n"), 1)
        self.assertEqual(json.loads(written)["traceback"], "one\ntwo")

    def test_an_event_that_is_not_a_log_line_is_refused(self) -> None:
        events: list[Any] = [None, [], "text", {}]
        events += [
            {key: value for key, value in EVENT.items() if key != name} for name in EVENT if name != "job"
        ]
        events += [EVENT | {name: {}} for name in EVENT]
        events += [
            EVENT | {"time": time} for time in (float("nan"), float("inf"), 1e30, -(2**80), True, "now")
        ]
        for event in events:
            for form in (format_line, format_json):
                with self.assertRaises(DecodeError):
                    form(event)


class LoggerTests(TestCase):
    def config(self, **keys: Any) -> Config:
        self.path = Path(self.mktemp()).absolute()
        return Config(**{"log_file": str(self.path), **keys})

    async def written(
        self, *events: Any, topic: str = "log.info.WB", **keys: Any
    ) -> tuple[LoggerWorker, list[str]]:
        """Return the logger and the lines of its file after *events*."""
        logger = LoggerWorker()
        async with running(logger, config=self.config(**keys)) as bus:
            for event in events:
                bus.publish(topic, event)
            await self.heard(bus)
        return logger, self.path.read_text().splitlines()

    async def heard(self, bus: Any) -> None:
        """Wait until the earlier events have been handled. A subscriber receives events in order."""
        from twisted.internet.defer import Deferred

        through: Deferred[None] = Deferred()
        await bus.subscribe("test.through", lambda topic, data: through.callback(None))
        bus.publish("test.through")
        await through

    def errors(self, logger: LoggerWorker, kind: str) -> float:
        labels = {"service": "Logger", "error_type": kind}
        return logger.metrics.registry.get_sample_value("microservices_job_errors_total", labels) or 0.0

    async def test_the_lines_of_all_levels_and_workers_are_written(self) -> None:
        _, lines = await self.written(EVENT, EVENT | {"message": "again"}, topic="log.warn.WX")
        self.assertEqual([text.rpartition(" ")[2] for text in lines], ["stored", "again"])

    async def test_other_events_are_not_written(self) -> None:
        _, lines = await self.written(EVENT, topic="movie.created")
        self.assertEqual(lines, [])

    async def test_an_event_that_is_not_a_log_line_is_dropped_and_counted(self) -> None:
        logger, lines = await self.written(None, {"message": 1}, EVENT)
        self.assertEqual(len(lines), 1)
        self.assertEqual(self.errors(logger, "DecodeError"), 2)

    async def test_the_file_is_rotated_and_a_few_are_kept(self) -> None:
        await self.written(*[EVENT] * 50, log_file_size=100, log_files=3)
        files = sorted(path.name for path in self.path.parent.glob(f"{self.path.name}*"))
        self.assertEqual(files, [self.path.name + end for end in ("", ".1", ".2", ".3")])

    async def test_an_existing_file_is_appended_to(self) -> None:
        config = self.config()
        self.path.write_text("before\n")
        async with running(LoggerWorker(), config=config) as bus:
            bus.publish("log.info.WB", EVENT)
            await self.heard(bus)
        self.assertEqual(len(self.path.read_text().splitlines()), 2)

    async def test_an_error_of_the_path_names_its_setting(self) -> None:
        with self.assertRaises(ConfigError) as raised:
            async with running(LoggerWorker(), config=Config(log_file="/no/such/folder/x.log")):
                self.fail("started")
        self.assertIn("log_file", str(raised.exception))
        self.flushLoggedErrors()

    async def test_a_full_disk_costs_only_lines_and_is_logged_once(self) -> None:
        logger, events = LoggerWorker(), listen(self)
        async with running(logger, config=self.config(log_file="/dev/full")) as bus:
            for _ in range(3):
                bus.publish("log.info.WB", EVENT)
            await self.heard(bus)
            await self.until(lambda: self.errors(logger, "OSError") == 3)
        (said,) = texts(events, "cannot write to /dev/full")
        self.assertIn("No space left on device; log lines are dropped until it can", said)

    async def test_a_file_that_blocks_does_not_block_the_process(self) -> None:
        self.patch(background_writer, "PATIENCE", 0.01)
        pipe = Path(self.mktemp()).absolute()
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        logger = LoggerWorker()
        async with running(logger, config=self.config(log_file=str(pipe))) as bus:
            for _ in range(100):
                bus.publish("log.info.WB", EVENT | {"message": "x" * 5000})
            await self.heard(bus)

    async def test_json_lines(self) -> None:
        event = EVENT | {"hop": 0, "trace": "a" * 32, "component": "shop", "host": "a.host", "pid": 5}
        _, lines = await self.written(event, log_format="json")
        self.assertEqual(
            json.loads(lines[0]),
            {
                "time": "2026-11-23T15:59:48.399Z",
                "level": "info",
                "component": "shop",
                "worker": "WB:1-a",
                "job": "7c3e-1/0",
                "hop": 0,
                "trace": "a" * 32,
                "message": "stored",
                "host": "a.host",
                "pid": 5,
            },
        )

    async def until(self, condition: Any) -> None:
        """Wait until another thread has changed something."""
        while not condition():
            await deferLater(reactor, 0)
