"""The text of log events, and which of them are logged."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import MANAGER, TIME, WORKER, Named, event, failure
from txmicro.errors import RemoteError
from txmicro.log import FIRST_LINES, LAST_LINES, LONGEST, REPEATED, filtered, read, with_running_job
from txmicro.protocol.job import Job
from txmicro.receiving import running_job
from txmicro.util.log_levels import LogLevels


class ReadTests(SynchronousTestCase):
    def test_fields(self) -> None:
        line = read(event(worker=WORKER, job="7c3e-1"))
        self.assertEqual(line[:7], (TIME, "info", WORKER, "7c3e-1", "WB", "hello", []))
        self.assertEqual((line.component, line.logger), ("bus", "txmicro.bus.connections.Bus"))

    def test_the_trace_is_that_of_the_traceparent(self) -> None:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        self.assertEqual(read(event(traceparent=f"00-{trace}-00f067aa0ba902b7-01")).trace, trace)
        for wrong in (None, "", "00-abc-def-01", 5, b"00"):
            self.assertEqual(read(event(traceparent=wrong)).trace, "")

    def test_values_of_another_type_are_ignored(self) -> None:
        line = read(event(hop="x", more=True, job=None))
        self.assertEqual((line.hop, line.repeated, line.job), (None, 0, ""))

    def test_the_key_of_a_hop_is_the_job_and_the_hop(self) -> None:
        line = read(event(job="7c3e-1/2"))
        self.assertEqual((line.job, line.hop), ("7c3e-1", 2))
        for job in ("a/b", "7c3e-1/", "7c3e-1/²", "1/" + "9" * 20):
            line = read(event(job=job))
            self.assertEqual((line.job, line.hop), (job, None))

    def test_a_job_that_is_logged_is_its_id(self) -> None:
        job = Job("7c3e-1", None, ["WB:*"], 0, "WA:1", "WA:1", 1.0)
        self.assertEqual(read(event(job=job)).job, "7c3e-1")

    def test_an_exception_has_its_type(self) -> None:
        self.assertEqual(read(event(log_failure=failure(ValueError("no")))).error, "ValueError")
        self.assertEqual(read(event(log_failure=failure(RemoteError("no", type="Sold")))).error, "Sold")

    def test_the_worker_is_shown_once(self) -> None:
        line = read(event(f"{WORKER} is ready", log_source=Named(WORKER)))
        self.assertEqual((line.worker, line.message), (WORKER, "is ready"))
        self.assertEqual(read(event(f"{WORKER}: job 1 failed", worker=WORKER)).message, "job 1 failed")

    def test_other_ids_in_the_message_stay(self) -> None:
        for message in (f"{WORKER}b is ready", f"{WORKER}/1 is ready", WORKER, "is ready"):
            self.assertEqual(read(event(message, worker=WORKER)).message, message)

    def test_without_a_worker_the_service_is_the_logging_class(self) -> None:
        line = read(event())
        self.assertEqual((line.worker, line.job, line.service), ("", "", "Bus"))

    def test_the_source_is_the_worker(self) -> None:
        self.assertEqual(read(event(log_source=Named(WORKER))).worker, WORKER)

    def test_a_manager_that_logs_about_a_worker(self) -> None:
        line = read(event(log_source=Named(MANAGER), worker=WORKER))
        self.assertEqual((line.worker, line.service), (MANAGER, "SystemManager"))

    def test_values_that_are_not_worker_ids_are_ignored(self) -> None:
        for wrong in (5, "", None, "WB:*", "a.b:c", object()):
            self.assertEqual(read(event(log_source=Named(wrong), worker=wrong)).worker, "")

    def test_events_of_twisted(self) -> None:
        line = read({"log_format": "{", "log_system": "-"})
        self.assertEqual((line.level, line.service), ("info", "-"))
        self.assertIn("Unable to format event", line.message)

    def test_a_failure_is_its_traceback(self) -> None:
        line = read(event(log_failure=failure(ValueError("no\x1b"))))
        self.assertEqual(line.traceback[-1], "builtins.ValueError: no\\x1b")

    def traceback(self, recursion: Any) -> list[str]:
        return read(event(log_failure=Failure(self.assertRaises(RecursionError, recursion)))).traceback

    def test_repeated_frames_are_counted(self) -> None:
        def deeper() -> None:
            deeper()

        lines = self.traceback(deeper)
        self.assertLess(len(lines), 20)
        self.assertEqual(lines.count("    deeper()"), REPEATED)
        self.assertRegex("\n".join(lines), r"\[Previous frame repeated [\d,]+ more times\]")
        self.assertIn("RecursionError", lines[-1])

    def test_the_middle_of_a_long_traceback_is_left_out(self) -> None:
        def this() -> None:
            that()

        def that() -> None:
            this()

        lines = self.traceback(this)
        self.assertEqual(len(lines), FIRST_LINES + 1 + LAST_LINES)
        self.assertRegex(lines[FIRST_LINES], r"… [\d,]+ lines left out …")
        self.assertIn("RecursionError", lines[-1])

    def test_a_message_cannot_forge_lines_or_colors(self) -> None:
        message = read(event("a\nb\r\tc\x1b[31m\x00\x7f\x9b\u2028\u202e\u2066é ☃\u00a0")).message
        self.assertEqual(message, "a\\nb\\r\\tc\\x1b[31m\\x00\\x7f\\x9b\\u2028\\u202e\\u2066é ☃\u00a0")

    def test_text_that_utf_8_cannot_encode(self) -> None:
        self.assertEqual(read(event("a\ud800")).message, "a\\ud800")

    def test_passwords_are_masked(self) -> None:
        self.assertEqual(read(event("at amqp://me:secret@host/v")).message, "at amqp://me:***@host/v")
        line = read(event(log_failure=failure(ValueError("amqp://me:secret@host"))))
        self.assertEqual(line.traceback[-1], "builtins.ValueError: amqp://me:***@host")

    def test_long_messages_are_cut(self) -> None:
        message = read(event("x" * (LONGEST + 5))).message
        self.assertEqual(message, "x" * LONGEST + "… (5 more characters)")

    def test_a_password_at_the_cut_is_masked(self) -> None:
        for room in range(20):
            message = read(event("x" * (LONGEST - room) + " amqp://me:SECRET@host")).message
            self.assertNotIn("S", message)


class RunningJobTests(SynchronousTestCase):
    """Events get the fields of the job whose handler runs."""

    job = Job(
        "7c3e-1", None, ["WB:*"], 0, "WA:1", "WA:1", 1.0, past=2, traceparent="00-" + "a" * 32 + "-b-01"
    )

    def logged(self, **fields: Any) -> Any:
        token = running_job.enter(WORKER, self.job)
        try:
            return read(with_running_job(event(**fields)))
        finally:
            running_job.leave(token)

    def test_an_event_gets_worker_job_hop_and_trace(self) -> None:
        line = self.logged()
        self.assertEqual((line.worker, line.job, line.hop, line.trace), (WORKER, "7c3e-1", 2, "a" * 32))
        self.assertEqual(line.service, "WB")

    def test_its_own_fields_stay(self) -> None:
        line = self.logged(worker="WX:1", job="7c3e-1", hop=1)
        self.assertEqual((line.worker, line.job, line.hop), ("WX:1", "7c3e-1", 1))

    def test_an_event_about_another_job_gets_the_worker_only(self) -> None:
        line = self.logged(job="other")
        self.assertEqual((line.worker, line.job, line.hop, line.trace), (WORKER, "other", None, ""))

    def test_without_a_job_an_event_is_unchanged(self) -> None:
        said = event()
        self.assertIs(with_running_job(said), said)


class FilterTests(SynchronousTestCase):
    manager = event("manager", log_source=Named(MANAGER), worker=WORKER)
    link_of_manager = event("link", worker=MANAGER)
    worker = event("worker", worker=WORKER)
    neither = event("bus")

    def passed(
        self, *events: LogEvent, level: str = "info", manager: bool = True, worker: bool = True
    ) -> list[str]:
        seen: list[LogEvent] = []
        observer = filtered(seen.append, LogLevels(level), manager_log=manager, worker_log=worker)
        for each in events:
            observer(each)
        return [each["message"] for each in seen]

    def everything(self, manager: bool = True, worker: bool = True) -> list[str]:
        events = (self.manager, self.link_of_manager, self.worker, self.neither)
        return self.passed(*events, manager=manager, worker=worker)

    def test_all_on(self) -> None:
        self.assertEqual(self.everything(), ["manager", "link", "worker", "bus"])

    def test_manager_off(self) -> None:
        self.assertEqual(self.everything(manager=False), ["worker", "bus"])

    def test_worker_off(self) -> None:
        self.assertEqual(self.everything(worker=False), ["manager", "link", "bus"])

    def test_both_off(self) -> None:
        self.assertEqual(self.everything(worker=False, manager=False), ["bus"])

    def test_errors_are_always_logged(self) -> None:
        error = {**self.worker, "log_level": LogLevel.error}
        self.assertEqual(self.passed(error, worker=False, manager=False), ["worker"])

    def test_levels(self) -> None:
        events = [
            event(level, log_level=LogLevel.levelWithName(level)) for level in ("debug", "info", "warn")
        ]
        self.assertEqual(self.passed(*events, level="debug"), ["debug", "info", "warn"])
        self.assertEqual(self.passed(*events, level="info"), ["info", "warn"])
        self.assertEqual(self.passed(*events, level="critical"), [])

    def test_the_level_applies_to_errors(self) -> None:
        self.assertEqual(self.passed(event("bad", log_level=LogLevel.error), level="critical"), [])
