"""Schedules one write per connection and turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable

from txmicro.util.clock import Clock, Timer


class FlushScheduler:
    """Calls functions at the end of a turn of the reactor. The connections of a process share one.

    A turn that begins with reading ends when :meth:`read` returns. So what one connection writes because another one
    has read something is sent at once, and not in the reactor's next round. Any other turn ends when the clock makes
    the calls that are due.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[Callable[[], None]] = []
        self._timer: Timer | None = None
        self._reading = False

    def schedule(self, function: Callable[[], None]) -> None:
        """Call *function* at the end of this turn. It must not raise, and may schedule more for this turn."""
        self._due.append(function)
        if not self._reading and self._timer is None:
            self._timer = self._clock.callLater(0, self._called)

    def cancel(self, function: Callable[[], None]) -> None:
        """Do not call *function*."""
        if function in self._due:
            self._due.remove(function)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """Call *feed* with *data* and end the turn after it, unless another :meth:`read` is running."""
        if self._reading:
            feed(data)
            return
        self._reading = True
        try:
            feed(data)
        finally:
            self._reading = False
            if self._timer is None:
                self._end()

    def _called(self) -> None:
        self._timer = None
        self._end()

    def _end(self) -> None:
        for function in self._due:  # it may grow during the loop
            function()
        self._due.clear()
