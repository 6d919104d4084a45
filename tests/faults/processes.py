"""The child processes of a row: workers and managers under twistd, which can be killed, stopped and measured."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.support.rabbitmq import reactor
from txmicro.util.once import Once

ROOT = Path(__file__).parent.parent.parent
TWISTD = Path(sys.executable).with_name("twistd")
READY = b" is ready"
BAD = (b"Traceback", b"Unhandled")
START_TIMEOUT = 30.0
END_TIMEOUT = 60.0


class ChildError(Exception):
    """A child process did not do as expected."""


class Child(ProcessProtocol):
    """A twistd process. It is killed when the parent process ends in any way.

    :ivar id: the worker's id.
    :ivar log: the file for its output.
    :ivar pid: its process id.
    :ivar complaints: how many exceptions it has logged.
    """

    transport: Any

    def __init__(self, id: str, log: Path) -> None:
        self.id = id
        self.complaints = 0
        self.pid = 0
        self.log = log
        self._output = log.open("ab", buffering=0)
        self._ready: Once[Child] = Once()
        self._ended: Once[int] = Once()

    def spawn(self, arguments: list[str], settings: dict[str, str]) -> None:
        """Start the process."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        command = ["setpriv", "--pdeathsig", "KILL", str(TWISTD), "-n", *arguments]
        environ |= settings | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        reactor.spawnProcess(self, command[0], command, env=environ, path=str(self.log.parent))
        self.pid = self.transport.pid

    @property
    def alive(self) -> bool:
        """Return whether the process has not ended."""
        return not self._ended.happened

    def ready(self) -> Deferred[Child]:
        """Fire when the process has logged that it is ready; fail with :class:`ChildError`."""
        return self._ready.wait().addTimeout(START_TIMEOUT, reactor, self._late)

    def when_ended(self) -> Deferred[int]:
        """Fire with the exit code, or minus the number of the signal, when the process has ended."""
        return self._ended.wait()

    def ended(self) -> Deferred[int]:
        """Fire like :meth:`when_ended`; fail with :class:`ChildError` if the process does not end soon."""
        return self.when_ended().addTimeout(END_TIMEOUT, reactor, self._late)

    def _late(self, _: Any, seconds: float) -> NoReturn:
        raise ChildError(f"{self.id} neither became ready nor ended within {seconds:g} s")

    def signal(self, number: int) -> None:
        """Send a signal. Do nothing if the process has ended."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> Deferred[int]:
        """Send SIGKILL. Fire when the process has ended."""
        self.signal(signal.SIGKILL)
        return self.ended()

    def stop(self) -> Deferred[int]:
        """Send SIGTERM, which stops the process in good order. Fire when it has ended."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return resident(self.pid)

    def descriptors(self) -> int:
        """Return the number of open files and sockets."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # Callbacks of the reactor (ProcessProtocol)

    def outReceived(self, data: bytes) -> None:
        self._output.write(data)
        self.complaints += sum(data.count(word) for word in BAD)
        if READY in data:
            self._ready.happen(self)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self._output.close()
        self._ended.happen(value.exitCode if value.signal is None else -value.signal)
        if not self._ready.happened:
            self._ready.happen(Failure(ChildError(f"{self.id} ended before it was ready: {self.log}")))


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
