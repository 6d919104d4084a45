"""The daemons that ``twistd`` runs: what their command lines say, and what they plan to run.

A daemon leaves with status 1 when something of it cannot start, with 2 when its configuration is wrong; it says
why on stderr. Otherwise with twistd's own: 0, or by the signal that stopped it.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from twisted.logger import Logger
from twisted.python.usage import Options, UsageError

from txmicro.config import FILE_HELP, Config, describe_origin, find, load
from txmicro.errors import ConfigError
from txmicro.examples.movies import TYPES as MOVIE_TYPES
from txmicro.manager import SystemManager
from txmicro.worker import Worker

from .catalog import Catalog
from .catalog import load as load_class
from .log_twistd import TwistdLog
from .process import Member, Process, print_error
from .signals import SecondSignal
from .stop_timeout import LONGER, StopTimeout

BAD_CONFIG: Final = 2
"""The status of a process whose configuration is wrong."""

_NOT_IN_NAMES: Final = re.compile(r"[^\w.]+")

_log: Final = Logger()


# Command lines


class DaemonOptions(Options):
    """What the command lines of all daemons have."""

    daemon = "txmicro"
    log: TwistdLog
    optParameters = [["config", "c", None, FILE_HELP]]

    @property
    def name(self) -> str:
        """What this process's files are called after."""
        return self.daemon

    def postOptions(self) -> None:
        """Give the process files of its own: by default, all twistds of a directory share a pid file and a log.

        In the foreground it has none: whoever started it has its pid and its output.
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
        raise ValueError("--count is a whole number of at least 1")
    return int(text)


class WorkerOptions(DaemonOptions):
    """``twistd txmicro-worker``."""

    daemon = "txmicro-worker"
    optParameters: list[Any] = [
        ["class", None, None, "module:Class of the worker, instead of what worker_types or a package says."],
        ["count", "n", 1, "How many workers of each type.", _count],
        ["id", None, None, "The id of the worker, when it is one. Without: a fresh one."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["type"] = []

    def opt_type(self, kind: str) -> None:
        """Type of the worker; may be given several times."""
        self["type"].append(kind)

    opt_t = opt_type

    @property
    def name(self) -> str:
        """The daemon and what it runs, as a part of a file's name."""
        runs = self["type"] or [self["class"]]
        return "-".join([self.daemon, *(_NOT_IN_NAMES.sub("-", what) for what in runs if what)])

    def postOptions(self) -> None:
        """Refuse what does not go together; raises UsageError."""
        types = len(self["type"])
        if not types and self["class"] is None:
            raise UsageError("which worker? --type TYPE, or --class module:Class")
        if types > 1 and self["class"] is not None:
            raise UsageError("--class is the class of one --type")
        if self["id"] is not None and max(types, 1) * self["count"] > 1:
            raise UsageError("--id is the id of one worker")
        super().postOptions()


# What to run

GARBAGE: Final = 10_000
"""How many more objects there are before cyclic garbage is looked for; Python's own number is 700."""

BROKER: Final = "broker"
MANAGER: Final = "manager"


class Plan(NamedTuple):
    """What is to run in a process.

    :ivar members: what is on its bus. :ivar broker: whether it runs the broker too, and then uses that one.
    """

    members: Sequence[Member]
    broker: bool = False


def plan_manager(_options: Options, _config: Config) -> Plan:
    """``twistd txmicro-manager``: a SystemManager."""
    return Plan([SystemManager()])


def plan_broker(_options: Options, _config: Config) -> Plan:
    """``twistd txmicro-broker``: the embedded broker."""
    return Plan([], broker=True)


def plan_workers(options: Options, config: Config) -> Plan:
    """``twistd txmicro-worker``: the workers of the command line; raises :class:`ConfigError`."""
    if options["class"] is None:
        classes = Catalog(config.worker_types).find_all(options["type"])
    else:
        found = load_class(options["class"])
        classes = dict.fromkeys(options["type"] or [found.type], found)
    return Plan(
        [
            make_worker(found, kind, options["id"])
            for kind, found in classes.items()
            for _ in range(options["count"])
        ]
    )


def plan_services(_options: Options, config: Config) -> Plan:
    """``twistd txmicro``: what the key ``services`` names, or all there is; raises :class:`ConfigError`."""
    names = config.services or (BROKER, MANAGER, *(config.worker_types or MOVIE_TYPES))
    kinds = [name for name in names if name not in (BROKER, MANAGER)]
    classes = Catalog(config.worker_types).find_all(kinds)
    managers = [SystemManager() for name in names if name == MANAGER]
    workers = [make_worker(classes[kind], kind) for kind in kinds]
    return Plan([*managers, *workers], broker=BROKER in names)


def make_worker(found: type[Worker], kind: str, id: str | None = None) -> Worker:
    """A worker of type *kind*; raises :class:`ConfigError` if the class does not make one."""
    try:
        return found(kind, id=id)
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{found.__module__}:{found.__qualname__} makes no worker: {error}"]) from error


def collect_rarely(reactor: Any) -> None:
    """Look for cyclic garbage less often than Python does, and never in what is there when *reactor* starts.

    Nearly all that jobs leave behind needs no looking for, but with hundreds under way each look goes through all that
    they hold, and all of them wait.
    """
    gc.set_threshold(GARBAGE)
    reactor.callWhenRunning(gc.freeze)


class Daemon:
    """What the plugin file names, for :class:`twisted.application.service.ServiceMaker`.

    :param plan: says what to run; may raise :class:`ConfigError`.
    """

    def __init__(self, options: type[DaemonOptions], plan: Callable[[Options, Config], Plan]) -> None:
        self.Options = options
        self._plan = plan

    def makeService(self, options: DaemonOptions) -> Process:
        """What twistd runs; raises SystemExit when the configuration is wrong."""
        from twisted.internet import reactor

        if os.getcwd() not in sys.path:  # a console script's path begins with the script's folder
            sys.path.insert(0, os.getcwd())
        try:
            process = self.build(options, reactor, os.environ)
        except ConfigError as error:
            for problem in error.problems:
                print_error(f"{options.name}: {problem}")
            if not options["config"] and (found := find(os.environ)):
                print_error(f"{options.name}: the configuration is that of {os.path.abspath(found)}")
            raise SystemExit(BAD_CONFIG) from error
        collect_rarely(reactor)
        SecondSignal(reactor)
        StopTimeout(reactor, process.grace + LONGER)
        return process

    def build(self, options: DaemonOptions, reactor: Any, environ: Mapping[str, str]) -> Process:
        """Build what *options* say, to run on *reactor*; raises :class:`ConfigError`."""
        path = options["config"] or find(environ)
        config = load(path, environ)
        _log.info(
            "{name}: the configuration is {origin}", name=options.name, origin=describe_origin(path, environ)
        )
        members, broker = self._plan(options, config)
        # By default it is time.time, and a clock that is set back stops every timer.
        reactor.seconds = time.monotonic
        observer = options.log.begin(config, environ, reactor)
        return Process(options.name, reactor, config, members, broker=broker, observer=observer)


process = Daemon(DaemonOptions, plan_services)
manager = Daemon(ManagerOptions, plan_manager)
worker = Daemon(WorkerOptions, plan_workers)
broker = Daemon(BrokerOptions, plan_broker)
