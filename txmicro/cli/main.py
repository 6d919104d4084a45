"""The operator's command, ``txmicro``: what its command line says, and how its answers look.

It leaves with status 0 when it has done what it was told, with 1 when it could not and with 2 when the command
line or the configuration is wrong; it says why on stderr. When nobody reads its answers any more, as behind ``| head``,
it leaves quietly with 141, as a program that the signal ``SIGPIPE`` ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Any, Final, TextIO

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.task import react
from twisted.python.failure import Failure
from twisted.python.usage import Options, UsageError

from txmicro._version import __version__
from txmicro.amqp.connection import Connection
from txmicro.bus.connections import Target, dial
from txmicro.bus.targets import targets
from txmicro.config import FILE_HELP, find, load
from txmicro.errors import AddressError, ConfigError, TxmicroError
from txmicro.operations.dead_letters import DeadLetter, DeadLetters, open_letters
from txmicro.operations.unused_queues import remove_unused
from txmicro.protocol.address import check_type
from txmicro.receiving.retry import STEPS, RetryPolicy
from txmicro.util.once import Once
from txmicro.util.text import printable

DONE: Final = 0
NOT_DONE: Final = 1
WRONG: Final = 2
UNREAD: Final = 141

PAGE: Final = 50
LONGEST_PAGE: Final = 10_000


class NoBrokerReachable(TxmicroError):
    """No broker of the configuration lets us in; the message says why each."""


# Command lines


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= LONGEST_PAGE):
        raise ValueError(f"--limit is a whole number from 1 to {LONGEST_PAGE}")
    return int(text)


def _steps(text: str) -> tuple[float, ...]:
    try:
        return RetryPolicy(steps=tuple(map(float, text.split(",")))).steps
    except ValueError as error:
        raise ValueError(f"--steps is {text!r}: expected seconds, as in 1,5,30,120") from error


class _Options(Options):
    def opt_version(self) -> None:
        """Show the version, and leave."""
        sys.stdout.write(f"txmicro {__version__}\n")
        raise SystemExit(DONE)


class TypeCommand(_Options):
    """A command about one worker type."""

    synopsis = "TYPE [options]"
    optParameters: list[Any] = [["config", "c", None, FILE_HELP]]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As its base class, but options may also stand behind arguments."""
        try:
            found, words = gnu_getopt(list(options or ()), self.shortOpt, self.longOpt)
        except GetoptError as error:
            raise UsageError(str(error)) from error
        given = [f"{name}{'=' * (f'{name[2:]}=' in self.longOpt)}{value}" for name, value in found]
        super().parseOptions([*given, "--", *words])

    def parseArgs(self, kind: str = "", *ids: str) -> None:
        """TYPE, and what else the command takes."""
        try:
            self["type"] = check_type(kind)
        except AddressError as error:
            raise UsageError(str(error)) from error
        self["ids"] = list(ids)
        self.check()

    def check(self) -> None:
        """Raise UsageError unless the rest is right."""
        if self["ids"]:
            raise UsageError("this command takes no IDs")

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Do it, and say on *out* what came of it. *time* is Unix time, in seconds."""
        raise NotImplementedError

    def interrupt(self) -> bool:
        """End in good order, soon; False: it is to be cancelled."""
        return False


class DeadCommand(TypeCommand):
    """A command about the dead letters of one type."""

    letters: DeadLetters | None = None

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Open the dead letters, and do it."""
        self.letters = await open_letters(client, self["type"], clock, time)
        try:
            await self.obey(self.letters, out)
        finally:
            await self.letters.close()

    def interrupt(self) -> bool:
        """End after what is under way, if letters are taken already."""
        if self.letters is None:
            return False
        self.letters.stopping = True
        return True

    async def obey(self, letters: DeadLetters, out: TextIO) -> None:
        """Do it, and say on *out* what came of it."""
        raise NotImplementedError


class ListDead(DeadCommand):
    """``txmicro dead list``."""

    optParameters = [
        ["limit", None, PAGE, f"How many to list, up to {LONGEST_PAGE}.", _limit],
    ]
    optFlags = [["json", None, "Write one JSON object, for programs."]]

    async def obey(self, letters: DeadLetters, out: TextIO) -> None:
        """List a page."""
        page = [letter.summary() for letter in await letters.page(self["limit"])]
        total = letters.total - letters.copies
        page.sort(key=lambda letter: (letter["failed"] or "", letter["id"]))  # the broker keeps no order
        if self["json"]:
            _write(json.dumps({"type": self["type"], "total": total, "letters": page}), out)
        else:
            _write_page(self["type"], page, total, out)


