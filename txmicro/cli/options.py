"""What the command lines of all commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Any, TextIO

from twisted.python.usage import Options, UsageError

from txmicro._version import __version__
from txmicro.amqp.connection import Connection
from txmicro.config import FILE_HELP
from txmicro.errors import AddressError
from txmicro.protocol.address import check_type
from txmicro.util.text import printable


class VersionOption(Options):
    """Options with a ``--version`` that shows txmicro's version, not Twisted's."""

    def opt_version(self) -> None:
        """Show the version, and exit."""
        sys.stdout.write(f"txmicro {__version__}\n")
        raise SystemExit(0)


class CommandGroup(VersionOption):
    """A command line that has to name one of :attr:`subCommands`."""

    subCommands: list[Any] = []
    usage = ""

    @property
    def synopsis(self) -> str:
        """The usage, for ``--help``."""
        return self.usage if self.subCommand else f"{self.usage} COMMAND".lstrip()

    def getSynopsis(self) -> str:
        """Return the usage of this command line, after its parents'."""
        return " ".join(super().getSynopsis().split())

    def postOptions(self) -> None:
        """Raise UsageError if no command is named."""
        if self.subCommand is None:
            names = ", ".join(name for name, *_ in self.subCommands)
            raise UsageError(f"the command is missing; expected one of {names}")


class TypeCommand(VersionOption):
    """A command that works on one worker type."""

    synopsis = "TYPE [options]"
    optParameters: list[Any] = [["config", "c", None, FILE_HELP]]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse *options*, which may also follow the arguments; raise UsageError if they are wrong."""
        try:
            found, words = gnu_getopt(list(options or ()), self.shortOpt, self.longOpt)
        except GetoptError as error:
            raise UsageError(str(error)) from error
        given = [f"{name}{'=' * (f'{name[2:]}=' in self.longOpt)}{value}" for name, value in found]
        super().parseOptions([*given, "--", *words])

    def parseArgs(self, kind: str = "", *ids: str) -> None:
        """Take TYPE and the command's other arguments; raise UsageError if they are wrong."""
        if not kind:
            raise UsageError("TYPE is missing; give a worker type, such as WB")
        try:
            self["type"] = check_type(kind)
        except AddressError as error:
            raise UsageError(f"TYPE: {error}") from error
        self["ids"] = list(ids)
        self.check()

    def check(self) -> None:
        """Raise UsageError if the arguments after TYPE are wrong."""
        if self["ids"]:
            raise UsageError(f"{' '.join(self['ids'])}: unexpected; this command takes no IDs")

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Do the command over the connection *client*, and write its answer to *out*.

        :param clock: a reactor, or a ``Clock``. :param time: gives Unix time, in seconds.
        :raise TxmicroError: the command failed.
        """
        raise NotImplementedError

    def interrupt(self) -> bool:
        """End soon and in order, and return True; or return False if the command has to be canceled."""
        return False


def write(text: str, out: TextIO) -> None:
    """Write *text* and a newline to *out*, with escapes for what could control a terminal."""
    print("\n".join(printable(line) for line in text.split("\n")), file=out)
