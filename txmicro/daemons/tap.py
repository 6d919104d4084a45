"""The daemons that ``twistd`` runs: their command lines, and what each of them runs.

A daemon's exit status is 1 if it cannot start, and 2 if its configuration is wrong; stderr says why. Otherwise it is
twistd's own: 0, or that of the signal that stopped it.
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
from .exit import print_error
from .log_twistd import TwistdLog
from .process import Member, Process
from .signals import SecondSignal
from .stop_timeout import LONGER, StopTimeout

BAD_CONFIG: Final = 2
"""The exit status of a process whose configuration is wrong."""

_NOT_IN_NAMES: Final = re.compile(r"[^\w.]+")

_log: Final = Logger()


# Command lines


class DaemonOptions(Options):
    """The options that all daemons have."""

    daemon = "txmicro"
    log: TwistdLog
    optParameters = [["config", "c", None, FILE_HELP]]

    @property
    def name(self) -> str:
        """The name of the process, and of its pid and log files."""
        return self.daemon

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

    def postOptions(self) -> None:
        """Check the options together; raise UsageError if they are wrong."""
        self["count"] = _count(str(self["count"]))
        types = len(self["type"])
        if not types and self["class"] is None:
            raise UsageError("the worker is missing; give --type TYPE or --class module:Class")
        if types > 1 and self["class"] is not None:
            raise UsageError("--class: not valid with several types; give one --type, or set worker_types")
        if self["id"] is not None and max(types, 1) * self["count"] > 1:
            raise UsageError(
                f"--id: {self['id']!r} is not valid for several workers; give one --type and no --count"
            )
        super().postOptions()


# What to run

GARBAGE: Final = 10_000
"""How many new objects there are until Python collects cyclic garbage; its default is 700."""

BROKER: Final = "broker"
MANAGER: Final = "manager"


class Plan(NamedTuple):
    """What a process runs.

    :ivar members: the SystemManagers and workers on its bus.
    :ivar broker: whether it runs the embedded broker, which its bus then uses.
    """

    members: Sequence[Member]
    broker: bool = False


def plan_manager(_options: Options, _config: Config) -> Plan:
    """Return what ``twistd txmicro-manager`` runs: a SystemManager."""
    return Plan([SystemManager()])


def plan_broker(_options: Options, _config: Config) -> Plan:
    """Return what ``twistd txmicro-broker`` runs: the embedded broker."""
    return Plan([], broker=True)


def plan_workers(options: Options, config: Config) -> Plan:
    """Return what ``twistd txmicro-worker`` runs: the workers of the command line.

    :raise ConfigError: a type is unknown, or a class cannot be used.
    """
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
    """Return what ``twistd txmicro`` runs: what the key ``services`` names, or everything.

    :raise ConfigError: a type is unknown, or a class cannot be used.
    """
    names = config.services or (BROKER, MANAGER, *(config.worker_types or MOVIE_TYPES))
    kinds = [name for name in names if name not in (BROKER, MANAGER)]
    classes = Catalog(config.worker_types).find_all(kinds)
    managers = [SystemManager() for name in names if name == MANAGER]
    workers = [make_worker(classes[kind], kind) for kind in kinds]
    return Plan([*managers, *workers], broker=BROKER in names)


def make_worker(found: type[Worker], kind: str, id: str | None = None) -> Worker:
    """Return a worker of type *kind*; raise :class:`ConfigError` if the class *found* cannot be instantiated."""
    try:
        return found(kind, id=id)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            [f"{found.__module__}:{found.__qualname__} cannot be instantiated: {error}"]
        ) from error


def collect_rarely(reactor: Any) -> None:
    """Collect cyclic garbage less often than Python does, and never the objects that exist when *reactor* starts.

    Jobs leave almost no cyclic garbage. But with hundreds of running jobs, each collection visits all their objects,
    and all of them wait for it.
    """
    gc.set_threshold(GARBAGE)
    reactor.callWhenRunning(gc.freeze)


class Daemon:
    """A daemon, as :class:`twisted.application.service.ServiceMaker` expects it.

    :param options: the class of its command line.
    :param plan: returns what to run, or raises :class:`ConfigError`.
    """

    def __init__(self, options: type[DaemonOptions], plan: Callable[[Options, Config], Plan]) -> None:
        self.Options = options
        self._plan = plan

    def makeService(self, options: DaemonOptions) -> Process:
        """Return the service for twistd; raise SystemExit if the configuration is wrong."""
        from twisted.internet import reactor

        if os.getcwd() not in sys.path:  # sys.path[0] of a console script is the script's folder
            sys.path.insert(0, os.getcwd())
        try:
            process = self.build(options, reactor, os.environ)
        except ConfigError as error:
            for problem in error.problems:
                print_error(f"{options.name}: {problem}")
            if not options["config"] and (found := find(os.environ)):
                print_error(f"{options.name}: the configuration was read from {os.path.abspath(found)}")
            raise SystemExit(BAD_CONFIG) from error
        collect_rarely(reactor)
        SecondSignal(reactor)
        StopTimeout(reactor, process.grace + LONGER)
        return process

    def build(self, options: DaemonOptions, reactor: Any, environ: Mapping[str, str]) -> Process:
        """Return the services of *options*, for *reactor*; raise :class:`ConfigError` if the configuration is wrong."""
        path = options["config"] or find(environ)
        config = load(path, environ)
        _log.info(
            "{name}: the configuration is {origin}", name=options.name, origin=describe_origin(path, environ)
        )
        members, broker = self._plan(options, config)
        # The default is time.time, and setting the system's clock back would stop every timer.
        reactor.seconds = time.monotonic
        observer = options.log.begin(config, environ, reactor)
        return Process(options.name, reactor, config, members, broker=broker, observer=observer)


process = Daemon(DaemonOptions, plan_services)
manager = Daemon(ManagerOptions, plan_manager)
worker = Daemon(WorkerOptions, plan_workers)
broker = Daemon(BrokerOptions, plan_broker)
