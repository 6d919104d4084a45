"""Programs as processes, whose output and end a test can wait for."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

reactor: Any = _reactor

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 30.0
"""Seconds after which a wait for a program fails. On an idle machine it takes about one."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests that run in the background of a shell, and the programs that they start, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Program(ProcessProtocol):
    """A process.

    :ivar output: its output so far, to stdout and stderr.
    :ivar errors: its output to stderr.
    """

    def __init__(self) -> None:
        self.output = self.errors = ""
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._ended: list[Deferred[int]] = []
        self._status: int | None = None

    def says(self, pattern: str) -> Deferred[re.Match[str]]:
        """Wait until its output matches. Fires with the match; fails if the program ends before, or is too slow."""
        said: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((re.compile(pattern), said))
        self._look()
        return said.addTimeout(PATIENCE, reactor, lambda *_: self._fail(f"does not say {pattern!r}"))

    def ended(self, patience: float = PATIENCE) -> Deferred[int]:
        """Wait for its end. Fires with the exit status, or with minus the signal that ended it."""
        ended: Deferred[int] = Deferred()
        self._ended.append(ended)
        self._tell_end()
        return ended.addTimeout(patience, reactor, lambda *_: self._fail("does not end"))

    def signal(self, number: int) -> Deferred[int]:
        """Send a signal. Fires with the exit status when the program has ended."""
        if self._status is None:
            os.kill(self.transport.pid, number)  # type: ignore[union-attr]
        return self.ended()

    def kill(self) -> Deferred[int]:
        """Kill the program (SIGKILL). Fires when it has ended."""
        return self.signal(signal.SIGKILL)

    def _fail(self, what: str) -> Any:
        raise AssertionError(f"the program {what}; it said:\n{self.output}")

    def _look(self) -> None:
        for waiting in list(self._waiting):
            pattern, said = waiting
            found = pattern.search(self.output)
            if found is not None or self._status is not None:
                self._waiting.remove(waiting)
                if found is not None:
                    said.callback(found)
                else:
                    said.errback(AssertionError(f"ended without saying {pattern.pattern!r}:\n{self.output}"))

    def _tell_end(self) -> None:
        if self._status is not None:
            ended, self._ended = self._ended, []
            for waiting in ended:
                waiting.callback(self._status)

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode(errors="replace")
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode(errors="replace")
        self.outReceived(data)

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self._status = value.exitCode if value.signal is None else -value.signal
        self._look()
        self._tell_end()


class ProgramTestCase(TestCase):
    """Runs programs in a directory with a copy of the project's ``etc``, and kills them at the end.

    :ivar settings: the ``TXMICRO_`` variables of their environment.
    """

    timeout = 2 * PATIENCE
    folders: tuple[str, ...] = ("etc",)
    bin = BIN

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        for name in self.folders:
            (self.directory / name).symlink_to(ROOT / name)
        self.settings: dict[str, str] = {}
        self._programs: list[Program] = []
        self.addCleanup(lambda: gatherResults([program.kill() for program in self._programs]))

    def run_program(self, *command: str, **settings: str) -> Program:
        """Start a program: the first word is its name in the folder ``bin``."""
        program = Program()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        arguments = [str(self.bin / command[0]), *command[1:]]
        reactor.spawnProcess(
            program,
            arguments[0],
            arguments,
            env=environ | self.settings | settings | {"PYTHONUNBUFFERED": "1"},
            path=str(self.directory),
        )
        self._programs.append(program)
        return program

    def twistd(self, line: str, **settings: str) -> Program:
        """Start ``twistd -n`` with *line* as the rest of its command line."""
        return self.run_program("twistd", "-n", *line.split(), **settings)
