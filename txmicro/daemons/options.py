"""The command lines of the daemons, after ``twistd``."""

from __future__ import annotations

import re
from typing import Any, Final

from twisted.python.usage import Options, UsageError

from txmicro.config import FILE_HELP
from txmicro.errors import AddressError
from txmicro.protocol.address import parse_id

from .log_twistd import TwistdLog

_NOT_IN_NAMES: Final = re.compile(r"[^\w.]+")


class DaemonOptions(Options):
    """The options that all daemons have."""

    daemon = "txmicro"
    log: TwistdLog
    optParameters = [["config", "c", None, FILE_HELP]]

    @property
    def name(self) -> str:
        """The name of the process, and of its pid and log files."""
        return self.daemon

    def parseArgs(self, *words: str) -> None:
        """Raise UsageError if there are *words* that are not options."""
        if words:
            raise UsageError(f"{words[0]!r} is not expected: {self.daemon} takes only options")

    def postOptions(self) -> None:
        """Name the process's pid and log files, because twistd's default names are the same for all daemons.

        In the foreground there are no such files.
        """
        twistd: Any = {} if self.parent is None else self.parent
        if twistd.get("pidfile") == "twistd.pid":
            twistd["pidfile"] = "" if twistd["nodaemon"] else f"{self.name}.pid"
        if not (twistd.get("nodaemon", True) or twistd["logfile"]):
            twistd["logfile"] = f"{self.name}.log"
        self.log = TwistdLog(self.name, twistd)


class ManagerOptions(DaemonOptions):
    """``twistd txmicro-manager``."""

    daemon = "txmicro-manager"


class BrokerOptions(DaemonOptions):
    """``twistd txmicro-broker``."""

    daemon = "txmicro-broker"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--count: {text!r} is not valid; expected a whole number of at least 1")
    return int(text)


def _check_id(text: str) -> None:
    try:
        parse_id(text)
    except AddressError:
        raise UsageError(f"--id: {text!r} is not valid; expected TYPE:NAME, such as Invoices:1") from None


class WorkerOptions(DaemonOptions):
    """``twistd txmicro-worker``."""

    daemon = "txmicro-worker"
    optParameters: list[Any] = [
        ["class", None, None, "module:Class of the worker; overrides worker_types and installed packages."],
        ["count", "n", 1, "Number of workers of each type."],
        ["id", None, None, "Id of the worker, if there is only one. Default: a random one."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["type"] = []

    def opt_type(self, kind: str) -> None:
        """Type of the worker; can be given several times."""
        self["type"].append(kind)

    opt_t = opt_type

    @property
    def name(self) -> str:
        """The daemon and the types or the class that it runs, for names of files."""
        runs = self["type"] or [self["class"]]
        return "-".join([self.daemon, *(_NOT_IN_NAMES.sub("-", what) for what in runs if what)])

    def parseArgs(self, *words: str) -> None:
        """Raise UsageError if there are *words* that are not options."""
        if words:
            raise UsageError(f"{words[0]!r} is not expected; did you mean --type {words[0]}?")

    def postOptions(self) -> None:
        """Check the options together; raise UsageError if they are wrong."""
        self["count"] = _count(str(self["count"]))
        types = len(self["type"])
        if not types and self["class"] is None:
            raise UsageError("the worker is missing; give --type TYPE or --class module:Class")
        if types > 1 and self["class"] is not None:
            raise UsageError("--class: not valid with several types; give one --type, or set worker_types")
        if self["id"] is not None:
            _check_id(self["id"])
            if max(types, 1) * self["count"] > 1:
                raise UsageError(
                    f"--id: {self['id']!r} is not valid for several workers; give one --type and no --count"
                )
        super().postOptions()
