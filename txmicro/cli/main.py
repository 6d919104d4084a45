"""The ``txmicro`` command: its command line, its run and its exit status.

The status is 0 after success, 1 if the command failed, and 2 if the command line or the configuration is wrong; stderr
says why. It is 141 when nobody reads the output any more, as behind ``| head``: that is the status of a program that
the signal ``SIGPIPE`` ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TextIO

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.task import react
from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from txmicro.bus.dialing import Target
from txmicro.bus.targets import targets
from txmicro.config import find, load
from txmicro.errors import ConfigError, TxmicroError
from txmicro.util.once import Once

from .connecting import connect
from .dead import DeadOptions
from .options import CommandGroup, TypeCommand, write
from .queues import QueuesOptions

DONE: Final = 0
NOT_DONE: Final = 1
WRONG: Final = 2
UNREAD: Final = 141


class CommandLine(CommandGroup):
    """``txmicro``."""

    usage = "Usage: txmicro"
    subCommands = [
        ["dead", None, DeadOptions, "List, show, requeue or discard dead letters: durable jobs that failed."],
        ["queues", None, QueuesOptions, "Remove queues of durable jobs that are no longer used."],
    ]


def read(words: Sequence[str]) -> TypeCommand:
    """Return the command of the command line *words*; raise UsageError if it is wrong."""
    options: Any = CommandLine()
    options.parseOptions(list(words))
    command: TypeCommand = options.subOptions.subOptions
    return command


class Command:
    """One run of the ``txmicro`` command.

    :param out: the stream for the answer. :param err: the stream for errors.
    :param time: gives Unix time, in seconds.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        out: TextIO,
        err: TextIO,
        time: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._environ = environ
        self._out = out
        self._err = err
        self._time = time
        self._options: TypeCommand | None = None
        self._running: Deferred[None] | None = None
        self._ended: Once[None] = Once()

    def run(self, words: Sequence[str]) -> Deferred[int]:
        """Do the command of the command line *words*.

        Fires with the exit status. Fails only with errors that are not a :class:`TxmicroError`. To stop it, call
        :meth:`interrupt`.
        """
        try:
            options = read(words)
            config = load(options["config"] or find(self._environ), self._environ)
            brokers = targets(self._reactor, config)
        except UsageError as error:
            return succeed(self._report([f"{error}; txmicro --help shows the usage"], WRONG))
        except ConfigError as error:
            return succeed(self._report(error.problems, WRONG))
        return self.run_on(options, brokers, config.heartbeat)

    def run_on(self, options: TypeCommand, brokers: Sequence[Target], heartbeat: int) -> Deferred[int]:
        """Do the command *options* at the first of *brokers* that accepts the connection.

        Fires and fails as :meth:`run` does.

        :param heartbeat: the AMQP heartbeat interval, in seconds.
        """
        self._options = options
        self._running = Deferred.fromCoroutine(self._run(options, brokers, heartbeat))
        ended = self._running.addCallbacks(lambda _: DONE, self._not_done)
        return ended.addBoth(self._end)

    def interrupt(self) -> Deferred[None] | None:
        """Interrupt the command. Fires when it has ended; None: it is not running. Canceling stops only the wait."""
        if self._running is None or self._options is None:
            return None
        if not self._options.interrupt():
            self._running.cancel()
        return self._ended.wait()

    async def _run(self, options: TypeCommand, brokers: Sequence[Target], heartbeat: int) -> None:
        client = await connect(brokers, self._reactor, heartbeat)
        try:
            await options.work(client, self._reactor, self._time, self._out)
        finally:
            await client.shutdown()

    def _not_done(self, failure: Failure) -> int:
        if failure.trap(TxmicroError, CancelledError) is CancelledError:
            return self._report(["interrupted"], NOT_DONE)
        return self._report(failure.getErrorMessage().split("\n"), NOT_DONE)

    def _report(self, problems: Sequence[str], status: int) -> int:
        for problem in problems:
            write(f"txmicro: {problem}", self._err)
        return status

    def _end(self, outcome: Any) -> Any:
        self._ended.happen(None)
        return outcome


def launch(reactor: Any, words: Sequence[str]) -> Deferred[Any]:
    """Run the command *words*, and fail with SystemExit; for :func:`~twisted.internet.task.react`."""
    # The default is time.time, and setting the system's clock back would stop every timer.
    reactor.seconds = time.monotonic
    command = Command(reactor, os.environ, sys.stdout, sys.stderr)
    reactor.addSystemEventTrigger("before", "shutdown", command.interrupt)
    return maybeDeferred(command.run, words).addErrback(_unread).addCallback(sys.exit)


def _unread(failure: Failure) -> int:
    failure.trap(BrokenPipeError)
    return UNREAD


def main() -> None:
    """Run the command of ``sys.argv``: the console script."""
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        react(launch, [sys.argv[1:]])
    finally:
        if False in [_flush(stream) for stream in streams]:
            sys.exit(UNREAD)


def _flush(stream: Any) -> bool:
    """Write what *stream* has buffered. Return False if nobody reads it, which Python then does not report at exit."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True
