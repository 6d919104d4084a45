"""Finds the class of a worker type: in the configuration (``worker_types``), or in installed packages.

A package offers its workers as entry points of the group ``txmicro.workers``::

    entry_points={"txmicro.workers": ["WX = my_package.workers:XWorker"]}
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from traceback import TracebackException
from typing import Final

from txmicro.errors import ConfigError
from txmicro.util.passwords import mask
from txmicro.worker import Worker

GROUP: Final = "txmicro.workers"

_IMPORTERS: Final = (__file__, pkgutil.__file__, importlib.__file__, "<frozen importlib")
"""The files of the frames between this module and the module that is imported, which tracebacks leave out."""


class Catalog:
    """Finds the classes of worker types.

    :param configured: ``module:Class`` by worker type; takes precedence over installed packages.
    :param installed: entry points whose names are worker types; None: those of the installed packages.
    """

    def __init__(self, configured: Mapping[str, str], installed: Iterable[EntryPoint] | None = None) -> None:
        if installed is None:
            installed = entry_points(group=GROUP)
        self._places = {entry.name: entry.value for entry in installed} | dict(configured)

    def find(self, kind: str) -> type[Worker]:
        """Return the class of the worker type *kind*.

        :raise ConfigError: the type is unknown, or its class cannot be imported.
        """
        if kind in self._places:
            return load_class(self._places[kind])
        known = ", ".join(sorted(self._places)) or "none"
        raise ConfigError(
            [
                f"worker type {kind} is unknown; expected one of {known}; name its class in worker_types or as --class"
            ]
        )

    def find_all(self, kinds: Iterable[str], key: str = "") -> dict[str, type[Worker]]:
        """Return the classes of *kinds*, by worker type.

        :param key: the configuration key that names the types, for errors; empty: the command line does.
        :raise ConfigError: some are unknown or cannot be imported; it has the problems of all of them.
        """
        found, problems = {}, []
        for kind in dict.fromkeys(kinds):
            try:
                found[kind] = self.find(kind)
            except ConfigError as error:
                problems += [f"{key}: {problem}" if key else problem for problem in error.problems]
        if problems:
            raise ConfigError(problems)
        return found


def load_class(place: str) -> type[Worker]:
    """Return the worker class at *place*, a ``module:Class``.

    :raise ConfigError: the module cannot be imported, or the object is not a subclass of ``Worker``.
    """
    try:
        found = pkgutil.resolve_name(place)
    except (Exception, SystemExit) as error:  # a module may raise any exception on import
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name == place.partition(":")[0].partition(".")[0]:
            hint = f"; start the daemon in the folder that has it, instead of {os.getcwd()}, or install it"
        raise ConfigError([f"{place} cannot be imported: {describe_failed_import(error)}{hint}"]) from error
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise ConfigError([f"{place} is not a subclass of txmicro.Worker; name a worker class"])
    return found


def describe_failed_import(error: BaseException) -> str:
    """Return the type and text of *error*, and on further lines its traceback, from the imported module on."""
    shown = TracebackException.from_exception(error)
    shown.stack[:] = [frame for frame in shown.stack if not frame.filename.startswith(_IMPORTERS)]
    *syntax, last = shown.format_exception_only()
    return mask("".join([last, *shown.stack.format(), *syntax]).rstrip())
