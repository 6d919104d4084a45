"""The log of daemons as processes: in the foreground and background, on a terminal, in files and in syslog."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import syslog
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from tests.support.programs import BIN, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port

SECRET = "s3cret"

MODULE = f"""
from twisted.logger import Logger
from txmicro.worker import Worker

log = Logger()
log.info("early info")
log.warn("early amqp://me:{SECRET}@a.host\\nforged")

class Talking(Worker):
    type = "WT"

    def startService(self):
        super().startService()
        self.log.info("an info of a worker")
        self.log.warn("a warning of a worker")
        log.warn("amqp://me:{SECRET}@a.host\\nforged")
        log.info("an info of a module")
        log.warn("the last line")
"""

NAMESPACES = ("--user", "--map-root-user", "--mount")

OWN_DEV = """
for name in null random urandom; do touch "$0/$name"; mount --bind "/dev/$name" "$0/$name"; done
mount --rbind "$0" /dev
exec "$@"
"""
"""Runs a command with the test's folder as ``/dev``, so that it writes to the test's syslog socket."""

OWN_RUN = """
socket="$PWD/socket"
mount -t tmpfs none /run && mkdir -p /run/systemd/journal && touch /run/systemd/journal/socket
mount --bind "$socket" /run/systemd/journal/socket
exec 3>&1
export JOURNAL_STREAM="$(stat -L -c %d:%i /proc/self/fd/3)"
exec "$0" "$@"
"""
"""Runs a command with the test's socket as that of the journal, and stdout connected to it as far as systemd says."""

SILENT = {"TXMICRO_LOG_LEVEL": "warn", "TXMICRO_WORKER_LOG": "false"}


class ConfiguredLogTests(ProgramTestCase):
    """``log_level``, ``Worker_log``, masking and escaping apply wherever the log is written."""

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "talking.py").write_text(MODULE)
        self.settings = SILENT | {"TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{free_port()}"}

    def check(self, text: str) -> None:
        for said in ("early amqp://me:***@a.host\\nforged", "amqp://me:***@a.host\\nforged", "the last line"):
            self.assertIn(said, text)
        for unsaid in (SECRET, "early info", "of a worker", "an info of a module", "starting up", "\nforged"):
            self.assertNotIn(unsaid, text)

    async def until(self, condition: Any) -> None:
        """Wait until another process has written to a file."""
        while not condition():
            await deferLater(reactor, 0.02)

    async def in_background(self, *words: str) -> None:
        """Start a daemon in the test's folder, which is stopped at the end of the test."""
        starting = self.run_program("twistd", *words, "txmicro-worker", "--class", "talking:Talking")
        self.assertEqual(await starting.ended(), 0, starting.output)
        pid = int((self.directory / "txmicro-worker-talking-Talking.pid").read_text())
        self.addCleanup(os.kill, pid, signal.SIGKILL)

    async def test_a_terminal(self) -> None:
        worker = self.twistd("txmicro-worker --class talking:Talking")
        await worker.says("the last line")
        self.check(worker.output)

    async def test_a_file_in_the_foreground(self) -> None:
        worker = self.run_program(
            "twistd", "-n", "--logfile", "my.log", "txmicro-worker", "--class", "talking:Talking"
        )
        log = self.directory / "my.log"
        await self.until(lambda: log.exists() and "the last line" in log.read_text())
        self.check(log.read_text())
        self.assertEqual(worker.output, "")

    async def test_a_file_in_the_background(self) -> None:
        await self.in_background()
        log = self.directory / "txmicro-worker-talking-Talking.log"
        await self.until(lambda: "the last line" in log.read_text())
        self.check(log.read_text())

    async def test_the_log_is_rotated_and_old_files_are_deleted(self) -> None:
        self.settings |= {"TXMICRO_LOG_FILE_SIZE": "100", "TXMICRO_LOG_FILES": "2"}
        await self.in_background()
        await self.until(lambda: (self.directory / "txmicro-worker-talking-Talking.log.2").exists())
        names = {each.name for each in self.directory.glob("txmicro-worker-talking-Talking.log*")}
        self.assertEqual(names, {f"txmicro-worker-talking-Talking.log{end}" for end in ("", ".1", ".2")})

    async def test_rotated_files_of_a_daemon_in_the_background_are_compressed(self) -> None:
        self.settings |= {"TXMICRO_LOG_FILE_SIZE": "100", "TXMICRO_LOG_COMPRESS": "true"}
        await self.in_background()
        old = self.directory / "txmicro-worker-talking-Talking.log.1.gz"
        await self.until(old.exists)
        with gzip.open(old, "rt") as lines:
            self.assertIn("***@a.host", lines.read())

    async def test_a_signal_rotates_the_file(self) -> None:
        await self.in_background()
        log = self.directory / "txmicro-worker-talking-Talking.log"
        await self.until(lambda: "the last line" in log.read_text())
        os.kill(int(log.with_suffix(".pid").read_text()), signal.SIGUSR1)
        old = self.directory / f"{log.name}.1"
        await self.until(lambda: old.exists() and log.exists())
        self.check(old.read_text())

    async def test_the_journal(self) -> None:
        if subprocess.call(["unshare", *NAMESPACES, "true"], stderr=subprocess.DEVNULL):
            raise SkipTest("this system gives no mount namespaces")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(os.path.relpath(self.directory / "socket"))  # absolute paths are often too long
            listening.setblocking(False)
            worker = self.run_program(
                *("/usr/bin/unshare", *NAMESPACES, "sh", "-c", OWN_RUN, str(BIN / "twistd")),
                *("-n", "txmicro-worker", "--class", "talking:Talking"),
            )
            entries: list[str] = []

            def heard() -> bool:
                try:
                    while True:
                        entries.append(listening.recv(65536).decode())
                except BlockingIOError:
                    return any("the last line" in entry for entry in entries)

            await self.until(heard)
            await worker.kill()
        self.check("\n".join(entries))
        self.assertEqual(worker.output, "")
        fields = entries[-1].splitlines()
        self.assertLessEqual(
            {"PRIORITY=4", "SYSLOG_IDENTIFIER=txmicro-worker-talking-Talking", "MESSAGE=the last line"},
            set(fields),
        )

    async def test_syslog(self) -> None:
        if subprocess.call(["unshare", *NAMESPACES, "true"], stderr=subprocess.DEVNULL):
            raise SkipTest("this system gives no mount namespaces")
        dev = self.directory / "dev"
        dev.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(os.path.relpath(dev / "log"))  # absolute paths are often too long
            listening.setblocking(False)
            worker = self.run_program(
                *("/usr/bin/unshare", *NAMESPACES, "sh", "-c", OWN_DEV, str(dev)),
                *(str(BIN / "twistd"), "-n", "--syslog", "txmicro-worker", "--class", "talking:Talking"),
            )
            records: list[str] = []

            def heard() -> bool:
                try:
                    while True:
                        records.append(listening.recv(65536).decode())
                except BlockingIOError:
                    return any("the last line" in record for record in records)

            await self.until(heard)
            await worker.kill()
        self.check("\n".join(records))
        for record in records:
            self.assertTrue(record.startswith(f"<{syslog.LOG_USER | syslog.LOG_WARNING}>"), record)
        self.assertIn("txmicro-worker-talking-Talking: warn talking the last line", records[-1])
