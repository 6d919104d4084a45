"""The command lines of the daemons, and what they run."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from txmicro.daemons import tap
from txmicro.daemons.options import ManagerOptions, WorkerOptions
from txmicro.daemons.process import Process
from txmicro.errors import ConfigError
from txmicro.manager import SystemManager
from txmicro.page.monitor import Monitor
from txmicro.worker import Worker

ETC = Path(__file__).parents[3] / "etc"
CONFIG = str(ETC / "config.json")


class Counting(Worker):
    """A worker that a command line can name."""

    type = "WN"


class Idle(Worker):
    """A worker whose limits are not valid."""

    type = "WI"
    capacity = 0
    max_runtime = -1


class Awkward(Worker):
    """A worker whose constructor has other arguments."""

    def __init__(self) -> None:
        super().__init__("WN")


def parse(*words: str) -> Any:
    """Return the options of a command line after ``twistd``; those of the daemon are its ``subOptions``."""
    options = ServerOptions()
    options.parseOptions(words)
    return options


class CommandLineTests(SynchronousTestCase):
    def test_every_command_line_of_the_readme_is_valid(self) -> None:
        for line in (
            f"-n txmicro-manager --config {CONFIG}",
            f"-n txmicro-worker --type WD --config {CONFIG}",
            f"-n txmicro-worker --type WB --config {CONFIG}",
            f"-n txmicro-worker --type WA --config {CONFIG}",
            "-n txmicro-broker",
            "-n txmicro",
        ):
            options = parse(*line.split())
            self.assertEqual(options["pidfile"], "", line)

    def test_a_daemon_in_the_background_has_its_own_files(self) -> None:
        options = parse("txmicro-worker", "--type", "WA", "-t", "WB")
        self.assertEqual(options["pidfile"], os.path.abspath("txmicro-worker-WA-WB.pid"))
        self.assertEqual(options["logfile"], "txmicro-worker-WA-WB.log")

    def test_daemons_of_two_classes_share_no_file(self) -> None:
        names = []
        for words in (
            ["--class", "a.b:One"],
            ["--class", "a.b:Two"],
            ["--class", "../c"],
            ["--type", "../c"],
        ):
            options = parse("txmicro-worker", *words)
            names.append(options["logfile"])
            self.assertEqual(options["pidfile"], os.path.abspath(options["logfile"].replace(".log", ".pid")))
        self.assertEqual(
            names,
            [f"txmicro-worker-{name}.log" for name in ("a.b-One", "a.b-Two", "..-c", "..-c")],
        )

    def test_files_of_the_command_line_are_used(self) -> None:
        options = parse("--pidfile", "my.pid", "--logfile", "my.log", "txmicro-manager")
        self.assertEqual(options["pidfile"], os.path.abspath("my.pid"))
        self.assertEqual(options["logfile"], "my.log")

    def test_the_plugins_name_the_daemons(self) -> None:
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name, daemon in (
            ("txmicro", tap.process),
            ("txmicro-manager", tap.manager),
            ("txmicro-worker", tap.worker),
            ("txmicro-broker", tap.broker),
        ):
            self.assertIs(makers[name].options, daemon.Options)
            self.assertEqual(makers[name].makeService, daemon.makeService)

    def test_invalid_combinations_of_worker_options(self) -> None:
        for words, reason in (
            ([], "the worker is missing"),
            (["WA"], "did you mean --type WA"),
            (["--type", "WA", "--id", "one"], "--id: 'one' is not valid; expected TYPE:NAME"),
            (["--type", "WA", "--id", "WA:*"], "--id: 'WA:*' is not valid; expected TYPE:NAME"),
            (["--type", "WA", "--count", "0"], "--count"),
            (["--type", "WA", "--count", "many"], "--count"),
            (["--type", "WA", "--type", "WB", "--class", "a:B"], "--class"),
            (["--type", "WA", "--type", "WB", "--id", "WA:1"], "--id"),
            (["--type", "WA", "--count", "2", "--id", "WA:1"], "--id"),
        ):
            error = self.assertRaises(UsageError, WorkerOptions().parseOptions, words)
            self.assertIn(reason, str(error))


class BuildTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def build(self, daemon: tap.Daemon, *words: str, **environ: str) -> Process:
        options = daemon.Options()
        options.parseOptions(words)
        return daemon.build(options, self.reactor, environ)

    def problems(self, daemon: tap.Daemon, *words: str, **environ: str) -> list[str]:
        error: ConfigError = self.assertRaises(ConfigError, self.build, daemon, *words, **environ)
        return error.problems


class BuildTests(BuildTestCase):
    def test_the_clock_is_monotonic(self) -> None:
        self.build(tap.broker)
        self.assertIs(self.reactor.seconds, time.monotonic)

    def test_garbage_is_collected_rarely_and_not_among_the_first_objects(self) -> None:
        done: list[tuple[Any, ...]] = []
        self.patch(gc, "set_threshold", lambda *numbers: done.append(numbers))
        self.patch(gc, "freeze", lambda: done.append(("freeze", self.reactor.hasRun)))
        tap.collect_rarely(self.reactor)
        self.reactor.run()
        self.assertEqual(done, [(tap.GARBAGE,), ("freeze", True)])

    def test_a_manager(self) -> None:
        process = self.build(tap.manager, "--config", CONFIG)
        self.assertEqual([type(member) for member in process.members], [SystemManager])
        self.assertEqual(list(process), [process.page, process.manager_page, process.bus])
        self.assertEqual([type(child) for child in process.bus], [SystemManager, Monitor])
        self.assertIsNone(process.broker)

    def test_a_manager_without_a_page(self) -> None:
        process = self.build(tap.manager, "--config", CONFIG, TXMICRO_PAGE="false")
        self.assertEqual(list(process), [process.page, process.bus])
        self.assertIsNone(process.manager_page)

    def test_a_broker(self) -> None:
        process = self.build(tap.broker, TXMICRO_BROKER_LISTEN_PORT="5999")
        self.assertEqual(list(process), [process.broker, process.page])
        assert process.broker is not None
        self.assertEqual(process.broker.port, 5999)

    def test_everything_in_one_process(self) -> None:
        process = self.build(tap.process)
        self.assertEqual(list(process), [process.broker, process.page, process.manager_page, process.bus])
        self.assertEqual(
            [member.type for member in process.members], ["SystemManager", "WD", "WB", "WA", "WC"]
        )

    def test_everything_is_the_configured_types_if_there_are_any(self) -> None:
        types = {"WN": f"{__name__}:Counting"}
        process = self.build(tap.process, TXMICRO_WORKER_TYPES=json.dumps(types))
        self.assertEqual([member.type for member in process.members], ["SystemManager", "WN"])
        self.assertIsNotNone(process.broker)

    def test_one_process_runs_the_configured_services(self) -> None:
        process = self.build(tap.process, TXMICRO_SERVICES="manager,WD")
        self.assertEqual([member.type for member in process.members], ["SystemManager", "WD"])
        self.assertIsNone(process.broker)

    def test_an_invalid_broker_url_is_an_error(self) -> None:
        (problem,) = self.problems(tap.manager, TXMICRO_BROKER_URL="amqp://host/a/b")
        self.assertIn("broker_url", problem)

    def test_all_problems_of_the_configuration_are_reported(self) -> None:
        problems = self.problems(tap.manager, TXMICRO_REST_PORT="none", TXMICRO_TIMEOUT="-1")
        self.assertEqual([problem.partition(":")[0] for problem in problems], ["timeout", "rest_port"])


class ConfigurationTests(BuildTestCase):
    """Which file and variables the configuration comes from."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        (self.folder / "etc").mkdir(parents=True)
        self.file = self.folder / "etc" / "config.json"
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def said(self, *words: str, **environ: str) -> str:
        with capturedLogs() as events:
            self.build(tap.manager, *words, **environ)
        (line,) = (text for text in map(formatEvent, events) if "configuration" in text)
        return line

    def test_it_is_searched_and_its_origin_is_logged(self) -> None:
        self.assertTrue(self.said().startswith("txmicro-manager: the configuration is the defaults (there "))
        self.file.write_text("{}")
        self.assertEqual(self.said(), f"txmicro-manager: the configuration is {self.file}")
        self.assertEqual(
            self.said(TXMICRO_METRICS_PORT="0"),
            f"txmicro-manager: the configuration is {self.file}, TXMICRO_METRICS_PORT",
        )

    def test_a_named_file_takes_precedence(self) -> None:
        self.file.write_text("no JSON")
        for name in ("named.json", "given.json"):
            (self.folder / name).write_text("{}")
        environ = {"TXMICRO_CONFIG": "named.json"}
        self.assertIn(f" {self.folder}/named.json", self.said(**environ))
        self.assertIn(f" {self.folder}/given.json", self.said("--config", "given.json", **environ))

    def test_problems_of_a_file_that_was_searched_are_reported_with_its_path(self) -> None:
        self.file.write_text('{"keep": 1}')
        self.assertEqual(self.errors()[-1], f"txmicro-manager: the configuration was read from {self.file}")

    def test_a_file_that_does_not_exist_was_not_read(self) -> None:
        self.patch(os, "environ", {"TXMICRO_CONFIG": "missing.json"})
        (line,) = self.errors()
        self.assertIn("'missing.json': cannot be read", line)

    def errors(self) -> list[str]:
        """Return the lines on stderr of a manager that cannot start."""
        stderr = StringIO()
        self.patch(sys, "__stderr__", stderr)
        options = ManagerOptions()
        options.parseOptions([])
        self.assertRaises(SystemExit, tap.manager.makeService, options)
        return stderr.getvalue().splitlines()