class ShowDead(DeadCommand):
    """``txmicro dead show``."""

    synopsis = "TYPE ID... [options]"

    def check(self) -> None:
        """It takes IDs."""
        if not self["ids"]:
            raise UsageError("which letter? give its ID, or its job's")

    async def obey(self, letters: DeadLetters, out: TextIO) -> None:
        """Show letters whole, each as a JSON object."""
        for letter in await letters.show(self["ids"]):
            _write(_in_full(letter), out)


class ChangeDead(DeadCommand):
    """A command that takes letters away."""

    synopsis = "TYPE (ID... | --all) [options]"
    optFlags = [["all", None, "All that are there when the command begins."]]

    def check(self) -> None:
        """It takes IDs or ``--all``."""
        if bool(self["ids"]) == bool(self["all"]):
            raise UsageError("which letters? give their IDs, or --all")

    @property
    def chosen(self) -> list[str] | None:
        """The IDs; None: all letters."""
        return None if self["all"] else self["ids"]


class RequeueDead(ChangeDead):
    """``txmicro dead requeue``."""

    async def obey(self, letters: DeadLetters, out: TextIO) -> None:
        """Have the jobs tried again."""
        try:
            await letters.requeue(self.chosen)
        finally:
            _write(f"{letters.done} requeued", out)
        if letters.expired:
            _write(f"{letters.expired} expired, left as they are", out)


class DiscardDead(ChangeDead):
    """``txmicro dead discard``."""

    async def obey(self, letters: DeadLetters, out: TextIO) -> None:
        """Throw them away."""
        try:
            await letters.discard(self.chosen)
        finally:
            _write(f"{letters.done} discarded", out)


