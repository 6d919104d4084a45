"""What can go wrong on a connection to a broker, as types."""

from __future__ import annotations

import re
from typing import Any

from pamqp import commands
from twisted.python.failure import Failure

from txmicro.errors import TxmicroError

# Reply codes of AMQP 0-9-1 (section 1.2 of its reference) that we name.
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
CHANNEL_ERROR = 504
UNEXPECTED_FRAME = 505
NOT_ALLOWED = 530
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406


class FrameError(TxmicroError):
    """The peer sent bytes that are not AMQP 0-9-1, or not at this moment.

    :ivar code: the AMQP reply code to close the connection with.
    :ivar channel: the channel they came on.
    """

    def __init__(self, message: str, *, code: int = FRAME_ERROR, channel: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.channel = channel

    def __str__(self) -> str:
        return f"{self.message} (channel {self.channel}, {self.code})"


class InvalidArgument(TxmicroError, ValueError):
    """A value that AMQP cannot carry: too long, of a wrong type, out of range."""


class ConnectionLost(TxmicroError):
    """The connection is gone, and with it whatever waited on it."""


class ConnectionClosed(ConnectionLost):
    """The broker closed the connection.

    :ivar reply_code: its AMQP reply code.
    :ivar reply_text: its words.
    """

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"{reply_code} {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class AuthenticationFailed(ConnectionClosed):
    """The broker does not let us in as who we say we are, or not in the way in which we say it."""


class VhostError(ConnectionClosed):
    """The virtual host does not exist, or the user may not use it."""


class LimitReached(ConnectionClosed):
    """The broker has as many connections, or channels, as an operator allows its node, the virtual host or the user."""

    def __str__(self) -> str:
        return (
            f"{self.reply_code} {self.reply_text} (a process needs 3 connections: close others, or let an operator "
            "raise or clear the limit: rabbitmqctl clear_vhost_limits, clear_user_limits; connection_max of the node)"
        )


class TlsError(ConnectionLost):
    """There is no TLS: the two sides do not agree, or our files for it cannot be used."""


class BadCertificate(TlsError):
    """The broker's certificate is not believed: by whom it is signed, its time, or its use."""


class WrongHost(BadCertificate):
    """The broker's certificate is for another host."""


class CertificateRefused(TlsError):
    """The broker does not believe our certificate, or wants one and got none."""


class HeartbeatLost(ConnectionLost):
    """The broker said nothing for two heartbeat intervals."""


def connection_closed(code: int, text: str, *, is_open: bool) -> ConnectionClosed:
    """Return what a broker says that closes a connection, as an error; *is_open*: whether it let us in before."""
    if code == NOT_ALLOWED and "limit" in text:  # "…: connection limit (100) is reached", and others alike
        return LimitReached(code, text)
    kinds = {} if is_open else {ACCESS_REFUSED: AuthenticationFailed, NOT_ALLOWED: VhostError}
    return kinds.get(code, ConnectionClosed)(code, text)


class ChannelClosed(TxmicroError):
    """The channel is closed; the connection lives.

    :ivar reply_code: the AMQP reply code that it was closed with.
    :ivar reply_text: the words that came with it.
    """

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"{reply_code} {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class AccessRefused(ChannelClosed):
    """The user lacks a right at the broker.

    :ivar right: which: ``configure``, ``write`` or ``read``.
    """

    def __init__(self, reply_text: str, right: str) -> None:
        super().__init__(ACCESS_REFUSED, reply_text)
        self.right = right

    def __str__(self) -> str:
        return f"{self.reply_code} {self.reply_text} (the right to {self.right} it is missing)"


class SizeRefused(ChannelClosed):
    """A message on the channel is larger than the broker takes.

    :ivar limit: the bytes of a body that it takes (RabbitMQ's ``max_message_size``).
    """

    def __init__(self, reply_text: str, limit: int) -> None:
        super().__init__(PRECONDITION_FAILED, reply_text)
        self.limit = limit


# RabbitMQ's words: "… larger than configured max size 1000" where it is configured, "… than max size …" else.
_SIZE_REFUSED = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


class QueueLimitReached(ChannelClosed):
    """The virtual host has as many queues as an operator allows it."""

    def __str__(self) -> str:
        return (
            f"{self.reply_code} {self.reply_text} (delete queues, or let an operator raise or clear the limit: "
            "rabbitmqctl clear_vhost_limits)"
        )


# What a method that may be refused asks for: https://www.rabbitmq.com/docs/access-control#authorisation
_RIGHTS = {
    commands.Exchange.Declare.index: "configure",
    commands.Exchange.Delete.index: "configure",
    commands.Queue.Declare.index: "configure",
    commands.Queue.Delete.index: "configure",
    commands.Basic.Publish.index: "write",
}


def closed_by(code: int, text: str, method: int) -> ChannelClosed:
    """What a broker says when it closes a channel at *method* (its class and id, as pamqp counts), as an error."""
    size = _SIZE_REFUSED.search(text) if code == PRECONDITION_FAILED else None
    if size is not None:
        return SizeRefused(text, int(size[1]))
    if code == PRECONDITION_FAILED and "queue limit" in text and method == commands.Queue.Declare.index:
        return QueueLimitReached(code, text)
    if code != ACCESS_REFUSED or "refused for user" not in text:  # the other 403 is a queue in exclusive use
        return ChannelClosed(code, text)
    if method == commands.Queue.Bind.index:
        return AccessRefused(text, "write" if "access to queue" in text else "read")
    if method == commands.Queue.Declare.index and "access to exchange" in text:  # where it dead-letters to
        return AccessRefused(text, "write")
    return AccessRefused(text, _RIGHTS.get(method, "read"))


class NoChannelLeft(TxmicroError):
    """As many channels are open on the connection as the broker allows."""

    def __init__(self, channel_max: int) -> None:
        super().__init__(
            f"channel_max is reached: all {channel_max} channels that a connection to this broker may have are open; "
            "run fewer workers in this process (each needs one), or raise channel_max, at the broker and where "
            "broker_url has it"
        )


class NackError(TxmicroError):
    """The broker did not take responsibility for a message."""


class Returned(TxmicroError):
    """The broker had no queue for a message.

    :ivar reply_code: why, as an AMQP reply code (312: no route).
    :ivar exchange: where the message was published.
    :ivar routing_key: with which key.
    """

    def __init__(self, reply_code: int, reply_text: str, exchange: str, routing_key: str) -> None:
        super().__init__(f"{reply_code} {reply_text}: exchange {exchange!r}, routing key {routing_key!r}")
        self.reply_code = reply_code
        self.exchange = exchange
        self.routing_key = routing_key


class ReturnUnclear(TxmicroError):
    """The broker had no queue for a message that may be this one: whether this one is stored is not known."""


def lost_by(reason: Failure) -> ConnectionLost:
    """What a transport says of its end, as an error of ours."""
    error: Any = reason.value
    if isinstance(error, ConnectionLost):
        return error
    match error.args:
        case ([(str(), str(), str()), *_] as told,):  # an OpenSSL.SSL.Error; pyOpenSSL may not be there
            text = "; ".join(why for _, _, why in told)
            if "alert" in text and ("certificate" in text or "unknown ca" in text):
                return CertificateRefused(f"the broker refuses our certificate: {text}")
            return TlsError(f"no TLS: {text}")
    return ConnectionLost(reason.getErrorMessage())
