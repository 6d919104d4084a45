"""The daemons that ``twistd`` runs.

A daemon's exit status is 1 if it cannot start, and 2 if its configuration is wrong; stderr says why. Otherwise it is
twistd's own: 0, or that of the signal that stopped it.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.usage import Options

from txmicro.config import Config, describe_origin, find, load
from txmicro.errors import ConfigError
from txmicro.util.log_levels import LogLevels

from .exit import print_error
from .log_standard import log_standard
from .options import BrokerOptions, DaemonOptions, ManagerOptions, WorkerOptions
from .plans import Plan, plan_broker, plan_manager, plan_services, plan_workers
from .process import Process
from .signals import DebugSignal, SecondSignal
from .stop_timeout import LONGER, StopTimeout
from .tracing import make_tracing

BAD_CONFIG: Final = 2
"""The exit status of a process whose configuration is wrong."""

GARBAGE: Final = 10_000
"""How many new objects there are until Python collects cyclic garbage; its default is 700."""

_log: Final = Logger()


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
            if not options["config"] and (found := find(os.environ)) and os.path.exists(found):
                print_error(f"{options.name}: the configuration was read from {os.path.abspath(found)}")
            raise SystemExit(BAD_CONFIG) from error
        collect_rarely(reactor)
        SecondSignal(reactor)
        DebugSignal(reactor, process.log_levels)
        log_standard(process.log_levels)
        StopTimeout(reactor, process.grace + LONGER, options.log.end)
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
        levels = LogLevels(config.log_level, config.log_levels)
        observer = options.log.begin(config, levels, environ, reactor)
        return Process(
            options.name,
            reactor,
            config,
            members,
            broker=broker,
            observer=observer,
            on_terminal=options.log.on_terminal,
            levels=levels,
            tracing=make_tracing(config, {member.type for member in members}, reactor, environ),
        )


process = Daemon(DaemonOptions, plan_services)
manager = Daemon(ManagerOptions, plan_manager)
worker = Daemon(WorkerOptions, plan_workers)
broker = Daemon(BrokerOptions, plan_broker)
