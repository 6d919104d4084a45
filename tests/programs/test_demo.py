"""The demo as a program, and its parts."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from typing import Any

import treq
from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import ProgramTestCase
from tests.support.rabbitmq import free_port
from txmicro.config import Config
from txmicro.examples.movies import demo
from txmicro.examples.movies.demo import DemoError

STORED = {"id": "1", **demo.MOVIE}
METRICS = (
    'microservices_workers_total{type="WA"} 1.0\nmicroservices_workers_total{type="WB"} 2.0\nother 3.0\n'
)


class MakeDemoTests(ProgramTestCase):
    """The program that ``make demo`` runs."""

    def setUp(self) -> None:
        super().setUp()
        self.settings = {
            f"TXMICRO_{name}_PORT": str(free_port()) for name in ("BROKER_LISTEN", "METRICS", "REST")
        }

    async def test_once_it_ends_after_the_right_answers(self) -> None:
        once = self.run_program("python", "-m", "txmicro.examples.movies", "--once")
        self.assertEqual(await once.ended(), 0)
        rest = self.settings["TXMICRO_REST_PORT"]
        self.assertRegex(once.output, rf"POST http://127.0.0.1:{rest}/movies/\n(.*\n)+201\n.*Metropolis")
        self.assertRegex(once.output, rf"GET http://127.0.0.1:{rest}/movies/\?.*\n200\n.*Metropolis")
        self.assertIn(
            f"metrics  http://127.0.0.1:{self.settings['TXMICRO_METRICS_PORT']}/metrics", once.output
        )
        self.assertNotIn("Traceback", once.output)

    async def test_it_runs_until_ctrl_c(self) -> None:
        staying = self.run_program("python", "-m", "txmicro.examples.movies")
        page = (await staying.says(r"manager  (http://\S+/)\n"))[1]
        await staying.says("runs until Ctrl-C")
        self.assertIn(b"<title>txmicro</title>", await (await treq.get(page, persistent=False)).content())
        self.assertEqual(await staying.signal(signal.SIGINT), 0)
        self.assertRegex(staying.output, "WB:.* has stopped")

    async def test_a_port_in_use_is_one_line_with_its_variable(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            for name, port in (("METRICS", taken.getsockname()[1]), ("REST", taken.getsockname()[1])):
                refused = self.run_program(
                    "python", "-m", "txmicro.examples.movies", **{f"TXMICRO_{name}_PORT": str(port)}
                )
                self.assertEqual(await refused.ended(), 1)
                (line,) = refused.output.splitlines()
                self.assertIn(f"127.0.0.1:{port} (Address already in use)", line)
                self.assertIn(f"TXMICRO_{name}_PORT", line)

    async def test_it_ends_if_the_system_does_not_start(self) -> None:
        dying = self.run_program(
            "python", "-m", "txmicro.examples.movies", TXMICRO_LOG_FILE="no/such/folder/file"
        )
        self.assertEqual(await dying.ended(), 1)
        self.assertRegex(dying.errors, "log_file.*no/such/folder")
        self.assertTrue(dying.errors.splitlines()[-1].startswith("the system did not start"), dying.errors)


class System:
    """A system that ends when a test says so."""

    def __init__(self, *statuses: int | None) -> None:
        self.busy = 0  # waits that time out
        self._statuses = list(statuses)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self.returncode = self._statuses.pop(0) if self._statuses else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        if timeout is not None and self.busy:
            self.busy -= 1
            raise subprocess.TimeoutExpired("system", timeout)
        self.returncode = 3


class DemoTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.output, self.errors = StringIO(), StringIO()
        for redirect in (redirect_stdout(self.output), redirect_stderr(self.errors)):
            redirect.__enter__()
            self.addCleanup(redirect.__exit__, None, None, None)
        self.patch(signal, "signal", lambda *_: None)

    def serve(self, **answers: tuple[int, str]) -> Config:
        """Run a system with these responses to ``GET``, ``POST`` and ``metrics``, and return its configuration."""

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, text = answers["metrics" if self.path.startswith("/metrics") else self.command]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                """Do nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        for cleanup in (thread.join, server.server_close, server.shutdown):
            self.addCleanup(cleanup)
        port = server.server_port
        return Config(rest_port=port, metrics_port=port, services=("broker", "manager", "WA", "WB", "WB"))


