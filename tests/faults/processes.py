"""Real processes of a row: workers and managers under twistd, which can be killed, stopped and counted on."""

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
    """A process did not do what it should."""


class Child(ProcessProtocol):
    """A twistd process. It ends with us, however we end.

    :ivar id: the worker's id. :ivar log: the file that has its output. :ivar pid: its process id.
    :ivar complaints: how often it logged an exception.
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
        """Start it."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        command = ["setpriv", "--pdeathsig", "KILL", str(TWISTD), "-n", *arguments]
        environ |= settings | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        reactor.spawnProcess(self, command[0], command, env=environ, path=str(self.log.parent))
        self.pid = self.transport.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.happened

    def ready(self) -> Deferred[Child]:
        """Fires when it says that it is ready; fails with :class:`ChildError`."""
        return self._ready.wait().addTimeout(START_TIMEOUT, reactor, self._late)

    def when_ended(self) -> Deferred[int]:
        """Fires with its status, whenever it ends: the exit code, or minus the signal."""
        return self._ended.wait()

    def ended(self) -> Deferred[int]:
        """The same, soon; fails with :class:`ChildError`."""
        return self.when_ended().addTimeout(END_TIMEOUT, reactor, self._late)

    def _late(self, _: Any, seconds: float) -> NoReturn:
        raise ChildError(f"{self.id} was neither ready nor gone within {seconds:g} s")

    def signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> Deferred[int]:
        """SIGKILL. Fires when it is gone."""
        self.signal(signal.SIGKILL)
        return self.ended()

    def stop(self) -> Deferred[int]:
        """SIGTERM: it shall stop in good order. Fires when it has."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def memory(self) -> int:
        """Its resident memory, in bytes."""
        return resident(self.pid)

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # What the reactor tells (ProcessProtocol)

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
    """The resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
