"""The client's side of the AMQP handshake: which step is due, and what both sides agree on. No I/O.

Protocol: AMQP 0-9-1 section 2.2.4.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from txmicro._version import __version__

from .errors import (
    ACCESS_REFUSED,
    COMMAND_INVALID,
    SYNTAX_ERROR,
    AuthenticationFailed,
    ConnectionLost,
    FrameError,
    TlsError,
)
from .frames import FRAME_MIN

CHANNEL_MAX: Final = 2047
"""The most channels that the client wants on a connection: what RabbitMQ proposes."""

CAPABILITIES: Final = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}


class Limits(NamedTuple):
    """The limits that both sides of a connection have negotiated.

    :ivar channel_max: how many channels may be open at once.
    :ivar frame_max: the largest frame, in bytes.
    :ivar heartbeat: the heartbeat interval, in seconds; 0: no heartbeats.
    """

    channel_max: int
    frame_max: int
    heartbeat: int

    def agree(self, channel_max: int, frame_max: int, heartbeat: int) -> Limits:
        """Return the limits that also respect the broker's proposal, in which 0 means no limit or no heartbeats.

        Raises :class:`FrameError` when *frame_max* is smaller than AMQP allows.
        """
        if 0 < frame_max < FRAME_MIN:
            raise FrameError(
                f"the broker's frame_max is {frame_max} bytes; AMQP requires at least {FRAME_MIN}",
                code=SYNTAX_ERROR,
            )
        return Limits(
            min(channel_max or CHANNEL_MAX, self.channel_max),
            min(frame_max or self.frame_max, self.frame_max),
            min(heartbeat, self.heartbeat),
        )


class ClientHandshake:
    """The steps from the protocol header to an open connection.

    :param external: use SASL EXTERNAL: the broker reads the user from the client's TLS certificate.
    :param connection_name: the name that the broker's tools show; empty: none.
    :ivar mechanism: the SASL mechanism.
    :ivar properties: what the client tells the broker about itself.
    :ivar done: whether the connection is open.
    """

    def __init__(self, *, external: bool, connection_name: str) -> None:
        self.done = False
        self.mechanism = "EXTERNAL" if external else "PLAIN"
        self.properties: dict[str, Any] = {
            "product": "txmicro",
            "version": __version__,
            "platform": "Python",
            "capabilities": CAPABILITIES,
            **({"connection_name": connection_name} if connection_name else {}),
        }
        self._expected = "start"

    def advance(self, method: str, following: str) -> None:
        """Note that the broker has sent *method*, and expect *following* next.

        Raises :class:`FrameError` when *method* is not the expected one.
        """
        if self._expected != method:
            raise FrameError(f"unexpected connection.{method} at this step", code=COMMAND_INVALID)
        self._expected = following

    def refusal(self, offered: str) -> AuthenticationFailed | None:
        """Return why the client cannot authenticate with the mechanisms *offered*; None: it can.

        :param offered: names of SASL mechanisms, separated by spaces.
        """
        if self.mechanism in offered.split():
            return None
        return AuthenticationFailed(ACCESS_REFUSED, f"the broker offers {offered}, not {self.mechanism}")

    def explain(self, error: ConnectionLost) -> ConnectionLost:
        """Return what *error*, which ended the connection, means at this step of the handshake."""
        if self._expected == "tune" and not isinstance(error, TlsError):
            return AuthenticationFailed(
                ACCESS_REFUSED, "the broker closed the connection when it got the credentials"
            )
        return error