class AnswerTests(DemoTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.right = {
            "metrics": (200, METRICS),
            "POST": (201, json.dumps(STORED)),
            "GET": (200, json.dumps([STORED])),
        }

    def refused(self, **answers: tuple[int, str]) -> str:
        config = self.serve(**self.right | answers)
        return str(self.assertRaises(DemoError, demo.show, System(), config))

    def test_requests_answers_and_addresses_are_shown(self) -> None:
        config = self.serve(**self.right)
        demo.show(System(), config)  # type: ignore[arg-type]
        base = f"http://127.0.0.1:{config.rest_port}"
        lines = self.output.getvalue().split("\n")
        for line in (
            f"POST {base}/movies/",
            f"  {json.dumps(demo.MOVIE)}",
            "201",
            f"  {json.dumps(STORED)}",
            f"GET {base}/movies/?title=Metropolis&id=1",
            "200",
            f"  manager  {base}/",
            f"  movies   {base}/movies/",
            f"  metrics  {base}/metrics",
        ):
            self.assertIn(line, lines)

    def test_wrong_answers_are_errors(self) -> None:
        self.assertIn("the status is 500: expected 201", self.refused(POST=(500, "{}")))
        self.assertIn("the status is 404: expected 200", self.refused(GET=(404, "{}")))
        self.assertIn("not stored as it was sent", self.refused(POST=(201, '{"title": "Nosferatu"}')))
        self.assertIn("not stored as it was sent", self.refused(POST=(201, "[]")))
        self.assertIn("not found again", self.refused(GET=(200, "[]")))

    def test_no_answer_is_an_error(self) -> None:
        error = self.assertRaises(DemoError, demo.ask, "GET", f"http://127.0.0.1:{free_port()}/movies/", 200)
        self.assertIn("no answer", str(error))

    def test_other_interfaces_are_used_as_they_are(self) -> None:
        self.assertEqual(demo.base("", 80), "http://127.0.0.1:80")
        self.assertEqual(demo.base("0.0.0.0", 80), "http://127.0.0.1:80")
        self.assertEqual(demo.base("10.0.0.1", 80), "http://10.0.0.1:80")
        self.assertEqual(demo.base("::1", 80), "http://[::1]:80")


class WaitTests(DemoTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.naps: list[float] = []
        self.patch(time, "sleep", self.naps.append)

    def wait(self, system: System, config: Config) -> None:
        demo.wait_for_workers(system, config)  # type: ignore[arg-type]

    def test_all_are_announced(self) -> None:
        self.wait(System(), self.serve(metrics=(200, METRICS)))
        self.assertEqual(self.naps, [])

    def test_it_asks_again_until_the_system_ends(self) -> None:
        config = Config(metrics_port=free_port(), services=("WA",))
        error = self.assertRaises(DemoError, self.wait, System(None, None, 2), config)
        self.assertIn("ended with status 2", str(error))
        self.assertEqual(len(self.naps), 2)

    def test_the_wait_has_a_limit(self) -> None:
        times = iter([0.0, 10.0, demo.START_TIMEOUT + 1])
        self.patch(time, "monotonic", lambda: next(times))
        config = self.serve(metrics=(200, 'microservices_workers_total{type="WA"} 1.0\n'))
        error = self.assertRaises(DemoError, self.wait, System(), config)
        self.assertIn("WB, WB", str(error))


class ProcessTests(DemoTestCase):
    def start(self, program: str) -> None:
        """Start *program*, in Python, as the system, and wait for its first output."""
        popen: Any = subprocess.Popen

        def start(_command: list[str], **options: Any) -> Any:
            self.system = popen([sys.executable, "-c", program], stdout=subprocess.PIPE, **options)
            self.addCleanup(self.system.stdout.close)
            self.system.stdout.readline()
            return self.system

        self.patch(subprocess, "Popen", start)

    def test_the_system_has_ended_afterwards(self) -> None:
        self.start("import time; print(flush=True); time.sleep(60)")
        with demo.running_system() as system:
            self.assertIsNone(system.poll())
        self.assertEqual(self.system.poll(), -signal.SIGTERM)

    def test_a_system_that_does_not_stop_is_killed(self) -> None:
        self.patch(demo, "STOP_TIMEOUT", 0.01)
        self.start(
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
        )
        with demo.running_system():
            pass
        self.assertEqual(self.system.wait(), -signal.SIGKILL)


class MainTests(DemoTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.shown = 0

        @contextmanager
        def running_system() -> Iterator[System]:
            yield System()

        self.patch(demo, "load", lambda path, environ: Config())
        self.patch(demo, "check_ports", lambda config: None)
        self.patch(demo, "running_system", running_system)
        self.patch(demo, "show", lambda system, config: self.show())

    def show(self) -> None:
        self.shown += 1

    def test_once(self) -> None:
        self.assertEqual(demo.main(["--once"]), 0)
        self.assertEqual(self.shown, 1)
        self.assertEqual(self.output.getvalue(), "")

    def test_a_system_that_ends_by_itself_is_an_error(self) -> None:
        self.assertEqual(demo.main([]), 1)
        self.assertIn("runs until Ctrl-C", self.output.getvalue())
        self.assertIn("ended by itself, with status 3", self.errors.getvalue())

    def test_ctrl_c_ends_it_without_an_error(self) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        self.patch(demo, "stay", interrupted)
        self.assertEqual(demo.main([]), 0)


class StayTests(DemoTestCase):
    def test_requests_keep_the_system_busy(self) -> None:
        sent: list[tuple[str, str, str]] = []
        self.patch(demo, "fetch", lambda method, url, body="": sent.append((method, url, body)))
        system = System()
        system.busy = demo.FAILS
        self.assertRaises(DemoError, demo.stay, system, Config(rest_port=80))
        movies = "http://127.0.0.1:80/movies/"
        self.assertEqual(len(sent), demo.FAILS)
        self.assertEqual(sent[0], ("GET", f"{movies}?year=1927&limit=10", ""))
        self.assertEqual(sent[demo.STORES - 1], ("POST", movies, json.dumps(demo.MOVIE)))
        self.assertEqual(sent[-1], ("POST", movies, '{"id": "the store sets it"}'))
        self.assertIn("4 requests per second", self.output.getvalue())

    def test_a_system_that_does_not_answer_is_waited_for(self) -> None:
        system = System()
        system.busy = 1
        error = self.assertRaises(DemoError, demo.stay, system, Config(rest_port=free_port()))
        self.assertIn("status 3", str(error))


class PortTests(DemoTestCase):
    def test_free_ports_are_fine(self) -> None:
        ports: dict[str, Any] = {
            name: free_port() for name in ("rest_port", "metrics_port", "broker_listen_port")
        }
        demo.check_ports(Config(**ports, rest_interface="::1"))

    def test_each_port_is_checked(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            for name in ("rest_port", "metrics_port", "broker_listen_port"):
                ports: dict[str, Any] = {"rest_port": 0, "metrics_port": 0, "broker_listen_port": 0}
                ports[name] = taken.getsockname()[1]
                error = self.assertRaises(DemoError, demo.check_ports, Config(**ports))
                self.assertIn(f"TXMICRO_{name.upper()}", str(error))
