"""Daemons whose log cannot be written: the disk is full, the folder read-only, the output blocked. They go on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from tests.support.programs import BIN, Program, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port

MODULE = """
from pathlib import Path
from txmicro.worker import Worker

class Busy(Worker):
    type = "WT"

    async def do_job(self, job):
        for number in range(500):
            self.log.info("a line, " + 500 * "x")
        return job.data

    def opened(self):
        self.subscribe("log.error.process", self.heard)
        self.reactor.callLater(0.1, self.work, 0)

    def heard(self, topic, body):
        Path("heard").write_text(body["message"])

    def work(self, number):
        self.send("WT:*", number).when_done().addCallback(self.done)

    def done(self, number):
        Path("done").write_text(str(number))
        self.reactor.callLater(0.05, self.work, number + 1)
"""

NAMESPACES = ("/usr/bin/unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


class FaultTests(ProgramTestCase):
    """The daemon writes a large log, does jobs, and stops as always."""

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "busy.py").write_text(MODULE)
        self.settings = {
            "TXMICRO_SERVICES": "broker WT",
            "TXMICRO_WORKER_TYPES": '{"WT": "busy:Busy"}',
            "TXMICRO_BROKER_LISTEN_PORT": str(free_port()),
            "TXMICRO_METRICS_PORT": "0",
        }

    def daemon(self, log: str, prepare: str = "") -> Program:
        """Start the daemon, in a namespace of its own if there is a shell command to *prepare* that."""
        words = (str(BIN / "twistd"), "-n", "--logfile", log, "txmicro")
        if not prepare:
            return self.run_program(*words)
        if subprocess.call([*NAMESPACES, "true"], stderr=subprocess.DEVNULL):
            raise SkipTest("this system gives no mount namespaces")
        return self.run_program(*NAMESPACES, f'{prepare}; exec "$@"', "sh", *words)

    async def until(self, condition: Any) -> None:
        """Wait until another process has written to a file."""
        while not condition():
            await deferLater(reactor, 0.02)

    async def works(self, daemon: Program, jobs: int = 10) -> None:
        """Wait for *jobs* that are done, and the end of the daemon after SIGTERM."""
        done = self.directory / "done"
        await self.until(lambda: done.exists() and int(done.read_text() or 0) >= jobs)
        # twistd kills itself with the signal again.
        self.assertEqual(await daemon.signal(signal.SIGTERM), -signal.SIGTERM)

    async def heard(self) -> str:
        """Return the line about the log that the bus gets."""
        heard = self.directory / "heard"
        await self.until(lambda: heard.exists() and heard.read_text())
        return heard.read_text()

    async def test_a_full_disk(self) -> None:
        daemon = self.daemon("disk/my.log", "mkdir disk; mount -t tmpfs -o size=64k none disk")
        self.assertRegex(
            await self.heard(),
            r"cannot write the log to /.*/disk/my\.log: No space left on device; its lines",
        )
        await self.works(daemon)

    async def test_a_device_that_takes_nothing(self) -> None:
        await self.works(self.daemon("/dev/full"))

    async def test_a_folder_in_which_files_cannot_be_renamed(self) -> None:
        self.settings["TXMICRO_LOG_FILE_SIZE"] = "20000"
        daemon = self.daemon(
            "disk/my.log", "mkdir disk; touch disk/my.log; mount --bind disk/my.log disk/my.log"
        )
        await self.until(lambda: (self.directory / "disk/my.log").exists())
        self.assertRegex(
            await self.heard(), r"cannot rotate /.*/disk/my\.log: Device or resource busy; it grows"
        )
        await self.works(daemon)

    async def test_a_reader_that_does_not_read(self) -> None:
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        await self.works(self.daemon(str(pipe)), jobs=60)

    async def test_a_terminal_that_does_not_read(self) -> None:
        """A pipe as stdout that nobody reads, as behind a stopped pager."""
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        daemon = self.run_program("/bin/sh", "-c", f"exec {BIN / 'twistd'} -n txmicro >pipe")
        await self.works(daemon, jobs=60)

    async def test_the_lines_are_written_again_when_there_is_room(self) -> None:
        daemon = self.daemon(
            "disk/my.log",
            "mkdir disk; mount -t tmpfs -o size=64k none disk; head -c 60000 /dev/zero >disk/ballast; "
            "(while [ ! -s heard ]; do sleep 0.05; done; rm disk/ballast; sleep 1; cp disk/my.log copy) & :",
        )
        copy = Path(self.directory / "copy")
        await self.until(lambda: copy.exists() and copy.stat().st_size)
        self.assertRegex(
            copy.read_text(),
            r"\n\S+ warn     log [\d,]+ log lines before this one were not written: No space",
        )
        await daemon.kill()
