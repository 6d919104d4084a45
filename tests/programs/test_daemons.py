"""The daemons as processes, with the movies example."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.support.programs import Program, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port, require_rabbitmq

METROPOLIS = {"title": "Metropolis", "year": 1927}


class Watching(Protocol):
    """A connection that fires ``lost`` at its end."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


class SystemMixin:
    """The REST, pilot and DB workers in three processes, with the broker of the subclass."""

    directory: Any
    settings: dict[str, str]
    twistd: Any
    assertEqual: Any

    async def start_broker(self) -> str:
        """Start the broker, and return its URL."""
        raise NotImplementedError

    async def restart_broker(self) -> None:
        """Kill the broker, and start it again."""
        raise NotImplementedError

    async def start(self, daemon: str) -> Program:
        program: Program = self.twistd(daemon)
        await program.says(r" is ready")
        return program

    async def start_system(self) -> None:
        """Start the processes in an order in which each one misses those that it needs."""
        self.rest_port = free_port()
        self.settings |= {
            "TXMICRO_BROKER_URL": await self.start_broker(),
            "TXMICRO_REST_PORT": str(self.rest_port),
            "TXMICRO_METRICS_PORT": "0",
        }
        self.rest = await self.start("txmicro-worker --type WA")
        self.db = await self.start("txmicro-worker --type WB")
        self.pilot = await self.start("txmicro-worker --type WD")
        self.manager = await self.start("txmicro-manager")
        for kind in ("WA", "WB", "WD"):
            await self.manager.says(f"{kind}:.* is on the bus")

    async def check_answers(self) -> None:
        """Store a movie, and find it again."""
        url = f"http://127.0.0.1:{self.rest_port}/movies/"
        answer = await treq.post(url, json=METROPOLIS, persistent=False)
        stored = await answer.json()
        self.assertEqual((answer.code, stored), (201, {"id": stored.get("id"), **METROPOLIS}))
        answer = await treq.get(url, params={"id": stored["id"]}, persistent=False)
        self.assertEqual((answer.code, await answer.json()), (200, [stored]))

    async def test_it_answers(self) -> None:
        await self.start_system()
        await self.check_answers()

    async def test_it_works_again_after_any_process_was_killed(self) -> None:
        await self.start_system()
        await self.db.kill()
        await self.start("txmicro-worker --type WB")
        await self.check_answers()
        await self.pilot.kill()
        await self.start("txmicro-worker --type WD")
        await self.check_answers()
        await self.manager.kill()
        await self.check_answers()
        await self.start("txmicro-manager")
        await self.rest.kill()
        self.rest = await self.start("txmicro-worker --type WA")
        await self.check_answers()

    async def test_it_works_again_after_the_broker_was_killed(self) -> None:
        await self.start_system()
        everyone = (self.rest, self.db, self.pilot, self.manager)
        for program in everyone:
            program.output = ""
        await self.restart_broker()
        for program in everyone:
            await program.says("connected to")
        await self.check_answers()


class EmbeddedBrokerTests(SystemMixin, ProgramTestCase):
    async def start_broker(self) -> str:
        self.port = free_port()
        await self._start()
        return f"amqp://127.0.0.1:{self.port}"

    async def _start(self) -> None:
        self.broker = self.twistd("txmicro-broker", TXMICRO_BROKER_LISTEN_PORT=str(self.port))
        await self.broker.says(f"listens on 127.0.0.1:{self.port}")

    async def restart_broker(self) -> None:
        await self.broker.kill()
        await self._start()


class RabbitMQTests(SystemMixin, ProgramTestCase):
    async def start_broker(self) -> str:
        self.rabbit = await require_rabbitmq()
        return str(self.rabbit.url)

    async def restart_broker(self) -> None:
        self.rabbit.kill()
        await self.rabbit.start()

    async def test_a_wrong_password_is_logged_and_tried_again(self) -> None:
        rabbit = await require_rabbitmq()
        url = rabbit.url.replace("guest:guest", "guest:wrong-one")
        worker = self.twistd("txmicro-worker --type WD", TXMICRO_BROKER_URL=url)
        await worker.says(r"no connection to amqp://guest:\*\*\*@.*: .*(?i:refused|denied).*next attempt in")
        self.assertNotIn("wrong-one", worker.output)
        self.assertEqual(await worker.signal(signal.SIGINT), -signal.SIGINT)


