"""Heartbeats of a connection: when to send one, and when the peer counts as lost. Client and broker share it."""

from __future__ import annotations

from collections.abc import Callable

from txmicro.util.clock import Clock, Timer


class Heartbeat:
    """Checks a connection twice per heartbeat interval.

    Silence is counted in checks, not in seconds: after this process was blocked, what the peer sent is still
    unread. The reactor reads it between two checks.

    :param send: called without arguments when the connection has sent nothing since the last check.
    :param lost: called when the peer has sent nothing for too long, with the least number of seconds that this has
        lasted. No check follows.
    :param silent_max: how many checks in a row without a byte from the peer are too long.
    :ivar heard: whether the peer has sent anything since the last check; the connection sets it.
    :ivar wrote: whether the connection has sent anything since the last check; the connection sets it.
    :ivar reading: whether the connection reads; while it does not, silence means nothing.
    """

    def __init__(
        self, clock: Clock, send: Callable[[], None], lost: Callable[[float], None], silent_max: int
    ) -> None:
        self.heard = self.wrote = False
        self.reading = True
        self._clock = clock
        self._send = send
        self._lost = lost
        self._silent_max = silent_max
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
        self._silence = self._silence + 1 if self.reading and not self.heard else 0
        if self._silence >= self._silent_max:
            self._lost(self._silent_max / 2 * self._interval)
            return
        silent = not self.wrote
        self.heard = self.wrote = False
        self._check_later()
        if silent:
            self._send()
