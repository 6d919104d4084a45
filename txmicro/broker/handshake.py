"""The broker's side of the handshake: AMQP 0-9-1 section 2.2.4, with SASL PLAIN (RFC 4616) or AMQPLAIN."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from hmac import compare_digest
from importlib.metadata import version
from typing import Any, Final

from pamqp import base
from pamqp.commands import Connection

from txmicro.amqp.errors import FrameError
from txmicro.amqp.fields import decode_table
from txmicro.amqp.frames import FRAME_MAX

from .errors import Refused

CHANNEL_MAX: Final = 2047
FRAME_MIN: Final = 4096
HEARTBEAT: Final = 60
"""Heartbeat interval that the broker proposes, in seconds; the client decides."""

VHOST: Final = "/"

_SERVER: Final[dict[str, Any]] = {
    "product": "txmicro",
    "version": version("txmicro"),
    "platform": "Python",
    "information": "Embedded broker: for one machine, everything in memory",
    "capabilities": {
        "publisher_confirms": True,
        "exchange_exchange_bindings": False,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": False,
    },
}


class ServerHandshake:
    """The steps from the protocol header to an open connection.

    :param users: passwords by user name.
    :param send: sends a method on channel 0.
    :param hang_up: closes the connection of a client that does not expect a reason.
    :ivar done: whether the connection is open.
    :ivar user: the authenticated user.
    :ivar channel_max: how many channels may be open at once.
    :ivar frame_max: the negotiated largest frame, in bytes.
    :ivar heartbeat: the negotiated heartbeat interval, in seconds; 0: none.
    """

    def __init__(
        self, users: Mapping[str, str], send: Callable[[base.Frame], None], hang_up: Callable[[], None]
    ) -> None:
        self.done = False
        self.user = ""
        self.channel_max = CHANNEL_MAX
        self.frame_max = FRAME_MAX
        self.heartbeat = 0
        self._users = users
        self._send = send
        self._hang_up = hang_up
        self._capabilities: dict[str, Any] = {}
        self._next: tuple[type[base.Frame], Callable[[Any], None]] | None = None

    def start(self) -> None:
        """Answer a valid protocol header with the broker's properties."""
        self._next = Connection.StartOk, self._log_in
        self._send(Connection.Start(0, 9, _SERVER, " ".join(_MECHANISMS), "en_US"))

    def take(self, method: Any) -> None:
        """Handle the client's next method. Raises :class:`Refused`."""
        if self._next is None or type(method) is not self._next[0]:
            raise Refused(503, f"unexpected method {method.name} on channel 0")
        self._next[1](method)

    def has_capability(self, capability: str) -> bool:
        """Return whether the client has announced *capability*."""
        return self._capabilities.get(capability) is True

    def _log_in(self, method: Connection.StartOk) -> None:
        read = _MECHANISMS.get(method.mechanism)
        if read is None:
            raise Refused(503, f"unknown authentication mechanism '{method.mechanism}'")
        capabilities = (method.client_properties or {}).get("capabilities")
        self._capabilities = capabilities if isinstance(capabilities, dict) else {}
        response = method.response
        user, password = read(response.encode() if isinstance(response, str) else response)
        if authenticates(self._users, user, password):
            self.user = user
            self._next = Connection.TuneOk, self._tune
            self._send(Connection.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT))
        elif self.has_capability("authentication_failure_close"):
            raise Refused(403, f"Login was refused using authentication mechanism {method.mechanism}")
        else:
            self._hang_up()

    def _tune(self, method: Connection.TuneOk) -> None:
        if not FRAME_MIN <= method.frame_max <= FRAME_MAX:
            raise Refused(
                530, f"negotiated frame_max = {method.frame_max}: allowed are {FRAME_MIN} to {FRAME_MAX}"
            )
        if method.channel_max > CHANNEL_MAX:
            raise Refused(
                530, f"negotiated channel_max = {method.channel_max}: allowed are up to {CHANNEL_MAX}"
            )
        self.channel_max = method.channel_max or CHANNEL_MAX
        self.frame_max, self.heartbeat = method.frame_max, method.heartbeat
        self._next = Connection.Open, self._open

    def _open(self, method: Connection.Open) -> None:
        if method.virtual_host != VHOST:
            raise Refused(530, f"vhost {method.virtual_host} not found")
        self._next = None
        self.done = True
        self._send(Connection.OpenOk())


def authenticates(users: Mapping[str, str], user: str, password: bytes) -> bool:
    """Return whether *user* is one of *users* and *password* is the correct one."""
    expected = users.get(user)
    return compare_digest(password, (expected or "").encode()) and expected is not None


_NO_CREDENTIALS: Final = "", b""


def _read_plain(response: bytes) -> tuple[str, bytes]:
    parts = response.split(b"\0")
    return (parts[1].decode("utf-8", "replace"), parts[2]) if len(parts) == 3 else _NO_CREDENTIALS


def _read_amqplain(response: bytes) -> tuple[str, bytes]:
    """Read a table without its length: LOGIN and PASSWORD."""
    try:
        table, _ = decode_table(struct.pack(">I", len(response)) + response, 0, len(response) + 4)
    except FrameError:
        return _NO_CREDENTIALS
    user, password = table.get("LOGIN"), table.get("PASSWORD")
    return (
        (user, password.encode()) if isinstance(user, str) and isinstance(password, str) else _NO_CREDENTIALS
    )


_MECHANISMS: Final = {"PLAIN": _read_plain, "AMQPLAIN": _read_amqplain}
"""SASL mechanisms, with functions that read user and password from a response; the user is empty if there is none."""
