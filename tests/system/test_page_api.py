"""The page's API on a whole system in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from tests.support.pages import Client, Reply
from tests.support.system import SystemTestCase
from txmicro.amqp import uri
from txmicro.broker.sessions import ModelChannel
from txmicro.bus.targets import Target
from txmicro.errors import JobError
from txmicro.manager import SystemManager
from txmicro.monitoring.records import Record
from txmicro.operations import connecting
from txmicro.operations.dead_letter_queue import BATCH
from txmicro.page.access import Access
from txmicro.page.api.api import Api
from txmicro.page.dead_letters import CONNECTIONS, WAITING, DeadLetterOperations
from txmicro.page.memory.queries import DeadGroup, FailureQuery, JobQuery
from txmicro.page.monitor import Monitor
from txmicro.protocol import topology
from txmicro.protocol.job import Job
from txmicro.worker import Worker

NOW = 1_795_449_588.0
ACCOUNTS = {"reader": "ann:the-secret-of-ann", "operator": "bob:the-secret-of-bob"}


NAMES = st.sampled_from(
    [
        "keys",
        "filter",
        "dry_run",
        "search",
        "error",
        "message",
        "reason",
        "group",
        "component",
        "level",
        "type",
    ]
)
TARGETS = (
    "{first}",
    "{first}/{second}",
    "overview?{first}={second}",
    "types/{first}/series?seconds={second}",
    "workers?state={first}&search={second}",
    "workers?limit={first}&after={second}",
    "jobs/{first}{second}",
    "jobs?since={first}&search={second}",
    "failures?type={first}&limit={second}",
    "dead/{first}?after={second}",
    "dead/WB?message={first}&search={second}",
    "audit?limit={first}{second}",
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = _VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)


class OutOfStock(JobError):
    """A failure that is not tried again."""


class Shop(Worker):
    """Refuses jobs until ``works`` is set."""

    type = "WB"
    works = False

    async def do_job(self, job: Job) -> Any:
        if not self.works:
            raise OutOfStock(f"no {job.data} left")
        return job.data


class Memory:
    """A job memory that answers with its queries, and keeps its records."""

    failure_changes = 0

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.groups: dict[str, DeadGroup] = {}

    def add(self, records: Iterable[Record]) -> None:
        self.records += records

    def __len__(self) -> int:
        return 0

    def jobs(self, query: JobQuery) -> Deferred[Any]:
        return succeed(query._asdict())

    def job(self, id: str) -> Deferred[Any]:
        return succeed({"id": id} if id == "known/1" else None)

    def failures(self, query: FailureQuery) -> Deferred[Any]:
        return succeed(query._asdict())

    def dead_letters(self, group: str) -> Deferred[DeadGroup | None]:
        return succeed(self.groups.get(group))


class ApiTestCase(SystemTestCase):
    """A sender, a worker that refuses durable jobs, a SystemManager, and its API."""

    accounts = ACCOUNTS

    def setUp(self) -> None:
        super().setUp()
        self.patch(self.clock, "rightNow", NOW)
        self.sender, self.shop, self.manager = Worker("WA"), Shop(), SystemManager()
        self.process(self.sender)
        self.process(self.shop)
        bus = self.process(self.manager)
        self.monitor = Monitor(self.manager)
        self.monitor.setServiceParent(bus)
        self.advance(0.2)
        self.memory = Memory()
        target = Target(self.endpoint, uri.parse("amqp://guest:guest@memory"))
        self.letters = DeadLetterOperations([target], 10, self.clock, lambda: self.clock.seconds())
        self.access = Access(
            [self.accounts["reader"]] if self.accounts else [],
            [self.accounts["operator"]] if self.accounts else [],
            interface="127.0.0.1",
            clock=self.clock,
        )
        self.api = Api(
            self.manager,
            self.monitor,
            self.letters,
            self.access,
            clock=self.clock,
            time=lambda: self.clock.seconds(),
        )
        memory: Any = self.memory
        self.api.memory = memory
        self.clients: list[Client] = []

    def tear_down_system(self) -> None:
        for client in self.clients:
            client.close()
        super().tear_down_system()

    def client(self) -> Client:
        client = Client(self.api.routes, self.clock, body_max=100_000)
        self.clients.append(client)
        return client

    def begin(self, path: str, role: str = "operator", body: Any = None, **headers: str) -> Client:
        """Send a request, a POST if it has a *body*."""
        client = self.client()
        given = {}
        if role:
            given["Authorization"] = f"Bearer {self.accounts[role].partition(':')[2]}"
        if body is None:
            client.send(f"/api/{path}", "GET", None, **given, **headers)
        else:
            given |= {"X-Txmicro": "1", "Content-Type": "application/json"}
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            client.send(f"/api/{path}", "POST", data, **{**given, **headers})
        return client

    def ask(self, path: str, role: str = "operator", body: Any = None, **headers: str) -> Reply:
        """Send a request, and return its answer."""
        client = self.begin(path, role, body, **headers)
        if not client.transport.value():
            self.advance(1)
        return client.reply()

    def ok(self, path: str, role: str = "operator", body: Any = None) -> Any:
        reply = self.ask(path, role, body)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json

    def refused(self, status: int, path: str, body: Any = None, **headers: str) -> str:
        reply = self.ask(path, "operator", body, **headers)
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(set(reply.json), {"error", "message"})
        return str(reply.json["message"])

    def kill(self, *data: Any) -> list[str]:
        """Make a dead letter of a job with each of *data*, a second apart, and return the jobs' ids."""
        ids = []
        for each in data:
            job = self.sender.send("WB:*", each, durable=True)
            job.when_done().addErrback(lambda _: None)
            ids.append(job.id)
            self.advance(1)
        return ids

    def dead(self) -> int:
        """Return how many dead letters there are."""
        return len(self.broker.model.queues[topology.dead_queue("WB")].ready)

    def audit(self) -> list[str]:
        lines = self.ok("audit")["lines"]
        return [f"{line['name']}: {line['action']} {line['detail']}: {line['outcome']}" for line in lines]


