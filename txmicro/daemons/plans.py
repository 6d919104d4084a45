"""The plans of the daemons: the members and servers that each process runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Final, NamedTuple

from twisted.python.usage import Options

from txmicro.config import Config
from txmicro.errors import ConfigError
from txmicro.examples.movies import TYPES as MOVIE_TYPES
from txmicro.manager import SystemManager
from txmicro.worker import Worker

from .catalog import Catalog, load_class
from .process import Member

BROKER: Final = "broker"
MANAGER: Final = "manager"


class Plan(NamedTuple):
    """The parts that a process runs.

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
    classes = Catalog(config.worker_types).find_all(kinds, "services" if config.services else "")
    managers = [SystemManager() for name in names if name == MANAGER]
    workers = [make_worker(classes[kind], kind) for kind in kinds]
    return Plan([*managers, *workers], broker=BROKER in names)


def make_worker(found: type[Worker], kind: str, id: str | None = None) -> Worker:
    """Return a worker of type *kind*; raise :class:`ConfigError` if the class *found* cannot be instantiated."""
    place = f"{found.__module__}:{found.__qualname__}"
    try:
        inspect.signature(found).bind(kind, id=id)
    except TypeError as error:
        hint = "take type and id and pass them to Worker's constructor, or prepare the worker in opened()"
        raise ConfigError([f"{place} cannot be instantiated: {error}; {hint}"]) from error
    try:
        return found(kind, id=id)
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{place} cannot be instantiated: {error}"]) from error
