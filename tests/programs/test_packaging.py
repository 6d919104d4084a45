"""The packages that users install: the wheel in an environment and a folder of their own, and the sdist with its tests.

An environment is made from nothing, so its packages come from the registry, or from pip's cache.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import treq
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.trial.unittest import SkipTest

from tests.programs.test_daemons import Watching
from tests.programs.test_examples import NAMES as EXAMPLES
from tests.support.documents import python_files
from tests.support.programs import ROOT, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port

QUICK = (
    "documentation.test_docs",
    "documentation.test_readme",
    "faults.test_suite",
    "programs.test_demo",
    "system.test_movies",
    "unit.daemons.test_catalog",
    "unit.daemons.test_tap",
    "unit.test_config",
)
"""The tests of the sdist that are run, to save time: those that read files or start programs but need no server.

All the others are imported too.
"""
NO_REGISTRY = "Could not find a version that satisfies"


class Packages(NamedTuple):
    """The wheel, the sdist, and an environment that has only the wheel and its dependencies."""

    sdist: Path
    wheel: Path
    bin: Path


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a program to its end, and return its output. Raise with the output if the status is not 0."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("TXMICRO_", "PYTHON"))
    }
    words = list(map(str, command))
    done = subprocess.run(words, cwd=cwd, env=environ | {"PIP_RETRIES": "1"}, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if NO_REGISTRY in output and "TXMICRO_REQUIRE_SERVICES" not in os.environ:
        raise SkipTest("there is no package registry")
    if done.returncode:
        raise AssertionError(f"{words} ended with status {done.returncode}:\n{output}")
    return output


def install(bin: Path, what: str) -> None:
    run(bin / "pip", "install", "--quiet", "--disable-pip-version-check", what)


@cache
def packages(folder: Path) -> Packages:
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
    run(sys.executable, "-m", "venv", folder / "environment")
    (sdist,) = folder.glob("dist/*.tar.gz")
    (wheel,) = folder.glob("dist/*.whl")
    install(folder / "environment" / "bin", str(wheel))
    return Packages(sdist, wheel, folder / "environment" / "bin")


class PackageTestCase(ProgramTestCase):
    """The wheel's programs in an empty folder, with free ports."""

    timeout = 300
    folders = ()

    def setUp(self) -> None:
        super().setUp()
        self.packages = packages(Path("packages").absolute())
        self.bin = self.packages.bin
        self.port, self.rest_port = free_port(), free_port()
        self.settings = {
            "TXMICRO_BROKER_LISTEN_PORT": str(self.port),
            "TXMICRO_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{self.port}/",
            "TXMICRO_METRICS_PORT": str(free_port()),
            "TXMICRO_REST_PORT": str(self.rest_port),
        }


