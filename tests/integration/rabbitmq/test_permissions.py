"""Users with only the rights that they need: the system works, and a stolen password allows nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from etc.rabbitmq.movies import MOVIES, OPERATORS
from tests.support.live import LiveBroker, LiveTestCase, Member, RabbitMQ
from tests.support.rabbitmq import HOST, reactor
from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import AccessRefused, AuthenticationFailed, ChannelClosed
from txmicro.amqp.properties import Properties
from txmicro.bus import targets
from txmicro.cli import main as cli
from txmicro.errors import BadRequest, NotPermitted, NoWorkerAvailable
from txmicro.examples.movies.workers import DBWorker, LoggerWorker, PilotWorker
from txmicro.manager import SystemManager
from txmicro.operations.letter_filter import EVERY
from txmicro.operations.permissions import Role, definitions
from txmicro.page.dead_letters import DeadLetterOperations
from txmicro.page.monitor import Monitor
from txmicro.protocol import topology
from txmicro.util.log_levels import LEVELS
from txmicro.worker import Worker

ROOT = Path(__file__).parents[3]
VHOST = "movies"
NOTES = "txmicro.notifications"
OWN_QUEUE = "txmicro.direct.WB:own"
MOVIE = {"title": "Metropolis", "year": 1927}


class DefinitionsTests(SynchronousTestCase):
    def test_the_file_of_the_example_is_up_to_date(self) -> None:
        written = json.loads((ROOT / "etc/rabbitmq/movies.json").read_text())
        self.assertEqual(written, definitions(MOVIES, operators=OPERATORS))

    def test_the_topics_of_a_pattern(self) -> None:
        given = definitions([Role("WB", publishes=["movie.*", "film.#", "a.b"])])["topic_permissions"]
        (write,) = (
            each["write"] for each in given if (each["user"], each["exchange"]) == ("WB", "txmicro.events")
        )
        for topic, may in (
            ("movie.created", True),
            ("movie.created.again", False),
            ("movie", False),
            ("film.a.b", True),
            ("a.b", True),
            ("axb", False),
            ("log.info.WB", True),
            ("log.info.process", True),
            ("log", False),
        ):
            (self.assertRegex if may else self.assertNotRegex)(topic, write)


class PermissionsTests(LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return RabbitMQ()

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        broker: Any = self.broker
        self.node = broker.node
        self.definitions = (
            Path(self.node.directory) / "definitions.json"
        )  # the node can read only its own folder
        self.definitions.write_text(json.dumps(definitions(MOVIES, VHOST, OPERATORS)))
        await self.node.ctl("import_definitions", str(self.definitions))
        for user in ("SystemManager", "operator", *(role.kind for role in MOVIES)):
            await self.node.ctl("change_password", user, f"{user}-password")

    async def tearDown(self) -> None:  # type: ignore[override]
        await super().tearDown()
        await self.node.ctl("delete_vhost", VHOST)

    async def begin(self, member: Member, **settings: Any) -> None:
        """Start a process with *member*, as the user of its type."""
        user = f"{member.type}:{member.type}-password"
        self.launch(member, url=self.url(user=user, vhost=VHOST), **settings)
        await member.when_ready()

    async def movies(self) -> Worker:
        """Start the movies example, and return its WA, without HTTP."""
        self.manager, self.logger, rest = SystemManager(), LoggerWorker(), Worker("WA")
        self.database, self.pilot = DBWorker(), PilotWorker()
        self.monitor = Monitor(self.manager)
        self.log_file = Path(self.mktemp())
        await self.begin(self.manager, keepalive=500)
        self.monitor.setServiceParent(self.manager.bus)
        await self.begin(self.logger, log_file=str(self.log_file))
        for worker in (self.database, self.pilot, rest):
            await self.begin(worker, store_url="sqlite://")
        return rest

    # The system works

    async def test_the_movies_work_with_these_users(self) -> None:
        rest = await self.movies()
        stored = await rest.send("WD:*", {"method": "POST", "params": MOVIE})
        self.assertEqual(stored["title"], "Metropolis")
        kept = rest.send("WD:*", {"method": "GET"}, durable=True)
        await kept.when_stored()
        self.assertEqual(await kept, [stored])
        refused = rest.send("WD:*", {"method": "DELETE"}, durable=True)
        await self.failed(refused, BadRequest)
        rest.publish("log.info.WA", line("a line"))
        await self.until(lambda: "a line" in self.log_file.read_text(), "the line is written")
        await self.until(lambda: len(self.manager.registry) == 4, "the manager knows all")
        self.assertEqual(len(await rest.list_workers()), 4)
        await self.pilot.bus.stopService()
        await self.failed(rest.send("WD:*", None), NoWorkerAvailable)
        self.assertEqual(self.lines("refused"), [])
        self.assertEqual(self.lines("lost its channel"), [])

    async def test_the_monitor_works_with_these_users(self) -> None:
        rest = await self.movies()
        await self.failed(rest.send("WD:*", {"method": "DELETE"}, durable=True), BadRequest)
        rest.publish("log.warn.WA", line("a warning"))
        seen = self.monitor.fleet.types
        await self.until(lambda: {"WA", "WB", "WC", "WD"} <= {*seen}, "all types report")
        await self.until(lambda: self.dead_letters() == 1, "the depths are known")
        self.assertIn("a warning", [each["message"] for each in self.monitor.lines])
        self.assertEqual(self.lines("refused"), [])
        self.assertEqual(self.lines("cannot look at"), [])

    def dead_letters(self) -> Any:
        """Return how many dead letters of WD the monitor sees; None: it does not know."""
        types = {each["type"]: each for each in self.monitor.overview()["types"]}
        return types["WD"]["queues"]["dead"]["jobs"]

    async def test_a_missing_right_to_look_at_queues_is_logged_once(self) -> None:
        if await self.node.version() < (4, 3):
            return  # it tells the depths to all users
        given = definitions(MOVIES, VHOST, OPERATORS)
        for each in given["permissions"]:
            if each["user"] == "SystemManager":
                each["write"] = (
                    "^(txmicro\\.([a-z]+\\.SystemManager([.:].+)?|notifications|events|replies\\..+))$"
                )
        self.definitions.write_text(json.dumps(given))
        await self.node.ctl("import_definitions", str(self.definitions))
        for user in ("SystemManager", *(role.kind for role in MOVIES)):
            await self.node.ctl("change_password", user, f"{user}-password")
        rest = await self.movies()
        self.assertEqual(await rest.send("WD:*", {"method": "GET"}), [])
        await self.until(lambda: "WD" in self.monitor.fleet.types, "WD reports")
        await self.until(lambda: "dead" in self.monitor.queues.queues.get("WD", {}), "it has looked at them")
        self.assertEqual(len(self.lines("cannot look at")), 1)

    async def test_a_message_that_is_not_permitted_fails_at_once_and_only_that(self) -> None:
        rest = await self.movies()
        session = rest.bus.session
        error = await self.failed(rest.send("WC:*", None), NotPermitted)
        self.assertIn("the user lacks the write permission", str(error))
        self.assertEqual(await rest.send("WD:*", {"method": "GET"}), [])
        self.assertIs(rest.bus.session, session)

    async def test_a_worker_that_starts_with_another_users_password_names_the_missing_right(self) -> None:
        pilot = PilotWorker()
        self.launch(pilot, url=self.url(user="WB:WB-password", vhost=VHOST))
        error = await self.failed(pilot.when_ready(), AccessRefused)
        self.assertIn("the user lacks the configure permission", str(error))
        self.assertIn("txmicro.to.WD", str(error))
        self.assertEqual(len(self.lines("the user lacks the configure permission")), 1)

    async def test_a_user_without_a_password_cannot_log_in_with_one(self) -> None:
        await self.node.ctl("import_definitions", str(self.definitions))
        for password in ("", "WB-password"):
            await self.failed(self.log_in("WB", password), AuthenticationFailed)

    async def test_a_type_that_is_not_used_any_more_removes_only_its_own_queues(self) -> None:
        await self.movies()
        await self.pilot.bus.stopService()
        wb, said = self.pilot.type, StringIO()
        url = self.url(user=f"{wb}:{wb}-password", vhost=VHOST)
        command = cli.Command(reactor, {"TXMICRO_BROKER_URL": url}, said, said)
        other = self.database.type
        self.assertEqual(await command.run(["queues", "prune", other]), cli.NOT_DONE)
        self.assertIn("the user lacks the configure permission", said.getvalue())
        self.assertEqual(await command.run(["queues", "prune", wb]), cli.DONE, said.getvalue())
        self.assertIn(f"removed txmicro.jobs.{wb}.durable", said.getvalue())

    # With WB's password

    async def intrude(self, attempt: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Return the outcome of *attempt* on a channel of WB's user."""
        channel: Channel = await self.intruder.channel_open()
        await channel.confirm_select()
        return await attempt(channel, *arguments, **more)

    async def refused(self, attempt: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        error = await self.failed(self.intrude(attempt, *arguments, **more), ChannelClosed)
        self.assertIsInstance(error, AccessRefused, str(error))

    async def intruded(self, user: str = "WB") -> Worker:
        rest = await self.movies()
        self.intruder = await self.log_in(user, f"{user}-password")
        return rest

    async def log_in(self, user: str, password: str) -> Connection:
        client = Connection(vhost=VHOST, username=user, password=password, clock=reactor)
        self.addCleanup(client.shutdown)
        await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.node.port), client)
        return await client.ready()

    async def test_it_cannot_read_messages_for_others(self) -> None:
        rest = await self.intruded()
        for queue in ("jobs.WD", "jobs.WD.durable", "quarantine.WD", "dead.WD", "retry.WD.1000"):
            await self.refused(Channel.consume, f"txmicro.{queue}", print)
            for method in ("basic_get", "queue_purge"):
                await self.refused(call, method, queue=f"txmicro.{queue}")
        inbox = f"txmicro.inbox.{rest.id}"
        await self.failed(self.intrude(Channel.consume, inbox, print), ChannelClosed)
        for exchange, key in (
            ("txmicro.to.WD", "*"),
            ("txmicro.to.WD", "durable"),
            ("txmicro.durable.WD", "durable"),
            ("txmicro.replies.WA", rest.id),
            (NOTES, "worker.new.WA"),
            (NOTES, "monitor.report.WA"),
            (NOTES, "monitor.report.WB"),
            (NOTES, "#"),
            ("txmicro.events", "log.#"),
        ):
            await self.refused(bind, exchange, key)

    async def test_it_cannot_send_as_or_to_others(self) -> None:
        rest = await self.intruded()
        for exchange, key in (
            ("txmicro.to.WD", "*"),
            ("txmicro.to.WA", rest.id),
            ("txmicro.to.WC", "durable"),
            ("txmicro.durable.WD", "durable"),
            ("txmicro.replies.WC", self.logger.id),
            ("txmicro.replies.SystemManager", self.manager.id),
            (NOTES, "worker.new.WA"),
            (NOTES, "worker.new.resend.WA"),
            (NOTES, "worker.del.WA"),
            (NOTES, "worker.del"),
            (NOTES, "worker.getAll"),
            (NOTES, "monitor.levels"),
            (NOTES, "monitor.report.WA"),
            (NOTES, "monitor.watch"),
            ("txmicro.events", "movie.created"),
            ("", "txmicro.jobs.WD"),
        ):
            await self.refused(publish, exchange, key)

    async def test_it_cannot_send_indirectly(self) -> None:
        await self.intruded()
        for target in ("txmicro.to.WD", "txmicro.durable.WD", "txmicro.replies.WC", "amq.default"):
            name = "" if target == "amq.default" else target
            dead = {"x-dead-letter-exchange": name, "x-dead-letter-routing-key": "*"}
            await self.refused(call, "queue_declare", queue=OWN_QUEUE, exclusive=True, arguments=dead)
            other = {"alternate-exchange": target}
            own = {"exchange": "txmicro.own.WB", "exchange_type": "direct"}
            await self.refused(call, "exchange_declare", **own, arguments=other)
        to_pilots = {"destination": "txmicro.to.WD", "source": "txmicro.to.WB", "routing_key": "*"}
        await self.refused(call, "exchange_bind", **to_pilots)

    async def test_it_cannot_delete_what_belongs_to_others(self) -> None:
        rest = await self.intruded()
        for exchange in (
            NOTES,
            "txmicro.events",
            "txmicro.to.WD",
            "txmicro.replies.WA",
            "txmicro.durable.WD",
        ):
            await self.refused(call, "exchange_delete", exchange=exchange)
        for queue in ("txmicro.jobs.WD", "txmicro.jobs.WD.durable", "txmicro.retry.WD.1000"):
            await self.refused(call, "queue_delete", queue=queue)
        inbox = f"txmicro.inbox.{rest.id}"
        await self.failed(self.intrude(call, "queue_delete", queue=inbox), ChannelClosed)
        self.assertEqual(await rest.send("WD:*", {"method": "GET"}), [])

    async def test_a_notification_about_another_worker_than_its_topic_is_ignored(self) -> None:
        """RabbitMQ 3 lets CC route to topics without a right, but the message still has its own routing key."""
        rest = await self.intruded()
        about = json.dumps({"id": rest.id, "type": "WA"}).encode()
        unknown = json.dumps({"id": "WA:unknown", "type": "WA"}).encode()
        if (await self.node.version()) >= (4,):
            await self.refused(publish, NOTES, "worker.del.WB", about, cc="worker.del.WA")
            await self.refused(publish, NOTES, "monitor.report.WB", about, cc="monitor.report.WA")
            return
        await self.intrude(publish, NOTES, "worker.del.WB", about, cc="worker.del.WA")
        await self.intrude(publish, NOTES, "worker.new.WB", unknown, cc="worker.new.WA")
        report = json.dumps({"worker": rest.id, "running": 1000}).encode()
        await self.intrude(publish, NOTES, "monitor.report.WB", report, cc="monitor.report.WA")
        known = await rest.list_workers()
        self.assertNotEqual(
            self.lines("a report of a worker of type 'WA' on the topic 'monitor.report.WB'"), []
        )
        self.assertEqual([each["id"] for each in known if each["type"] == "WA"], [rest.id])
        self.assertEqual([peer.id for peer in rest.peers], [rest.id])
        for topic in ("worker.del.WB", "worker.new.WB"):
            said = self.lines(f"a worker of type 'WA' on the topic '{topic}'")
            self.assertEqual(
                {str(each["worker"]) for each in said}, {rest.id, self.manager.id, self.database.id}
            )

    # Operators

    async def operate(self, command: str, *words: str) -> tuple[int, str]:
        """Run ``txmicro dead``, and return its status and its output."""
        url = self.url(user="operator:operator-password", vhost=VHOST)
        said = StringIO()
        operating = cli.Command(reactor, {"TXMICRO_BROKER_URL": url}, said, said)
        return await operating.run(["dead", command, *words]), said.getvalue()

    async def test_the_role_of_the_command_line_is_enough_for_workers_and_send(self) -> None:
        levels = [f"log.{level}.#" for level in LEVELS]
        roles = [*MOVIES, Role("CLI", sends=["WB"], subscribes=levels)]
        self.definitions.write_text(json.dumps(definitions(roles, VHOST)))
        await self.node.ctl("import_definitions", str(self.definitions))
        for user in ("SystemManager", *(role.kind for role in roles)):  # the import removes passwords
            await self.node.ctl("change_password", user, f"{user}-password")
        await self.movies()
        out, err = StringIO(), StringIO()
        url = self.url(user="CLI:CLI-password", vhost=VHOST)
        for words in (
            ["workers"],
            ["send", "WB:*", '{"method": "GET"}'],
            ["send", "WB:*", '{"method": "GET"}', "--durable"],
        ):
            command = cli.Command(reactor, {"TXMICRO_BROKER_URL": url}, out, err)
            self.assertEqual((await command.run(words), err.getvalue()), (cli.DONE, ""), words)
        command = cli.Command(reactor, {"TXMICRO_BROKER_URL": url}, out, err)
        following = command.run(["logs", "--follow"])
        while "a line to follow" not in out.getvalue():
            self.database.publish("log.warn.WB", line("a line to follow"))
            await deferLater(reactor, 0.05)
        command.interrupt()
        self.assertEqual((await following, err.getvalue()), (cli.DONE, ""))

    async def test_an_operator_can_use_the_dead_letters_of_its_types(self) -> None:
        rest = await self.movies()
        jobs = [rest.send("WD:*", {"method": "DELETE"}, durable=True) for _ in range(2)]
        for job in jobs:
            await self.failed(job, BadRequest)
        _, page = await self.operate("list", "WD")
        self.assertIn("2 dead letters of WD", page)
        status, letter = await self.operate("show", "WD", jobs[0].id)
        self.assertEqual((status, json.loads(letter)["body"]["data"]), (cli.DONE, {"method": "DELETE"}))
        self.assertEqual(await self.operate("requeue", "WD", jobs[0].id), (cli.DONE, "1 requeued\n"))
        self.assertEqual(await self.operate("discard", "WD", jobs[1].id), (cli.DONE, "1 discarded\n"))
        self.assertEqual(await self.operate("list", "WB"), (cli.DONE, "0 dead letters of WB\n"))
        status, said = await self.operate("list", "WC")
        self.assertEqual(status, cli.NOT_DONE)
        self.assertIn("the user lacks the configure permission", said)

    async def test_the_page_of_the_manager_can_use_the_dead_letters_of_all_types(self) -> None:
        rest = await self.movies()
        jobs = [rest.send("WD:*", {"method": "DELETE"}, durable=True) for _ in range(3)]
        for job in jobs:
            await self.failed(job, BadRequest)
        broker = targets.target(reactor, self.url(user="SystemManager:SystemManager-password", vhost=VHOST))
        letters = DeadLetterOperations([broker], 10, reactor, time.time)
        rows, total = await letters.rows("WD")
        self.assertEqual(({row.job for row in rows}, total), ({job.id for job in jobs}, 3))
        self.assertEqual((await letters.requeue("me", "WD", [jobs[0].id])).done, 1)
        await self.until(lambda: len(self.lines("dead letter")) == 4, "the requeued job has failed again")
        self.assertEqual((await letters.discard("me", "WD", EVERY)).done, 3)

    async def test_an_operator_can_use_nothing_else(self) -> None:
        await self.intruded("operator")
        for queue in (
            "txmicro.jobs.WD",
            "txmicro.jobs.WD.durable",
            "txmicro.quarantine.WD",
            "txmicro.dead.WC",
            f"txmicro.inbox.{self.database.id}",
        ):
            await self.failed(self.intrude(call, "basic_get", queue=queue), ChannelClosed)
        for queue in ("txmicro.jobs.WD", "txmicro.dead.WD", "txmicro.dead.WC.operator"):
            await self.refused(call, "queue_declare", queue=queue, exclusive=True)
            await self.refused(call, "queue_delete", queue=queue)
        for exchange, key in (
            ("txmicro.to.WD", "*"),
            ("txmicro.to.WD", "durable"),
            ("txmicro.durable.WC", "durable"),
            ("txmicro.replies.WA", "WA:1"),
            (NOTES, "worker.getAll"),
            ("txmicro.events", "log.info.WA"),
            ("", "txmicro.jobs.WD"),
        ):
            await self.refused(publish, exchange, key)
        lock = topology.operator_queue("WD")
        away = {"x-dead-letter-exchange": "txmicro.durable.WD", "x-dead-letter-routing-key": "durable"}
        await self.refused(call, "queue_declare", queue=lock, exclusive=True, arguments=away)
        own = {"exchange": "txmicro.dead.WD.own", "exchange_type": "direct"}
        await self.refused(call, "exchange_declare", **own)


def line(text: str) -> dict[str, Any]:
    return {"time": 0, "level": "info", "service": "WA", "worker": "WA:1", "job": None, "message": text}


def publish(channel: Channel, exchange: str, key: str, body: bytes = b"{}", cc: str = "") -> Deferred[None]:
    headers = {"CC": [cc]} if cc else None
    properties = Properties(content_type="application/json", headers=headers).encode()
    return channel.publish_confirmed(channel.publisher(exchange, key), properties, body, "")


async def bind(channel: Channel, exchange: str, key: str) -> None:
    await channel.queue_declare(queue=OWN_QUEUE, exclusive=True)
    await channel.queue_bind(queue=OWN_QUEUE, exchange=exchange, routing_key=key)


def call(channel: Channel, method: str, **arguments: Any) -> Any:
    return getattr(channel, method)(**arguments)
