"""What leaves a connection: in one piece per turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

UNREAD: Final = 16 * 1024 * 1024
"""Bytes of replies that pile up for a client that does not read, before it is cut off."""

_LARGE: Final = 128 * 1024


class Confirming(Protocol):
    """Has something to say at the end of a turn."""

    def confirm(self) -> None:
        """Say it."""


class OutputBuffer:
    """Collects what a connection sends.

    :param flush_later: has :meth:`flush` called at the end of this turn.
    What a client does not read piles up here, not in the transport, so that its size is known.

    :param cut_off: called once when more than :data:`UNREAD` bytes wait for a client that does not read; nothing
        is sent to it after that.
    :ivar transport: where it goes.
    :ivar written: something was sent since whoever wants to know last reset this.
    """

    __slots__ = (
        "_confirming",
        "_cut",
        "_cut_off",
        "_flush_later",
        "_flushing",
        "_held",
        "_parts",
        "_size",
        "transport",
        "written",
    )

    def __init__(self, flush_later: Callable[[OutputBuffer], None], cut_off: Callable[[], None]) -> None:
        self.transport: Any = None
        self.written = False
        self._flush_later = flush_later
        self._cut_off = cut_off
        self._cut = False
        self._flushing = False
        self._parts: list[bytes] = []
        self._size = 0
        self._confirming: list[Confirming] = []
        self._held = False

    def write(self, data: bytes) -> None:
        """Send *data* at the end of this turn, or sooner if it is much."""
        if self._size > UNREAD:  # one reply may be larger, however much that is
            self._overflow()
        if self._cut:
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > _LARGE and not self._held:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self._flush_later(self)

    def confirm_later(self, channel: Confirming) -> None:
        """Let *channel* confirm at the end of this turn."""
        self._confirming.append(channel)
        if not self._flushing:
            self._flushing = True
            self._flush_later(self)

    def flush(self) -> None:
        """Send what is waiting."""
        confirming, self._confirming = self._confirming, []
        for channel in confirming:
            channel.confirm()
        self._flushing = False
        if self._held or not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self.written = True
        self.transport.write(data)

    def hold(self) -> None:
        """The transport is full: what comes now waits here."""
        self._held = True

    def release(self) -> None:
        """The transport has room, or is closed with what waits."""
        self._held = False
        self.flush()

    def _overflow(self) -> None:
        self._parts.clear()
        self._size = 0
        self._cut = True
        self._cut_off()