class WheelTests(PackageTestCase):
    async def test_the_daemons_run_without_a_configuration(self) -> None:
        broker = self.twistd("txmicro-broker")
        await broker.says(f"listens on 127.0.0.1:{self.port}")
        manager = self.twistd("txmicro-manager")
        worker = self.twistd("txmicro-worker --type WB")
        await worker.says(f"stores in {self.directory}/txmicro.db")
        await worker.says("WB:.* is ready")
        await manager.says("WB:.* is on the bus")
        for program in (worker, manager, broker):
            self.assertIn("the configuration is the defaults", program.output)
            self.assertEqual(await program.signal(signal.SIGTERM), -signal.SIGTERM)

    async def test_one_process_runs_the_movies(self) -> None:
        system = self.twistd("txmicro")
        for kind in ("WA", "WB", "WC", "WD"):
            await system.says(f"{kind}:.* is on the bus")
        url = f"http://127.0.0.1:{self.rest_port}/movies/"
        stored = await treq.post(url, data={"title": "Alien", "year": "1979"}, persistent=False)
        self.assertEqual(stored.code, 201)
        found = await treq.get(url, params={"year": "1979"}, persistent=False)
        self.assertEqual(await found.json(), [await stored.json()])

    async def test_the_daemons_run_in_the_background(self) -> None:
        self.assertEqual(await self.run_program("twistd", "txmicro").ended(), 0)
        pid = int((self.directory / "txmicro.pid").read_text())
        watching = await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.port), Watching())
        os.kill(pid, signal.SIGTERM)
        await watching.gone
        log = self.directory / "txmicro.log"
        self.assertIn(f"listens on 127.0.0.1:{self.port}", log.read_text())

    async def test_the_demo_runs_without_other_files(self) -> None:
        demo = self.run_program("python", "-m", "txmicro.examples.movies", "--once")
        self.assertEqual(await demo.ended(), 0, demo.output)

    async def test_a_new_worker_is_installed_and_known_by_its_type(self) -> None:
        made = self.run_program("txmicro", "new", "worker", "InvoicePrinter")
        self.assertEqual(await made.ended(), 0, made.output)
        install(self.bin, str(self.directory / "invoice_printer"))
        self.twistd("txmicro-broker")
        await self.twistd("txmicro-worker --type InvoicePrinter").says("InvoicePrinter:.* is ready")

    async def test_the_small_examples_are_installed(self) -> None:
        names = ZipFile(self.packages.wheel).namelist()
        for name in EXAMPLES:
            self.assertIn(f"txmicro/examples/{name}/README.rst", names)
            program = self.run_program("python", "-m", f"txmicro.examples.{name}")
            self.assertEqual(await program.ended(), 0, program.output)

    def test_the_packages_have_all_files_of_the_page(self) -> None:
        folder = ROOT / "txmicro" / "page" / "static"
        files = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file()}
        self.assertIn("txmicro/page/static/uplot/LICENSE", files)
        with tarfile.open(self.packages.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        for packed in (set(ZipFile(self.packages.wheel).namelist()), names):
            self.assertEqual(files - packed, set())

    async def test_the_first_screen_of_the_readme(self) -> None:
        for name, code in python_files("README.rst").items():
            if "greeter" in name:
                (self.directory / f"{name}.py").write_text(code)
        tested = self.run_program("python", "-m", "twisted.trial", "test_greeter")
        self.assertEqual(await tested.ended(), 0, tested.output)
        broker = self.twistd("txmicro-broker")
        worker = self.twistd("txmicro-worker --class greeter:Greeter")
        await worker.says("Greeter:.* is ready")
        self.assertNotIn("Traceback", broker.output + worker.output)

    def test_it_has_the_files_of_the_page(self) -> None:
        files = [path for path in (ROOT / "txmicro" / "page" / "static").rglob("*") if path.is_file()]
        self.assertGreater(len(files), 10)
        names = {path.relative_to(ROOT).as_posix() for path in files}
        self.assertEqual(names - set(ZipFile(self.packages.wheel).namelist()), set())

    def test_its_top_level_names(self) -> None:
        tops = {name.partition("/")[0] for name in ZipFile(self.packages.wheel).namelist()}
        self.assertEqual(tops, {"txmicro", "twisted", self.packages.wheel.name[:-17] + ".dist-info"})


class ImageTests(PackageTestCase):
    def test_it_installs_the_same_files(self) -> None:
        """Build as the first stage of the Dockerfile does."""
        stage = (ROOT / "Dockerfile").read_text().split("FROM ")[1]
        allowed = (ROOT / ".dockerignore").read_text().splitlines()
        source = self.directory / "source"
        source.mkdir()
        for names in re.findall(r"^COPY (.+) \S+$", stage, re.MULTILINE):
            for name in names.split():
                self.assertIn(f"!{name}", allowed)
                run("cp", "--recursive", "--no-dereference", ROOT / name, source)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", self.directory, source)
        (wheel,) = self.directory.glob("*.whl")
        self.assertEqual(set(ZipFile(wheel).namelist()), set(ZipFile(self.packages.wheel).namelist()))


class SdistTests(PackageTestCase):
    def test_its_tests_pass_in_the_unpacked_folder(self) -> None:
        with tarfile.open(self.packages.sdist) as archive:
            archive.extractall(self.directory, filter="data")
        (folder,) = self.directory.iterdir()
        run("make", ".venv/ready", f"PYTHON={sys.executable}", cwd=folder)
        trial = folder / ".venv" / "bin" / "trial"
        found = re.search(r"Ran (\d+) tests.*\n\nPASSED", run(trial, "--dry-run", "tests", cwd=folder))
        self.assertGreater(int(found[1]) if found else 0, 1_000)
        self.assertIn("PASSED", run(trial, *(f"tests.{name}" for name in QUICK), cwd=folder))