class OneProcessTests(ProgramTestCase):
    """The whole system in one process."""

    def setUp(self) -> None:
        super().setUp()
        self.settings = dict.fromkeys(("TXMICRO_BROKER_LISTEN_PORT", "TXMICRO_METRICS_PORT"), "0")

    async def test_it_runs_and_stops_in_order(self) -> None:
        system = self.twistd("txmicro", TXMICRO_REST_PORT="0")
        for kind in ("WA", "WB", "WC", "WD"):
            await system.says(f"{kind}:.* is on the bus")
        self.assertEqual(await system.signal(signal.SIGTERM), -signal.SIGTERM)
        for kind in ("WA", "WB", "WC", "WD"):
            self.assertRegex(system.output, f"{kind}:.* has stopped")
        self.assertNotIn("Traceback", system.output)

    async def test_the_logger_collects_the_lines_of_the_others(self) -> None:
        system = self.twistd("txmicro", TXMICRO_REST_PORT="0")
        await system.says(r"WB:.* is on the bus")
        await system.signal(signal.SIGTERM)
        self.assertIn("is on the bus", (self.directory / "txmicro-workers.log").read_text())

    async def test_a_port_in_use_is_reported_with_its_key(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            for setting in ("broker_listen_port", "rest_port"):
                ports = {"TXMICRO_REST_PORT": "0", f"TXMICRO_{setting.upper()}": port}
                system = self.twistd("txmicro", **ports)
                self.assertEqual(await system.ended(), 1)
                (line,) = system.errors.splitlines()
                self.assertIn(setting, line)
                self.assertIn(port, line)
                self.assertNotIn("Traceback", system.output)


class BackgroundTests(ProgramTestCase):
    async def test_a_failed_start_is_reported_to_the_shell(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            starting = self.run_program("twistd", "txmicro-broker", TXMICRO_BROKER_LISTEN_PORT=port)
            self.assertEqual(await starting.ended(), 1)
        self.assertIn("the broker cannot listen on 127.0.0.1", starting.output)
        self.assertIn("broker_listen_port", (self.directory / "txmicro-broker.log").read_text())
        self.assertFalse((self.directory / "txmicro-broker.pid").exists())


class LimitTests(ProgramTestCase):
    async def test_a_limit_of_channels_is_explained(self) -> None:
        broker = self.twistd("txmicro-broker", TXMICRO_BROKER_LISTEN_PORT="0")
        port = (await broker.says(r"listens on 127.0.0.1:(\d+)"))[1]
        url = f"amqp://127.0.0.1:{port}/?channel_max=3"
        workers = self.twistd("txmicro-worker --type WC --count 20", TXMICRO_BROKER_URL=url)
        await workers.says("channel_max is reached: all 3 channels .* run fewer workers in this process")
        await workers.says(r"\d more like this in the last 10 s; .* channel_max is reached")
        await workers.signal(signal.SIGTERM)
        self.assertNotIn("Traceback", workers.output)

    async def test_a_limit_of_connections_is_explained(self) -> None:
        rabbit = await require_rabbitmq()
        await rabbit.add_user("few")
        await rabbit.ctl("set_user_limits", "few", '{"max-connections": 2}')
        self.addCleanup(rabbit.ctl, "clear_user_limits", "few", "all")
        url = str(rabbit.url).replace("guest:guest", "few:few")
        worker = self.twistd("txmicro-worker --type WD", TXMICRO_BROKER_URL=url)
        await worker.says(
            r"does not take durable jobs yet; .*: 530 .*limit \(2\).*a process needs 3 connections"
        )
        await worker.says(r" is ready")

    async def test_a_limit_of_queues_is_explained(self) -> None:
        rabbit = await require_rabbitmq()
        await rabbit.ctl("add_vhost", "few")
        self.addCleanup(rabbit.ctl, "delete_vhost", "few")
        await rabbit.ctl("set_permissions", "-p", "few", "guest", ".*", ".*", ".*")
        await rabbit.ctl("set_vhost_limits", "-p", "few", '{"max-queues": 4}')
        url = f"{str(rabbit.url).rstrip('/')}/few"
        worker = self.twistd("txmicro-worker --type WD", TXMICRO_BROKER_URL=url)
        await worker.says(r"406 .*queue limit.*\(4\) is reached \(delete queues, or let an operator raise")
        await worker.kill()
        self.assertNotIn("than this version of txmicro declares", worker.output)


class BadInputTests(ProgramTestCase):
    async def test_a_wrong_configuration(self) -> None:
        (self.directory / "bad.json").write_text(
            json.dumps({"timeout": -1, "keepalive": "often", "nonsense": 1})
        )
        manager = self.twistd("txmicro-manager --config bad.json")
        self.assertEqual(await manager.ended(), 2)
        self.assertEqual(len(manager.errors.splitlines()), 3)
        for key in ("timeout", "keepalive", "nonsense"):
            self.assertIn(key, manager.errors)

    async def test_an_unknown_type(self) -> None:
        worker = self.twistd("txmicro-worker --type WX")
        self.assertEqual(await worker.ended(), 2)
        self.assertIn("worker type WX is unknown; expected one of WA, WB, WC, WD", worker.errors)

    async def test_a_missing_broker_is_logged_and_the_stop_is_fast(self) -> None:
        ports = free_port(), free_port()
        urls = ",".join(f"amqp://127.0.0.1:{port}" for port in ports)
        for line in ("txmicro-worker --type WD", "txmicro-manager"):
            daemon = self.twistd(line, TXMICRO_BROKER_URL=urls, TXMICRO_METRICS_PORT="0")
            await daemon.says(
                f"no connection to .*:{ports[0]}/.*refused; next attempt in .*, at .*:{ports[1]}/"
            )
            self.assertEqual(await daemon.signal(signal.SIGINT), -signal.SIGINT)
            self.assertNotIn("Traceback", daemon.output)
            self.assertNotIn("may be lost", daemon.output)

    async def test_a_second_worker_with_the_same_id_does_not_start(self) -> None:
        broker = self.twistd("txmicro-broker", TXMICRO_BROKER_LISTEN_PORT="0")
        port = (await broker.says(r"listens on 127.0.0.1:(\d+)"))[1]
        self.settings["TXMICRO_BROKER_URL"] = f"amqp://127.0.0.1:{port}"
        first = self.twistd("txmicro-worker --type WD --id WD:1")
        await first.says("WD:1 is ready")
        second = self.twistd("txmicro-worker --type WD --id WD:1")
        self.assertEqual(await second.ended(), 1)
        self.assertIn("WD:1 cannot start: ", second.errors)
        self.assertNotIn("Traceback", second.output)


class DirectoryTests(ProgramTestCase):
    async def test_a_class_of_the_current_directory(self) -> None:
        (self.directory / "mine.py").write_text(
            "from txmicro.worker import Worker\n"
            "class Mine(Worker):\n"
            "    type = 'WM'\n"
            "print('mine was imported')\n"
        )
        worker = self.twistd("txmicro-worker --class mine:Mine", TXMICRO_BROKER_URL="amqp://127.0.0.1:1")
        await worker.says("mine was imported")
        await worker.says("no connection to")

    async def test_a_daemon_in_the_background_has_its_own_files(self) -> None:
        port = free_port()
        starting = self.run_program("twistd", "txmicro-broker", TXMICRO_BROKER_LISTEN_PORT=str(port))
        self.assertEqual(await starting.ended(), 0)
        pid = int((self.directory / "txmicro-broker.pid").read_text())
        watching = await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", port), Watching())
        os.kill(pid, signal.SIGTERM)
        await watching.gone
        self.assertIn(f"listens on 127.0.0.1:{port}", (self.directory / "txmicro-broker.log").read_text())
