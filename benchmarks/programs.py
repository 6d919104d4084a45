"""Starts the processes of a benchmark, sends them requests, measures them, and kills them at the end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

PATIENCE = 30.0
"""Seconds within which a program must print an expected line."""

ROOT = Path(__file__).parent.parent

_TIED = ("setpriv", "--pdeathsig", "KILL")  # it ends with its parent process; setpriv is part of util-linux

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GROUP, _USER, _SYSTEM, _RESIDENT = 2, 11, 12, 21  # fields of /proc/<pid>/stat after the name, see proc(5)


class ProgramError(Exception):
    """A program did not do as expected. The message says what is wrong, with the last lines that it wrote."""


class Program:
    """A program and all processes that it starts: one process group.

    :param command: the command line.
    :param log: the file for its stderr, which is quoted in errors.
    :param environ: added to the environment, without txmicro's variables.
    """

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._log = log
        self._lines: list[str] = []
        self._rest = b""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process: Any = subprocess.Popen(
                [*_TIED, *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=_environment() | dict(environ or {}),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Return the id of the process, and of its group."""
        return int(self._process.pid)

    def says(self, word: str, patience: float = PATIENCE) -> str:
        """Wait until the program prints a line that contains *word*; return that line."""
        until = time.monotonic() + patience
        while True:
            line = self._line(until, word)
            if word in line:
                return line

    def ask(self, line: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Send a line, and return the answer, a line of JSON."""
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.says("{", patience))
        return answer

    def _line(self, until: float, what: str) -> str:
        while not self._lines:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise self._error(f"did not print {what!r}")
            self._read(what)
        return self._lines.pop(0)

    def _read(self, what: str) -> None:
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            raise self._error(f"exited without printing {what!r}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += [line.decode(errors="replace") for line in lines]

    def _error(self, what: str) -> ProgramError:
        written = self._log.read_text(errors="replace").strip().splitlines()
        return ProgramError(f"{self._command[0]} {what}; {' / '.join(written[-2:])[-400:]}")

    def kill(self) -> None:
        """Kill (SIGKILL) the program and all processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    # Measurements

    def cpu(self) -> float:
        """Return the seconds of processor time that the group has used, without ended processes that have
        other parents.
        """
        return cpu(self.pid)

    def rss(self) -> int:
        """Return the bytes of memory that the group has resident."""
        return sum(int(stat[_RESIDENT]) for stat in _stats(self.pid)) * _PAGE


def cpu(group: int) -> float:
    """Return the seconds of processor time that a process group has used."""
    return sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in _stats(group)) / _TICK


def _stats(group: int) -> list[list[str]]:
    return [stat for stat in map(_stat, Path("/proc").glob("[0-9]*/stat")) if _in_group(stat, group)]


def _in_group(stat: list[str], group: int) -> bool:
    return bool(stat) and int(stat[_GROUP]) == group


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # the process has ended
        return []


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}


def twistd(line: str) -> list[str]:
    """Return the command ``twistd -n`` with the rest of its command line."""
    return [str(Path(sys.executable).with_name("twistd")), "-n", *line.split()]
