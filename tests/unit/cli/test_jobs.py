"""``txmicro jobs`` and ``txmicro job``: what they ask, and how they show the answers."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from click import UsageError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.command_line import read
from txmicro.cli.jobs import ListJobs
from txmicro.cli.page_client import PageTask
from txmicro.cli.task import Context

JOB = {
    "id": "ab-1",
    "address": "WB:*",
    "type": "WB",
    "lane": "durable",
    "outcome": "dead",
    "error": "Refused",
    "message": "no such movie",
    "sent": 1_795_536_598.75,
    "ended": 1_795_536_600.0,
    "seconds": 1.25,
    "hops": 1,
    "worker": "WB:7",
    "sender": "WA:1",
}
STEP = {
    "kind": "ran",
    "time": 1_795_536_600.0,
    "worker": "WB:7",
    "address": "WB:*",
    "hop": 0,
    "attempt": 2,
    "wait": 0.0012,
    "seconds": 1.2,
    "outcome": "dead",
    "error": "Refused",
    "message": "no such movie",
    "text": "",
}
SENT = {
    **STEP,
    "kind": "sent",
    "attempt": None,
    "wait": None,
    "seconds": None,
    "outcome": "",
    "error": "",
    "message": "",
}


class JobsTests(SynchronousTestCase):
    def written(self, line: str, answer: Any) -> str:
        """Return the output of a command for the API's *answer*; keep what was asked."""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        out = StringIO()

        async def get(path: str, **query: Any) -> Any:
            self.asked.append((path, query))
            return answer

        page: Any = type("Page", (), {"get": staticmethod(get)})
        task = read(line.split())
        assert isinstance(task, PageTask)
        context = Context(
            reactor=Clock(), environ={}, out=out, err=StringIO(), time=lambda: 1000.0, targets=lambda *_: []
        )
        self.successResultOf(Deferred.fromCoroutine(task.ask(page, context)))
        return out.getvalue()

    def test_a_list(self) -> None:
        count, names, row = self.written("jobs", {"next": None, "jobs": [JOB]}).splitlines()
        self.assertEqual(count, "1 job")
        self.assertEqual(
            names.split(), ["JOB", "ADDRESS", "LANE", "OUTCOME", "SENT", "TOOK", "HOPS", "ERROR"]
        )
        self.assertEqual(
            row.split(maxsplit=8)[:-1],
            ["ab-1", "WB:*", "durable", "dead", "2026-11-24T16:09:58.750Z", "1.25", "s", "1"],
        )
        self.assertTrue(row.endswith("Refused: no such movie"))

    def test_its_conditions(self) -> None:
        line = "jobs --type WB --outcome dead --error Refused --search movie --since 10m --limit 3"
        self.assertEqual(self.written(line, {"next": "x", "jobs": []}), "0 jobs, and more\n")
        self.assertEqual(
            self.asked,
            [
                (
                    "/api/jobs",
                    {
                        "type": "WB",
                        "outcome": "dead",
                        "error": "Refused",
                        "search": "movie",
                        "since": 400.0,
                        "limit": 3,
                    },
                )
            ],
        )

    def test_a_life(self) -> None:
        answer = {**JOB, "trace": "0af7", "steps": [SENT, STEP]}
        head, sent, ended, failure, trace, _, first, second = self.written("job ab-1", answer).splitlines()
        self.assertEqual(self.asked, [("/api/jobs/ab-1", {})])
        self.assertEqual(head, "ab-1: durable job to WB:*, dead")
        self.assertEqual(sent, "sent 2026-11-24T16:09:58.750Z by WA:1")
        self.assertEqual(ended, "ended 2026-11-24T16:10:00.000Z, after 1.25 s")
        self.assertEqual((failure, trace), ("Refused: no such movie", "trace 0af7"))
        self.assertEqual(first.split()[1:], ["sent", "0", "WB:*", "WB:7", "-", "-", "-", "-", "-"])
        self.assertEqual(
            second.split()[1:],
            [
                "ran",
                "0",
                "WB:*",
                "WB:7",
                "2",
                "1.20",
                "ms",
                "1.20",
                "s",
                "dead",
                "Refused:",
                "no",
                "such",
                "movie",
            ],
        )

    def test_a_life_that_goes_on(self) -> None:
        answer = {
            **JOB,
            "lane": "",
            "outcome": "pending",
            "ended": None,
            "error": "",
            "sender": "",
            "steps": [],
        }
        head, sent, names = self.written("job ab-1", answer).splitlines()
        self.assertEqual((head, sent[-20:]), ("ab-1: job to WB:*, pending", "by an unknown worker"))
        self.assertTrue(names.startswith("TIME"))

    def test_an_id_cannot_leave_the_path(self) -> None:
        self.written("job ../dead?x#y", {**JOB, "steps": []})
        self.assertEqual(self.asked, [("/api/jobs/..%2Fdead%3Fx%23y", {})])

    def test_as_json(self) -> None:
        answer = {"next": None, "jobs": [JOB]}
        self.assertEqual(json.loads(self.written("jobs --json", answer)), answer)
        self.assertEqual(json.loads(self.written("job ab-1 --json", JOB)), JOB)

    def test_ages(self) -> None:
        for text, seconds in (("30s", 30), ("10m", 600), ("2h", 7_200), ("3d", 259_200)):
            task = read(["jobs", "--since", text])
            assert isinstance(task, ListJobs)
            self.assertEqual(task.since, seconds)
        for wrong in ("10", "m", "-1m", "1.5h", "10 m", "١m"):
            error = self.assertRaises(UsageError, read, ["jobs", "--since", wrong])
            self.assertIn("expected a number with s, m, h or d", error.format_message())

    def test_a_page_is_a_url_without_a_path(self) -> None:
        for wrong in ("localhost:9091", "ftp://localhost", "http://", "http://localhost/api"):
            error = self.assertRaises(UsageError, read, ["jobs", "--page", wrong])
            self.assertIn("expected a URL such as", error.format_message())
        read(["jobs", "--page", "http://localhost:9091/"])
