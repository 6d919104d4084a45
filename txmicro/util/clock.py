"""The clock that everything is given, as a type: Twisted's ``IReactorTime``, which mypy cannot read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is to come, Twisted's ``IDelayedCall``."""

    def cancel(self) -> None:
        """Let it not come."""

    def reset(self, secondsFromNow: float, /) -> None:
        """Let it come that many seconds from now."""

    def active(self) -> bool:
        """Whether it is still to come."""


class Clock(Protocol):
    """Tells the time and calls later: a reactor, or a ``twisted.internet.task.Clock``."""

    def seconds(self) -> float:
        """The time, in seconds; only differences mean anything."""

    def callLater(self, delay: float, callable: Callable[..., Any], /, *args: Any, **kw: Any) -> Timer:
        """Call *callable* after *delay* seconds."""
