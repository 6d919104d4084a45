"""Deliveries that are done in one moment are acknowledged together: the broker needs no word about each.

Until then they count as delivered, so a worker that dies in that moment has its last few jobs done again by
another one, and the broker sends it as many fewer.
"""

from __future__ import annotations

from collections.abc import Callable

from txmicro.util.clock import Clock, Timer

MOMENT = 0.01
"""Seconds that a delivery that is done waits for others."""


class DeliveryBatch:
    """The deliveries that are done, and not acknowledged yet.

    :param most: how many may wait; 0 or 1: none.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._waiting: list[Callable[[bool], None]] = []
        self._timer: Timer | None = None

    def add(self, settle: Callable[[bool], None]) -> None:
        """Call ``settle(True)``, now or in a moment."""
        self._waiting.append(settle)
        if len(self._waiting) >= self._most:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(MOMENT, self._due)

    def flush(self) -> None:
        """Settle them now."""
        waiting, self._waiting = self._waiting, []
        for settle in waiting:
            settle(True)

    def clear(self) -> None:
        """Their channel is gone, and the broker has them back."""
        self._waiting.clear()

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def stop(self) -> None:
        """Settle them now, and wait for no others."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
