"""The interface to the monitor of a SystemManager, and a source that knows only the list of workers."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any, Protocol

from twisted.internet.task import LoopingCall

from txmicro.manager import SystemManager


class Source(Protocol):
    """The monitor, as far as the API needs it."""

    def overview(self) -> dict[str, Any]:
        """Return the content of ``/api/overview``."""

    def when_changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once a second, until the function is called that this returns."""


class RegistrySource:
    """The source that knows only the list of workers."""

    def __init__(self, manager: SystemManager, reactor: Any) -> None:
        self._manager = manager
        self._reactor = reactor

    def overview(self) -> dict[str, Any]:
        """Return the content of ``/api/overview``."""
        counts = self._manager.registry.counts() if self._manager.running else {}
        obstacle = self._manager.obstacle
        return {
            "time": time(),
            "workers": sum(counts.values()),
            "types": [{"type": kind, "workers": count} for kind, count in sorted(counts.items())],
            "bus": {"connected": not obstacle, "obstacle": obstacle},
        }

    def when_changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once a second, until the function is called that this returns."""
        looping = LoopingCall(callback)
        looping.clock = self._reactor
        looping.start(1.0, now=False)
        return looping.stop