class AnswerTests(ApiTestCase):
    def test_the_session(self) -> None:
        session = self.ok("session", "reader")
        self.assertEqual((session["name"], session["role"]), ("ann", "reader"))
        self.assertEqual(session["manager"], self.manager.id)
        self.assertAlmostEqual(session["time"], NOW + 0.5, 3)

    def test_answers_about_the_fleet(self) -> None:
        self.assertEqual(self.ok("overview")["workers"], 2)
        self.assertEqual(self.ok("types/WB/series?seconds=5")["type"], "WB")
        self.assertEqual([each["id"] for each in self.ok("workers?type=WB")["workers"]], [self.shop.id])
        self.assertEqual(len(self.ok("flow")["nodes"]), 2)
        self.assertEqual(self.ok("errors?limit=5"), {"lines": []})
        self.assertEqual(self.refused(404, "types/Other/series"), "no worker of type Other is known")

    def test_pages_of_workers(self) -> None:
        first = self.ok("workers?limit=1")
        second = self.ok(f"workers?limit=1&after={first['next']}")
        found = [worker["id"] for page in (first, second) for worker in page["workers"]]
        self.assertEqual((found, second["next"]), ([self.sender.id, self.shop.id], None))

    def test_parameters_become_queries(self) -> None:
        jobs = self.ok("jobs?type=WB&outcome=failed&search=a%20b&since=1.5&limit=3&after=7")
        expected = JobQuery(type="WB", outcome="failed", search="a b", since=1.5, limit=3, after="7")
        self.assertEqual(jobs, expected._asdict())
        self.assertEqual(self.ok("failures?search=%C3%A4"), FailureQuery(search="ä")._asdict())

    def test_a_job(self) -> None:
        self.assertEqual(self.ok("jobs/known%2F1"), {"id": "known/1"})
        self.refused(404, "jobs/other")

    def test_no_memory_while_the_process_starts_and_stops(self) -> None:
        self.api.memory = None
        for path in ("jobs", "jobs/x", "failures"):
            self.refused(503, path)

    def test_answers_are_not_stored(self) -> None:
        for reply in (self.ask("session"), self.ask("jobs?limit=x"), self.ask("session", "")):
            self.assertEqual(reply.headers["cache-control"], "no-store")


