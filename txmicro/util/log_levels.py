"""The lowest level that is logged, for each component; it can change while the process runs.

A component is a worker type, or the start of a logger's name at a dot. Names of this package's own loggers are taken
without ``txmicro.``; the name ``txmicro`` is all of them, and ``*`` is all lines of the process.

A line has several components. The first of them that has a level decides. For a line of the logger
``txmicro.bus.session.Session`` about the worker ``WB:1`` their order is: ``WB``, ``bus.session.Session``,
``bus.session``, ``bus``, ``txmicro``, ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

LEVELS: Final = ("debug", "info", "warn", "error", "critical")

MOST: Final = 1_000
"""The most components whose level is set while the process runs."""

ALL: Final = "*"
"""The component of all lines."""

_OWN: Final = "txmicro."
_COMPONENT: Final = re.compile(r"[\w-]{1,100}(\.[\w-]{1,100}){0,9}", re.ASCII)
_QUIET: Final = frozenset({"twisted", "log_legacy"})
"""Components whose info lines, about each factory and port, are logged at level debug only."""

_WEIGHTS: Final = {level: weight for weight, level in enumerate(LEVELS)}


def check_component(name: Any) -> str:
    """Return the component *name* without ``txmicro.``; raise ValueError if it is not a valid name."""
    if not (isinstance(name, str) and _COMPONENT.fullmatch(name)):
        raise ValueError(f"{name!r:.100} is not a valid component: expected a worker type or a logger's name")
    return name.removeprefix(_OWN)


def component_of(logger: str) -> str:
    """Return the part of the program that *logger* belongs to, such as ``bus``: the first word of its name."""
    return logger.removeprefix(_OWN).partition(".")[0]


def _components(logger: str, kind: str) -> Iterator[str]:
    """Yield the components of the lines of *logger* about a worker of type *kind*, the one that decides first."""
    if kind:
        yield kind
    name = logger.removeprefix(_OWN)
    while name:
        yield name
        name = name.rpartition(".")[0]
    if logger.startswith(_OWN):
        yield _OWN.removesuffix(".")
    yield ALL


class LogLevels:
    """The levels of one process; see the module. Not only the reactor's thread reads them.

    :param default: the level of components without one. :param levels: the levels of components.
    :ivar debug: whether all lines are logged, whatever the levels are.
    """

    def __init__(self, default: str = "info", levels: Mapping[str, str] | None = None) -> None:
        self._configured = {ALL: default, **(levels or {})}
        self._set: dict[str, str] = {}
        self._cache: dict[tuple[str, str], int] = {}
        self._watchers: list[Callable[[], None]] = []
        self._least = 0
        self.debug = False
        self._changed()

    def may_want(self, level: str) -> bool:
        """Return whether :meth:`wants` may be true for a line of *level*."""
        return _WEIGHTS[level] >= self._least

    def wants(self, level: str, logger: str, kind: str) -> bool:
        """Return whether to log a line of *level* from *logger* about a worker of type *kind*; empty: of no worker."""
        least = self._cache.get((logger, kind))
        if least is None:
            if len(self._cache) >= MOST:  # a program may make a logger for each object
                self._cache = {}
            least = self._cache[logger, kind] = self._find(logger, kind)
        return _WEIGHTS[level] >= least

    def _find(self, logger: str, kind: str) -> int:
        if self.debug:
            return 0
        levels = self.all
        found = next(name for name in _components(logger, kind) if name in levels)
        least = _WEIGHTS[levels[found]]
        quiet = found == ALL and component_of(logger) in _QUIET
        return max(least, _WEIGHTS["warn"]) if quiet and least else least

    @property
    def all(self) -> dict[str, str]:
        """The level of each component that has one, and of :data:`ALL`."""
        return self._configured | self._set

    @property
    def least(self) -> str:
        """The lowest level that is logged for any component."""
        return "debug" if self.debug else min(self.all.values(), key=LEVELS.index)

    def set(self, component: str, level: str) -> None:
        """Set the level of *component* until the process ends.

        :param level: empty: the configured one again.
        :raise ValueError: one of them is not valid, or :data:`MOST` components have a level already.
        """
        if component != ALL:
            component = check_component(component)
        if level and level not in LEVELS:
            raise ValueError(f"{level!r:.100} is not a valid level: expected one of {', '.join(LEVELS)}")
        if not level:
            self._set.pop(component, None)
        elif component in self._set or len(self._set) < MOST:
            self._set[component] = level
        else:
            raise ValueError(f"{component!r} has no level: {MOST:,} components have one already")
        self._changed()

    def toggle_debug(self) -> None:
        """Log all lines from now on, or no longer."""
        self.debug = not self.debug
        self._changed()

    def _changed(self) -> None:
        self._cache = {}
        self._least = _WEIGHTS[self.least]
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call *watcher* now, and after each change."""
        self._watchers.append(watcher)
        watcher()