class PruneQueues(TypeCommand):
    """``txmicro queues prune``."""

    optParameters = [
        [
            "steps",
            None,
            STEPS,
            "Seconds between the attempts, as in the type's RetryPolicy: 1,5,30,120.",
            _steps,
        ],
    ]

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Remove them."""
        removed = await remove_unused(client, self["type"], self["steps"], clock)
        for name in removed:
            _write(f"removed {name}", out)
        if not removed:
            _write(f"{self['type']} has no durable queues", out)


class Commands(_Options):
    """A choice of commands."""

    subCommands: list[Any] = []

    def postOptions(self) -> None:
        """There must be one."""
        if self.subCommand is None:
            raise UsageError(f"which command? {', '.join(name for name, *_ in self.subCommands)}")


class DeadOptions(Commands):
    """``txmicro dead``."""

    subCommands = [
        ["list", None, ListDead, "List the dead letters of a worker type."],
        ["show", None, ShowDead, "Show dead letters whole."],
        ["requeue", None, RequeueDead, "Have the jobs tried again, with all their attempts."],
        ["discard", None, DiscardDead, "Throw dead letters away."],
    ]


class QueuesOptions(Commands):
    """``txmicro queues``."""

    subCommands = [
        ["prune", None, PruneQueues, "Remove the durable queues of a worker type that is not used any more."]
    ]


class CommandLine(Commands):
    """``txmicro``."""

    synopsis = "Usage: txmicro COMMAND"
    subCommands = [
        ["dead", None, DeadOptions, "Look after durable jobs that were given up."],
        ["queues", None, QueuesOptions, "Look after the queues of durable jobs."],
    ]


def read(words: Sequence[str]) -> TypeCommand:
    """The command of a command line; raises UsageError."""
    options: Any = CommandLine()
    options.parseOptions(list(words))
    command: TypeCommand = options.subOptions.subOptions
    return command


# Answers


def _write(text: str, out: TextIO) -> None:
    print("\n".join(printable(line) for line in text.split("\n")), file=out)


def _write_page(kind: str, page: list[dict[str, Any]], total: int, out: TextIO) -> None:
    count = f"{total} dead letter{'' if total == 1 else 's'} of {kind}"
    if len(page) < total:
        count += f"; {len(page)} of them, --limit shows more"
    _write(count, out)
    if page:
        _write(_row("ID", "STORED", "FAILED", "ATTEMPT", "REASON", "WORKER", "LAST FAILURE"), out)
    for letter in page:
        failure = letter["failure"]
        text = f"{failure['type']}: {failure['message']}" if failure else "-"
        _write(
            _row(
                letter["id"],
                letter["stored"] or "-",
                letter["failed"] or "-",
                str(letter["attempt"]),
                letter["reason"],
                (failure["worker"] if failure else None) or "-",
                f"{text:.200}",
            ),
            out,
        )


def _row(*cells: str) -> str:
    widths = (24, 20, 20, 7, 14, 24, 0)
    return "  ".join(f"{' '.join(cell.split()):<{width}}" for cell, width in zip(cells, widths, strict=True))


def _in_full(letter: DeadLetter) -> str:
    contents = letter.contents()
    try:
        return json.dumps(contents, indent=2, ensure_ascii=False, default=_readable)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # keys that are no text, or a depth, that JSON cannot have
        return json.dumps({**contents, "body": repr(contents.get("body"))}, indent=2, default=_readable)


def _readable(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


# Doing it


class Command:
    """One run of the command.

    :param out: for its answers. :param err: for why there is none.
    :param time: Unix time, in seconds.
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
        """Do what the command line *words* says. Fires with the status to leave with; does not fail."""
        try:
            options = read(words)
            config = load(options["config"] or find(self._environ), self._environ)
            where = targets(self._reactor, config)
        except UsageError as error:
            return succeed(self._complain([f"{error}; txmicro --help says more"], WRONG))
        except ConfigError as error:
            return succeed(self._complain(error.problems, WRONG))
        return self.obey(options, where, config.heartbeat)

    def obey(self, options: TypeCommand, where: Sequence[Target], heartbeat: int) -> Deferred[int]:
        """Do what *options* say at the first broker that lets us in. Fires with the status; does not fail."""
        self._options = options
        self._running = Deferred.fromCoroutine(self._obey(options, where, heartbeat))
        ended = self._running.addCallbacks(lambda _: DONE, self._not_done)
        return ended.addBoth(self._end)

    def interrupt(self) -> Deferred[None] | None:
        """Leave what is not done. Fires when it has ended in good order; None: there is nothing to end."""
        if self._running is None or self._options is None:
            return None
        if not self._options.interrupt():
            self._running.cancel()
        return self._ended.wait()

    async def _obey(self, options: TypeCommand, where: Sequence[Target], heartbeat: int) -> None:
        client = await self._connect(where, heartbeat)
        try:
            await options.work(client, self._reactor, self._time, self._out)
        finally:
            await client.shutdown()

    async def _connect(self, where: Sequence[Target], heartbeat: int) -> Connection:
        refusals = []
        for target in where:
            try:
                return await dial(target, self._reactor, heartbeat, "txmicro")
            except CancelledError:
                raise
            except Exception as error:  # an endpoint may fail with anything
                refusals.append(f"no connection to {target.broker}: {error or type(error).__name__}")
        raise NoBrokerReachable("\n".join(refusals))

    def _not_done(self, failure: Failure) -> int:
        if failure.trap(TxmicroError, CancelledError) is CancelledError:
            return self._complain(["interrupted"], NOT_DONE)
        return self._complain(failure.getErrorMessage().split("\n"), NOT_DONE)

    def _complain(self, problems: Sequence[str], status: int) -> int:
        for problem in problems:
            _write(f"txmicro: {problem}", self._err)
        return status

    def _end(self, outcome: Any) -> Any:
        self._ended.happen(None)
        return outcome


def launch(reactor: Any, words: Sequence[str]) -> Deferred[Any]:
    """Run the command *words*; for :func:`~twisted.internet.task.react`, which leaves with its status."""
    reactor.seconds = (
        time.monotonic
    )  # by default it is time.time, and a clock that is set back stops every timer
    command = Command(reactor, os.environ, sys.stdout, sys.stderr)
    reactor.addSystemEventTrigger("before", "shutdown", command.interrupt)
    return maybeDeferred(command.run, words).addErrback(_unread).addCallback(sys.exit)


def _unread(failure: Failure) -> int:
    failure.trap(BrokenPipeError)
    return UNREAD


def main() -> None:
    """The console script."""
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        react(launch, [sys.argv[1:]])
    finally:
        if False in [_flush(stream) for stream in streams]:
            sys.exit(UNREAD)


def _flush(stream: Any) -> bool:
    """Write what *stream* still has; False: nobody reads it. Python would complain of that when it ends."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True