class CheckTests(ApiTestCase):
    def test_nothing_is_answered_without_an_account(self) -> None:
        body: Any
        for endpoint in self.api.endpoints:
            path = endpoint.path.replace("{type}", "WB").replace("{id}", "x").removeprefix("/api/")
            body = {} if endpoint.method == "POST" else None
            self.assertEqual(self.ask(path, "", body).status, 401, path)

    def test_a_reader_changes_nothing(self) -> None:
        paths = [each.path.replace("{type}", "WB") for each in self.api.endpoints if each.method == "POST"]
        self.assertEqual(len(paths), 3)
        for path in paths:
            reply = self.ask(path.removeprefix("/api/"), "reader", {})
            self.assertEqual((reply.status, reply.json["error"]), (403, "Forbidden"), path)
        self.assertEqual(self.ask("audit", "reader").status, 403)
        self.assertEqual(len(self.audit()), 3)
        self.assertIn("ann: discard dead letters WB: refused (403): ann is a reader", self.audit()[1])

    def test_parameters_that_are_not_valid(self) -> None:
        for path, message in (
            ("workers?limit=0", "limit: 0 is not valid; expected a whole number from 1 to 1000"),
            ("workers?limit=1&limit=2", "limit: expected one value, got 2"),
            ("workers?size=1", "'size' is not a valid parameter; expected type, state, search, limit, after"),
            ("overview?x=1", "'x' is not a valid parameter; expected none"),
            ("workers?search=%ff", "search: b'\\xff' is not valid UTF-8"),
            ("workers?state=odd", "state: 'odd' is not valid; expected one of , alive, suspect"),
            ("dead/WB?after=x", "after: 'x' is not valid"),
            ("types/a.b/series", "type: 'a.b' is not valid"),
        ):
            self.assertIn(message, self.refused(400, path), path)

    def test_bodies_that_are_not_valid(self) -> None:
        body: Any
        for body, message in (
            (b"", "the body: "),
            (b"[1]", "the body: "),
            (b"\xff", "the body: "),
            (b'{"keys": ' + b"[" * 50_000, "the body: "),
            ({}, "the body: expected exactly one of keys, filter"),
            ({"keys": []}, "keys: expected a list of 1 to 1000 items"),
            ({"keys": ["a"], "dry_run": 1}, "dry_run: 1 is not valid; expected true or false"),
            ({"filter": {"search": "x" * 501}}, "filter.search: "),
        ):
            self.assertIn(message, self.refused(400, "dead/WB/requeue", body))
        self.assertIn("too large", self.refused(413, "dead/WB/requeue", b"x" * 100_001))

    def test_requests_of_other_sites(self) -> None:
        body: Any = {"filter": {}}
        self.refused(403, "dead/WB/discard", body, Origin="http://evil.example")
        self.refused(403, "dead/WB/discard", body, X_Txmicro="0")
        self.refused(415, "dead/WB/discard", body, Content_Type="text/plain")
        self.refused(415, "dead/WB/discard", body, Content_Type="application/x-www-form-urlencoded")


class HostileTests(ApiTestCase):
    """Any target and any body: the answer is never an internal error, and nothing is logged as one."""

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.sampled_from(TARGETS), st.lists(st.binary(max_size=20), min_size=2, max_size=2))
    def test_any_target(self, target: str, parts: list[bytes]) -> None:
        first, second = (quote_from_bytes(part, safe="&=?*\"'") for part in parts)
        reply = self.ask(target.format(first=first, second=second))
        self.assertIn(reply.status, (200, 400, 404), target)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.sampled_from(["dead/WB/requeue", "dead/WB/discard", "log-levels"]), BODIES)
    def test_any_body(self, path: str, body: bytes) -> None:
        reply = self.ask(path, body=body)
        self.assertIn(reply.status, (200, 400, 404))


