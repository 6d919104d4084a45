"""Heartbeats of a connection: when to send one, and when the broker counts as lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txmicro.util.clock import Clock, Timer

_SILENT_MAX: Final = 3
"""Checks in a row without a byte from the broker. Three of them are 1.5 to 2 intervals."""


class Heartbeat:
    """Checks a connection twice per heartbeat interval.

    Silence is counted in checks, not in seconds: after this process was blocked, what the broker sent is still
    unread. The reactor reads it between two checks.

    :param send: called without arguments when the connection has sent nothing since the last check.
    :param lost: called with the reason when the broker has sent nothing for too long. No check follows.
    :ivar heard: whether the broker has sent anything since the last check; the connection sets it.
    :ivar wrote: whether the connection has sent anything since the last check; the connection sets it.
    """

    def __init__(self, clock: Clock, send: Callable[[], None], lost: Callable[[str], None]) -> None:
        self.heard = self.wrote = False
        self._clock = clock
        self._send = send
        self._lost = lost
        self._interval = 0.0
        self._silence = 0
        self._timer: Timer | None = None

    def start(self, interval: float) -> None:
        """Check from now on.

        :param interval: the negotiated heartbeat interval, in seconds; 0: no heartbeats.
        """
        self._interval = interval
        if interval:
            self._check_later()

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_later(self) -> None:
        self._timer = self._clock.callLater(self._interval / 2, self._check)

    def _check(self) -> None:
        self._timer = None
        self._silence = 0 if self.heard else self._silence + 1
        if self._silence >= _SILENT_MAX:
            self._lost(
                f"the broker sent nothing, not even a heartbeat, for {_SILENT_MAX / 2 * self._interval:g} s or more"
            )
            return
        silent = not self.wrote
        self.heard = self.wrote = False
        self._check_later()
        if silent:
            self._send()
