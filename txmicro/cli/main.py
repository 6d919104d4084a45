"""Runs the ``txmicro`` command in a reactor, and gives its exit status.

The status is 0 after success, 1 if the command failed, and 2 if the command line or the configuration is wrong; stderr
says why. It is 141 when nobody reads the output any more, as behind ``| head``: that is the status of a program that
the signal ``SIGPIPE`` ends. Ctrl-C and SIGTERM interrupt the command, which then ends what it has begun.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TextIO

from click import ClickException
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.task import react
from twisted.python.failure import Failure

from txmicro.bus.targets import Target, targets
from txmicro.config import Config
from txmicro.errors import ConfigError, TxmicroError
from txmicro.util.once import Once

from .command_line import complete, read
from .completion import VARIABLE
from .output import write
from .task import Context, Task

DONE: Final = 0
NOT_DONE: Final = 1
WRONG: Final = 2
UNREAD: Final = 141


class Command:
    """One run of the ``txmicro`` command.

    :param out: the stream for the answer. :param err: the stream for errors.
    :param time: gives Unix time, in seconds.
    :param targets: returns the brokers of a configuration, or raises :class:`~txmicro.errors.ConfigError`.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        out: TextIO,
        err: TextIO,
        time: Callable[[], float] = time.time,
        targets: Callable[[Any, Config], Sequence[Target]] = targets,
    ) -> None:
        self._context = Context(
            reactor=reactor, environ=environ, out=out, err=err, time=time, targets=targets
        )
        self._task: Task | None = None
        self._running: Deferred[None] | None = None
        self._ended: Once[None] = Once()

    def run(self, words: Sequence[str]) -> Deferred[int]:
        """Do the command of the command line *words*.

        Fires with the exit status. Fails only with errors that are not a :class:`TxmicroError`. To stop it, call
        :meth:`interrupt`.
        """
        try:
            self._task = read(words)
        except ClickException as error:
            problem = error.format_message().rstrip(".")
            return succeed(self._report([f"{problem}; txmicro --help shows the usage"], WRONG))
        self._running = Deferred.fromCoroutine(self._task.run(self._context))
        ended = self._running.addCallbacks(lambda _: DONE, self._not_done)
        return ended.addBoth(self._end)

    def interrupt(self) -> Deferred[None] | None:
        """Interrupt the command. Fires when it has ended; None: it is not running. Canceling stops only the wait."""
        if self._running is None or self._task is None:
            return None
        if not self._task.interrupt():
            self._running.cancel()
        return self._ended.wait()

    def _not_done(self, failure: Failure) -> int:
        error = failure.trap(ConfigError, TxmicroError, CancelledError)
        if error is CancelledError:
            return self._report(["interrupted"], NOT_DONE)
        status = WRONG if error is ConfigError else NOT_DONE
        return self._report(failure.getErrorMessage().split("\n"), status)

    def _report(self, problems: Sequence[str], status: int) -> int:
        for problem in problems:
            write(f"txmicro: {problem}", self._context.err)
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
    if VARIABLE in os.environ:
        sys.exit(complete(os.environ[VARIABLE]))
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