class LetterTests(ApiTestCase):
    def test_the_list(self) -> None:
        first, second = self.kill("tea", "rum")
        page = self.ok("dead/WB", "reader")
        self.assertEqual((page["total"], page["next"]), (2, None))
        newest, oldest = page["letters"]
        self.assertEqual((newest["job"], oldest["job"]), (second, first))
        self.assertEqual(newest["key"], f"{second}/0")
        self.assertEqual((newest["address"], newest["reason"], newest["attempts"]), ("WB:*", "failed", 1))
        self.assertEqual((newest["error"], newest["message"]), ("OutOfStock", "no rum left"))
        self.assertGreater(newest["size"], 10)
        self.assertEqual(self.dead(), 2)

    def test_pages(self) -> None:
        jobs = self.kill(1, 2, 3, 4, 5)
        found, after, pages = [], "", 0
        while after is not None:
            page = self.ok(f"dead/WB?limit=2&after={after}")
            found += [letter["job"] for letter in page["letters"]]
            after, pages = page["next"], pages + 1
        self.assertEqual((found, pages), (jobs[::-1], 3))

    def test_filters(self) -> None:
        self.kill("7 tea", "8 tea", "rum")
        for query, total in (
            ("search=TEA", 2),
            ("search=outofstock", 3),
            ("error=OutOfStock", 3),
            ("error=Out", 0),
            ("reason=failed&search=rum", 1),
            ("message=no+9+tea+left", 2),
            ("message=no+tea", 0),
        ):
            self.assertEqual(self.ok(f"dead/WB?{query}")["total"], total, query)

    def test_a_list_is_read_again_after_a_change(self) -> None:
        self.kill("tea")
        reads = self.endpoint.tries
        self.ok("dead/WB")
        self.ok("dead/WB?search=x")
        self.assertEqual(self.endpoint.tries, reads + 1)
        self.ok("dead/WB/discard", body={"filter": {}})
        self.assertEqual(self.ok("dead/WB")["total"], 0)

    def test_a_type_without_dead_letters(self) -> None:
        self.assertIn("Other has no dead letters", self.refused(404, "dead/Other"))
        self.refused(404, "dead/Other/discard", {"filter": {}})

    def test_a_dry_run_counts_and_changes_nothing(self) -> None:
        self.kill("tea", "rum")
        for action in ("requeue", "discard"):
            body = {"filter": {"search": "tea"}, "dry_run": True}
            self.assertEqual(
                self.ok(f"dead/WB/{action}", body=body),
                {"matched": 1, "done": 0, "expired": 0, "dry_run": True},
            )
        self.assertEqual(self.dead(), 2)
        self.assertEqual(self.memory.records, [])

    def test_letters_are_requeued_by_a_filter(self) -> None:
        self.kill("tea", "rum", "tea")
        self.shop.works = True
        answer = self.ok("dead/WB/requeue", body={"filter": {"message": "no tea left"}})
        self.assertEqual(answer, {"matched": 2, "done": 2, "expired": 0, "dry_run": False})
        self.assertEqual(self.dead(), 1)

    def test_letters_are_chosen_by_their_group_of_failures(self) -> None:
        tea, rum, again, milk = self.kill("tea", "rum", "tea", "milk")
        self.memory.groups = {
            "tea": DeadGroup("WB", "OutOfStock", "no tea left", []),
            "rest": DeadGroup("WB", None, "(other messages)", [f"{rum}/0", "gone/0"]),
            "empty": DeadGroup("WB", "OutOfStock", "", []),
            "foreign": DeadGroup("WC", "OutOfStock", "no tea left", [f"{milk}/0"]),
        }
        found = {
            group: [letter["job"] for letter in self.ok(f"dead/WB?group={group}")["letters"]]
            for group in self.memory.groups
        }
        self.assertEqual(found, {"tea": [again, tea], "rest": [rum], "empty": [], "foreign": [milk]})
        self.assertEqual([], self.ok("dead/WB?group=tea&search=rum")["letters"])
        self.assertIn("no failures of this group", self.refused(404, "dead/WB?group=unknown"))
        self.assertIn("no failures", self.refused(404, "dead/WB/requeue", {"filter": {"group": "unknown"}}))
        for dry_run, done in ((True, 0), (False, 2)):
            answer = self.ok("dead/WB/discard", body={"filter": {"group": "tea"}, "dry_run": dry_run})
            self.assertEqual((answer["matched"], answer["done"]), (2, done))
        self.assertEqual([letter["job"] for letter in self.ok("dead/WB")["letters"]], [milk, rum])

    def test_letters_are_discarded_by_their_keys(self) -> None:
        tea, rum, _ = self.kill("tea", "rum", "milk")
        answer = self.ok("dead/WB/discard", body={"keys": [f"{tea}/0", rum]})
        self.assertEqual(answer, {"matched": 2, "done": 2, "expired": 0, "dry_run": False})
        self.assertEqual(self.dead(), 1)
        self.assertIn("has no dead letter with the ID", self.refused(404, "dead/WB/discard", {"keys": [tea]}))

    def test_an_action_is_part_of_the_life_of_its_jobs(self) -> None:
        (tea,) = self.kill("tea")
        self.ok("dead/WB/discard", body={"filter": {}})
        (record,) = self.memory.records
        self.assertEqual((record.kind, record.job, record.hop, record.text), ("discarded", tea, 0, "bob"))

    def test_each_action_is_in_the_audit_and_the_log(self) -> None:
        self.kill("tea")
        with capturedLogs() as events:
            self.ok("dead/WB/discard", body={"filter": {"search": "tea"}, "dry_run": True})
            self.ok("dead/WB/discard", body={"filter": {"search": "tea"}})
            self.refused(404, "dead/WB/discard", {"keys": ["a", "b", "c", "d", "e", "f"]})
        expected = [
            "bob: discard dead letters WB keys: 6 items: refused (404): WB has no dead letter",
            'bob: discard dead letters WB filter: {"search": "tea"}: matched: 1, done: 1, expired: 0, dry_run: false',
            'bob: discard dead letters WB filter: {"search": "tea"}, dry_run: true: '
            "matched: 1, done: 0, expired: 0, dry_run: true",
        ]
        for line, start in zip(self.audit(), expected, strict=True):
            self.assertTrue(line.startswith(start), line)
        lines = [str(formatEvent(event)) for event in events]
        logged = [
            line for line in lines if line.startswith("bob (operator, from 127.0.0.1), at the page: discard")
        ]
        self.assertEqual(len(logged), 3)


