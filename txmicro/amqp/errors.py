"""The errors of a connection to a broker."""

from __future__ import annotations

import re
from typing import Any

from pamqp import commands
from twisted.python.failure import Failure

from txmicro.errors import TxmicroError

# Reply codes of AMQP 0-9-1 (section 1.2 of its reference).
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
CHANNEL_ERROR = 504
UNEXPECTED_FRAME = 505
NOT_ALLOWED = 530
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406


class FrameError(TxmicroError):
    """The peer sent bytes that are not valid AMQP 0-9-1, or not at this point.

    :ivar code: the AMQP reply code to close the connection with.
    :ivar channel: the number of the channel of these bytes; 0: the connection.
    """

    def __init__(self, message: str, *, code: int = FRAME_ERROR, channel: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.channel = channel

    def __str__(self) -> str:
        return f"{self.message} (channel {self.channel}, {self.code})"


class InvalidArgument(TxmicroError, ValueError):
    """AMQP cannot carry a value: it is too long, out of range, or of a wrong type."""


class ConnectionLost(TxmicroError):
    """The connection is closed, and everything that waited on it has failed."""


class ConnectionClosed(ConnectionLost):
    """The broker closed the connection.

    :ivar reply_code: the AMQP reply code.
    :ivar reply_text: the broker's reason.
    """

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"{reply_code} {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class AuthenticationFailed(ConnectionClosed):
    """The broker does not accept the user and password, or does not offer the SASL mechanism."""


class VhostError(ConnectionClosed):
    """The virtual host does not exist, or the user may not use it."""


class LimitReached(ConnectionClosed):
    """The broker has as many connections or channels as an operator allows for the node, virtual host or user."""

    def __str__(self) -> str:
        return (
            f"{self.reply_code} {self.reply_text} (a process needs 3 connections: close others, or let an operator "
            "raise or clear the limit: rabbitmqctl clear_vhost_limits, clear_user_limits; connection_max of the node)"
        )


class TlsError(ConnectionLost):
    """TLS failed: the two sides do not agree, or a certificate or key file cannot be used."""


class BadCertificate(TlsError):
    """The broker's certificate is not accepted, because of its signer, its validity period or its purpose."""


class WrongHost(BadCertificate):
    """The broker's certificate is for another host."""


class CertificateRefused(TlsError):
    """The broker refused this client's certificate, or expects one and got none."""


class HeartbeatLost(ConnectionLost):
    """The broker sent nothing for one and a half to two heartbeat intervals."""


def connection_closed(code: int, text: str, *, is_open: bool) -> ConnectionClosed:
    """Return the error for a ``connection.close`` of the broker.

    :param is_open: whether the broker had accepted the connection before.
    """
    if code == NOT_ALLOWED and "limit" in text:  # "…: connection limit (100) is reached", and others alike
        return LimitReached(code, text)
    kinds = {} if is_open else {ACCESS_REFUSED: AuthenticationFailed, NOT_ALLOWED: VhostError}
    return kinds.get(code, ConnectionClosed)(code, text)


class ChannelClosed(TxmicroError):
    """The channel is closed; the connection is still open.

    :ivar reply_code: the AMQP reply code of the close.
    :ivar reply_text: the reason that came with it.
    """

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"{reply_code} {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class AccessRefused(ChannelClosed):
    """The user lacks a permission at the broker.

    :ivar right: ``configure``, ``write`` or ``read``.
    """

    def __init__(self, reply_text: str, right: str) -> None:
        super().__init__(ACCESS_REFUSED, reply_text)
        self.right = right

    def __str__(self) -> str:
        return f"{self.reply_code} {self.reply_text} (the user lacks the {self.right} permission for it)"


class SizeRefused(ChannelClosed):
    """A message on the channel is larger than the broker accepts.

    :ivar limit: the largest body that the broker accepts, in bytes (RabbitMQ's ``max_message_size``).
    """

    def __init__(self, reply_text: str, limit: int) -> None:
        super().__init__(PRECONDITION_FAILED, reply_text)
        self.limit = limit


# RabbitMQ writes "… larger than configured max size 1000" if it is configured, else "… than max size …".
_SIZE_REFUSED = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


class QueueLimitReached(ChannelClosed):
    """The virtual host has as many queues as an operator allows."""

    def __str__(self) -> str:
        return (
            f"{self.reply_code} {self.reply_text} (delete queues, or let an operator raise or clear the limit: "
            "rabbitmqctl clear_vhost_limits)"
        )


# The permissions that methods need: https://www.rabbitmq.com/docs/access-control#authorisation
_RIGHTS = {
    commands.Exchange.Declare.index: "configure",
    commands.Exchange.Delete.index: "configure",
    commands.Queue.Declare.index: "configure",
    commands.Queue.Delete.index: "configure",
    commands.Basic.Publish.index: "write",
}


def closed_by(code: int, text: str, method: int) -> ChannelClosed:
    """Return the error for a ``channel.close`` of the broker.

    :param method: the index, as in pamqp, of the method that the broker refused; 0: none.
    """
    size = _SIZE_REFUSED.search(text) if code == PRECONDITION_FAILED else None
    if size is not None:
        return SizeRefused(text, int(size[1]))
    if code == PRECONDITION_FAILED and "queue limit" in text and method == commands.Queue.Declare.index:
        return QueueLimitReached(code, text)
    if (
        code != ACCESS_REFUSED or "refused for user" not in text
    ):  # 403 also means that a queue is in exclusive use
        return ChannelClosed(code, text)
    if method == commands.Queue.Bind.index:
        return AccessRefused(text, "write" if "access to queue" in text else "read")
    if method == commands.Queue.Declare.index and "access to exchange" in text:  # its dead-letter exchange
        return AccessRefused(text, "write")
    return AccessRefused(text, _RIGHTS.get(method, "read"))


class NoChannelLeft(TxmicroError):
    """As many channels are open on the connection as the broker allows."""

    def __init__(self, channel_max: int) -> None:
        super().__init__(
            f"channel_max is reached: all {channel_max} channels that a connection to this broker may have are open; "
            "run fewer workers in this process (each needs one), or raise channel_max at the broker and in "
            "broker_url if it is there"
        )


class NackError(TxmicroError):
    """The broker refused to take responsibility for a message."""


class Returned(TxmicroError):
    """The broker had no queue for a message.

    :ivar reply_code: the AMQP reply code (312: no route).
    :ivar exchange: the exchange to which the message was published.
    :ivar routing_key: its routing key.
    """

    def __init__(self, reply_code: int, reply_text: str, exchange: str, routing_key: str) -> None:
        super().__init__(f"{reply_code} {reply_text}: exchange {exchange!r}, routing key {routing_key!r}")
        self.reply_code = reply_code
        self.exchange = exchange
        self.routing_key = routing_key


class ReturnUnclear(TxmicroError):
    """The broker returned a message that may be this one: it is not known whether this one is stored."""


def lost_by(reason: Failure) -> ConnectionLost:
    """Return the error for the reason with which a transport was closed."""
    error: Any = reason.value
    if isinstance(error, ConnectionLost):
        return error
    match error.args:
        case (
            [(str(), str(), str()), *_] as entries,
        ):  # an OpenSSL.SSL.Error; pyOpenSSL may not be installed
            text = "; ".join(why for _, _, why in entries)
            if "alert" in text and ("certificate" in text or "unknown ca" in text):
                return CertificateRefused(f"the broker refused this client's certificate: {text}")
            return TlsError(f"TLS failed: {text}")
    return ConnectionLost(reason.getErrorMessage())