class WorkerTests(BuildTestCase):
    def test_the_configured_class(self) -> None:
        process = self.build(tap.worker, "--type", "WB", "--config", CONFIG)
        (worker,) = process.members
        self.assertEqual(type(worker).__module__, "txmicro.examples.movies.workers")
        self.assertEqual(worker.type, "WB")

    def test_several_types_share_a_bus(self) -> None:
        process = self.build(tap.worker, "--type", "WB", "--type", "WD", "--config", CONFIG)
        self.assertEqual([worker.type for worker in process.members], ["WB", "WD"])
        self.assertEqual(list(process.bus), process.members)

    def test_count_is_for_each_type(self) -> None:
        process = self.build(tap.worker, "--type", "WB", "--type", "WD", "--count", "2", "--config", CONFIG)
        self.assertEqual([worker.type for worker in process.members], ["WB", "WB", "WD", "WD"])

    def test_a_class_has_a_type(self) -> None:
        (worker,) = self.build(tap.worker, "--class", f"{__name__}:Counting").members
        self.assertIsInstance(worker, Counting)
        self.assertEqual(worker.type, "WN")

    def test_a_class_can_be_given_another_type(self) -> None:
        (worker,) = self.build(tap.worker, "--class", f"{__name__}:Counting", "--type", "WM").members
        self.assertIsInstance(worker, Counting)
        self.assertEqual(worker.type, "WM")

    def test_an_id_can_be_given(self) -> None:
        (worker,) = self.build(tap.worker, "--class", f"{__name__}:Counting", "--id", "WN:1").members
        self.assertEqual(worker.id, "WN:1")

    def test_an_id_of_another_type_is_an_error(self) -> None:
        (problem,) = self.problems(tap.worker, "--class", f"{__name__}:Counting", "--id", "WX:1")
        self.assertIn("WX:1", problem)

    def test_a_class_with_other_arguments_is_an_error(self) -> None:
        (problem,) = self.problems(tap.worker, "--class", f"{__name__}:Awkward", "--type", "WN")
        self.assertIn(f"{__name__}:Awkward cannot be instantiated: too many positional arguments", problem)
        self.assertIn("take type and id and pass them to Worker's constructor", problem)

    def test_a_class_with_invalid_limits_is_an_error(self) -> None:
        (problem,) = self.problems(tap.worker, "--class", f"{__name__}:Idle")
        self.assertEqual(
            problem,
            f"{__name__}:Idle cannot be instantiated: Idle: capacity: 0 is not valid; expected a whole number of "
            "at least 1; max_runtime: -1 is not valid; expected a number above 0, or None for the "
            "configuration's",
        )

    def test_unknown_types_are_reported_with_the_known_ones(self) -> None:
        problems = self.problems(tap.worker, "--type", "WX", "--type", "WY", "--config", CONFIG)
        self.assertEqual(len(problems), 2)
        for problem, kind in zip(problems, ("WX", "WY"), strict=True):
            self.assertIn(f"{kind} is unknown; expected one of WA, WB, WC, WD", problem)

    def test_an_unknown_type_in_services_is_reported_with_the_key(self) -> None:
        path = self.mktemp()
        Path(path).write_text('{"services": ["manager", "WX"]}', "utf-8")
        (problem,) = self.problems(tap.process, "--config", path)
        self.assertIn("services: worker type WX is unknown", problem)


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = StringIO()
        self.patch(sys, "__stderr__", self.stderr)
        self.patch(sys, "path", [path for path in sys.path if path != os.getcwd()])

    def make(self) -> None:
        options = WorkerOptions()
        options.parseOptions(["--type", "WX", "--type", "WY"])
        tap.worker.makeService(options)

    def test_an_invalid_configuration_ends_the_process_with_status_2(self) -> None:
        self.assertEqual(self.assertRaises(SystemExit, self.make).code, 2)

    def test_each_problem_is_a_line(self) -> None:
        self.assertRaises(SystemExit, self.make)
        lines = self.stderr.getvalue().splitlines()
        self.assertEqual(
            [line.partition(" is unknown")[0] for line in lines],
            [
                "txmicro-worker-WX-WY: worker type WX",
                "txmicro-worker-WX-WY: worker type WY",
            ],
        )

    def test_modules_of_the_current_directory_can_be_imported(self) -> None:
        self.assertRaises(SystemExit, self.make)
        self.assertEqual(sys.path[0], os.getcwd())
        self.assertRaises(SystemExit, self.make)
        self.assertEqual(sys.path.count(os.getcwd()), 1)
