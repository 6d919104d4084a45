"""Acks of one moment travel together, and so do the keys of what was heard and of what is done.

A result that leaves first is the ack.
"""

from __future__ import annotations

from collections.abc import Callable

from txmicro.util.clock import Clock, Timer

MOMENT = 0.02
"""Seconds that an ack waits for company, or for the result that makes it unnecessary."""


class AckBatch:
    """The acks that wait to be sent; or what else is told by its key.

    :param tell: sends a worker the keys that are for it.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, list[str]], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._waiting: dict[str, str] = {}
        self._timer: Timer | None = None

    def add(self, key: str, sender: str) -> None:
        """Tell *sender* of the job *key*."""
        self._waiting[key] = sender
        if self._timer is None:
            self._timer = self._clock.callLater(MOMENT, self._due)

    def forget(self, key: str) -> None:
        """The answer has left: it is the ack."""
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """The connection is gone: whoever sent these jobs sends or asks again."""
        self._waiting.clear()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, {}
        senders: dict[str, list[str]] = {}
        for key, sender in waiting.items():
            senders.setdefault(sender, []).append(key)
        for sender, keys in senders.items():
            self._tell(sender, keys)

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def stop(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