class TroubleTests(ApiTestCase):
    def amid(self, act: Any) -> None:
        """Call *act* when an action reads its twentieth letter."""
        take, taken = ModelChannel.get, 0

        def get(channel: ModelChannel, queue: str, *, no_ack: bool) -> Any:
            nonlocal taken
            taken += 1
            if taken == BATCH + 4:
                self.clock.callLater(0, act)
            return take(channel, queue, no_ack=no_ack)

        self.patch(ModelChannel, "get", get)

    def test_another_command_holds_the_lock(self) -> None:
        self.kill("tea")
        target = Target(self.endpoint, uri.parse("amqp://guest:guest@memory"))
        client = self.result(connecting.connect([target], self.clock, 10))
        channel = self.result(client.channel_open())
        self.result(channel.queue_declare(queue=topology.operator_queue("WB"), exclusive=True))
        body: Any
        for body in ({"filter": {}}, None):
            path = "dead/WB/discard" if body else "dead/WB"
            self.assertIn("another txmicro command is working", self.refused(409, path, body))
        self.result(client.shutdown())
        self.assertEqual(self.ok("dead/WB/discard", body={"filter": {}})["done"], 1)

    def test_another_operator_of_the_page_is_named(self) -> None:
        self.kill("tea", "rum")
        first = self.begin("dead/WB/discard", body={"filter": {}})
        self.assertIn(
            "bob is working on the dead letters of WB", self.refused(409, "dead/WB/requeue", {"filter": {}})
        )
        self.advance(1)
        self.assertEqual(first.reply().json["done"], 2)

    def test_a_list_waits_for_an_action(self) -> None:
        self.kill("tea")
        action = self.begin("dead/WB/discard", body={"filter": {}})
        self.assertEqual(self.ok("dead/WB")["total"], 0)
        self.assertEqual(action.reply().status, 200)

    def test_a_client_that_leaves_does_not_end_its_action(self) -> None:
        self.kill("tea", "rum")
        client = self.begin("dead/WB/discard", body={"filter": {}})
        client.close()
        self.clients.remove(client)
        self.advance(1)
        self.assertEqual(self.dead(), 0)
        self.assertIn("matched: 2, done: 2", self.audit()[0])

    def test_an_action_that_fails_halfway_says_how_many_are_done(self) -> None:
        self.kill(*range(BATCH + 8))
        self.amid(self.broker.close)
        reply = self.ask("dead/WB/discard", body={"filter": {}})
        self.assertEqual((reply.status, reply.json["error"], reply.json["done"]), (503, "Unavailable", BATCH))
        self.assertIn(f"{BATCH} letters are done, then it failed", reply.json["message"])
        self.assertIn(f"refused (503): {BATCH} letters are done", self.audit()[0])
        self.assertEqual(len(self.memory.records), BATCH)

    def test_no_broker(self) -> None:
        self.endpoint.broker = None
        self.assertIn("no connection to", self.refused(503, "dead/WB"))
        self.endpoint.broker = self.broker

    def test_a_stop_ends_an_action_after_its_batch_and_loses_nothing(self) -> None:
        count = BATCH * 3
        self.kill(*range(count))
        stopping: list[Deferred[None]] = []
        self.amid(lambda: stopping.append(Deferred.fromCoroutine(self.api.close())))
        reply = self.ask("dead/WB/discard", body={"filter": {}})
        self.assertEqual(reply.status, 503)
        self.assertEqual(self.dead() + reply.json["done"], count)
        self.successResultOf(stopping[0])
        self.assertIn("the process is stopping", self.refused(503, "dead/WB"))

    def test_a_bounded_number_of_requests_waits(self) -> None:
        waiting = [self.begin(f"dead/T{number}") for number in range(CONNECTIONS + WAITING)]
        tries = self.endpoint.tries
        self.assertIn("too many requests wait", self.refused(503, "dead/More"))
        self.assertLessEqual(tries, self.endpoint.tries)
        self.advance(5)
        self.assertEqual({client.reply().status for client in waiting}, {404})


