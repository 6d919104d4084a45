"""Collects what a connection sends: one write per turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from txmicro.amqp.heartbeat import Heartbeat

UNREAD: Final = 16 * 1024 * 1024
"""Bytes that may wait for a client that does not read; with more, its connection is closed."""

_LARGE: Final = 128 * 1024  # bytes that are sent at once, without waiting for the turn's end


class Confirming(Protocol):
    """A channel that has confirms to send at the end of a turn."""

    def confirm(self) -> None:
        """Send them."""


class OutputBuffer:
    """Collects what a connection sends.

    Bytes that a client does not read wait here and not in the transport, so that their size is known.

    :param heartbeat: its ``wrote`` is set when something is sent.
    :param flush_later: calls :meth:`flush` at the end of this turn.
    :param cut_off: called once, without arguments, when more than :data:`UNREAD` bytes wait. Nothing is sent after
        that.
    :ivar transport: set it before the first :meth:`write`.
    """

    __slots__ = (
        "_confirming",
        "_cut",
        "_cut_off",
        "_flush_later",
        "_flushing",
        "_heartbeat",
        "_held",
        "_parts",
        "_size",
        "transport",
    )

    def __init__(
        self, heartbeat: Heartbeat, flush_later: Callable[[OutputBuffer], None], cut_off: Callable[[], None]
    ) -> None:
        self.transport: Any = None
        self._heartbeat = heartbeat
        self._flush_later = flush_later
        self._cut_off = cut_off
        self._cut = False
        self._flushing = False
        self._parts: list[bytes] = []
        self._size = 0
        self._confirming: list[Confirming] = []
        self._held = False

    def write(self, data: bytes) -> None:
        """Send *data* at the end of this turn, or at once when much is waiting."""
        if self._size > UNREAD:  # checked before the write, because a single reply may be larger
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
        """Call ``confirm`` of *channel* at the end of this turn."""
        self._confirming.append(channel)
        if not self._flushing:
            self._flushing = True
            self._flush_later(self)

    def flush(self) -> None:
        """Send what is waiting, unless the transport is full."""
        confirming, self._confirming = self._confirming, []
        for channel in confirming:
            channel.confirm()
        self._flushing = False
        if self._held or not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._heartbeat.wrote = True
        self.transport.write(data)

    def hold(self) -> None:
        """Send nothing until :meth:`release`: the transport is full."""
        self._held = True

    def release(self) -> None:
        """Send what is waiting: the transport has room, or is about to be closed."""
        self._held = False
        self.flush()

    def _overflow(self) -> None:
        self._parts.clear()
        self._size = 0
        self._cut = True
        self._cut_off()
