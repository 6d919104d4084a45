"""Collects the frames that a connection sends: one write per turn of the reactor."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IWriteDescriptor

from .flush_scheduler import FlushScheduler
from .heartbeat import Heartbeat


class AckSource(Protocol):
    """A channel that has acknowledgements to send at the end of a turn."""

    def write_acks(self) -> None:
        """Write them."""


class FrameWriter:
    """Sends frames through a transport.

    :param scheduler: calls :meth:`flush` at the end of a turn; the connections of a process share it.
    :param heartbeat: its ``wrote`` is set when something is sent.
    """

    def __init__(self, scheduler: FlushScheduler, heartbeat: Heartbeat) -> None:
        self._scheduler = scheduler
        self._heartbeat = heartbeat
        self._transport: Any = None
        self._direct = False  # whether the transport can send at once
        self._out: list[bytes] = []
        self._acknowledging: list[AckSource] = []
        self._scheduled = False  # whether the scheduler will call _flush

    def start(self, transport: Any) -> None:
        """Send through *transport* from now on."""
        self._transport = transport
        self._direct = IWriteDescriptor.providedBy(transport)

    def write(self, data: bytes) -> None:
        """Send *data*, whole frames, together with all that is written in this turn of the reactor."""
        self._out.append(data)
        if not self._scheduled:
            self._flush_later()

    def write_acks_later(self, channel: AckSource) -> None:
        """Call ``write_acks`` of *channel* at the end of this turn."""
        self._acknowledging.append(channel)
        if not self._scheduled:
            self._flush_later()

    def write_acks(self) -> None:
        """Have the channels write their acknowledgements now."""
        for channel in self._acknowledging:
            channel.write_acks()
        self._acknowledging.clear()

    def flush(self) -> None:
        """Send what was written now, instead of at the end of this turn."""
        self._scheduler.cancel(self._flush)
        self._flush()

    def close(self) -> None:
        """Leave sending to the transport: it closes after the last write, and must see that write itself."""
        self._direct = False

    def stop(self) -> None:
        """Drop what is not sent: the transport is closed."""
        self._out.clear()
        self._scheduler.cancel(self._flush)

    def _flush_later(self) -> None:
        self._scheduled = True
        self._scheduler.schedule(self._flush)

    def _flush(self) -> None:
        self.write_acks()
        self._scheduled = False
        if self._out:
            out, self._out = self._out, []
            self._heartbeat.wrote = True
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self._direct:
                # The reactor would do so in its next round only. If it fails, the reactor notices that, too.
                self._transport.doWrite()