class LogLevelTests(ApiTestCase):
    def test_levels_are_read_and_set(self) -> None:
        self.assertIn("*", self.ok("log-levels", "reader")["levels"])
        self.assertEqual(self.ok("log-levels", body={"component": "bus", "level": "debug"}), {})
        self.advance(0.2)
        self.assertEqual(self.ok("log-levels")["levels"]["bus"], "debug")
        self.assertEqual(self.audit()[0], 'bob: set a log level component: "bus", level: "debug": done')

    def test_levels_that_are_not_valid(self) -> None:
        for body in (
            {"component": "a b", "level": "debug"},
            {"component": "bus", "level": "loud"},
            {"component": "bus", "level": "debug", "type": "a b"},
            {"component": "bus"},
        ):
            self.refused(400, "log-levels", body)

    def test_no_connection(self) -> None:
        self.endpoint.broker = None
        self.broker.close()
        self.advance(0.1)
        self.refused(503, "log-levels", {"component": "bus", "level": "debug"})
        self.endpoint.broker = self.broker


class LocalTests(ApiTestCase):
    accounts: dict[str, str] = {}

    def test_everybody_on_this_machine_is_an_operator(self) -> None:
        self.assertEqual(self.ask("session", "").json["role"], "operator")
        self.assertEqual(self.ask("session", "", Host="evil.example").status, 403)
