"""One write per connection and turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txmicro.util.clock import Clock


class FlushScheduler:
    """What is to be done when a turn of the reactor ends. The connections of a process share one.

    A turn that began with reading ends with it: what one connection read and another one writes leaves at once,
    and not a round of the reactor later. Any other turn ends when the clock makes the calls that are due.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[Callable[[], None]] = []
        self._call: Any = None
        self._reading = False

    def schedule(self, function: Callable[[], None]) -> None:
        """Call *function* at the end of this turn; it must not raise, and may ask for more of this."""
        self._due.append(function)
        if not self._reading and self._call is None:
            self._call = self._clock.callLater(0, self._called)

    def cancel(self, function: Callable[[], None]) -> None:
        """Do not call *function*."""
        if function in self._due:
            self._due.remove(function)
        if not self._due and self._call is not None:
            self._call.cancel()
            self._call = None

    def read(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """Call *feed* with *data*, and end the turn with that, unless it is within another call of this."""
        if self._reading:
            feed(data)
            return
        self._reading = True
        try:
            feed(data)
        finally:
            self._reading = False
            if self._call is None:
                self._end()

    def _called(self) -> None:
        self._call = None
        self._end()

    def _end(self) -> None:
        for function in self._due:  # grows meanwhile
            function()
        self._due.clear()
