"""Types of clocks: Twisted's ``IReactorTime`` and ``IDelayedCall`` as protocols, which mypy can check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A delayed call, as ``IDelayedCall``."""

    def cancel(self) -> None:
        """Cancel the call."""

    def reset(self, secondsFromNow: float, /) -> None:
        """Delay the call until *secondsFromNow* seconds from now."""

    def active(self) -> bool:
        """Return whether the call is still to come."""


class Clock(Protocol):
    """A reactor, or a ``twisted.internet.task.Clock``."""

    def seconds(self) -> float:
        """Return the time in seconds; only differences have a meaning."""

    def callLater(self, delay: float, callable: Callable[..., Any], /, *args: Any, **kw: Any) -> Timer:
        """Call *callable* after *delay* seconds; return the delayed call."""
