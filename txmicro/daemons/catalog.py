"""Which class a worker type is: as configured (``worker_types``), or as an installed package says.

A package offers its workers with entry points of the group ``txmicro.workers``::

    entry_points={"txmicro.workers": ["WX = my_package.workers:XWorker"]}
"""

from __future__ import annotations

import importlib
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
"""The files of the frames between us and the module that is imported."""


class Catalog:
    """Finds the classes of worker types.

    :param configured: ``module:Class`` by worker type; wins over what is installed.
    :param installed: entry points, named after worker types; None: those of this Python.
    """

    def __init__(self, configured: Mapping[str, str], installed: Iterable[EntryPoint] | None = None) -> None:
        if installed is None:
            installed = entry_points(group=GROUP)
        self._places = {entry.name: entry.value for entry in installed} | dict(configured)

    def find(self, kind: str) -> type[Worker]:
        """The class of the worker type *kind*; raises :class:`ConfigError`."""
        if kind in self._places:
            return load(self._places[kind])
        known = ", ".join(sorted(self._places)) or "none"
        raise ConfigError(
            [f"worker type {kind} is unknown (known: {known}); worker_types or --class names its class"]
        )

    def find_all(self, kinds: Iterable[str]) -> dict[str, type[Worker]]:
        """The classes of *kinds*, by worker type; raises :class:`ConfigError` with the problems of all of them."""
        found, problems = {}, []
        for kind in dict.fromkeys(kinds):
            try:
                found[kind] = self.find(kind)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return found


def load(place: str) -> type[Worker]:
    """The worker class at *place*, ``module:Class``; raises :class:`ConfigError` that says why not."""
    try:
        found = pkgutil.resolve_name(place)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise ConfigError([f"{place} cannot be imported: {describe_failed_import(error)}"]) from error
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise ConfigError([f"{place} is no subclass of txmicro.worker.Worker"])
    return found


def describe_failed_import(error: BaseException) -> str:
    """Return type and text of *error* in one line, and below it the traceback, from the imported module on."""
    told = TracebackException.from_exception(error)
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_IMPORTERS)]
    *syntax, last = told.format_exception_only()
    return mask("".join([last, *told.stack.format(), *syntax]).rstrip())
