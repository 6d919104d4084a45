"""The channels of one connection to the broker: opened, closed, and refused."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Channel as ChannelMethods

from txmicro.amqp.errors import CHANNEL_ERROR, FrameError
from txmicro.amqp.frames import method_frame
from txmicro.amqp.methods import Publish
from txmicro.amqp.properties import Properties

from .errors import Refused
from .handshake import ServerHandshake
from .model import Model
from .output_buffer import OutputBuffer
from .server_channel import ServerChannel
from .sessions import ModelSession


class ChannelTable:
    """Passes the methods and messages of a client to its channels."""

    def __init__(
        self, model: Model, session: ModelSession, output: OutputBuffer, handshake: ServerHandshake
    ) -> None:
        self._model = model
        self._session = session
        self._output = output
        self._handshake = handshake
        self._channels: dict[int, ServerChannel] = {}

    def handle(self, number: int, method: Any) -> None:
        """Handle a method on channel *number*. Raises :class:`Refused`."""
        if type(method) is ChannelMethods.Open and number not in self._channels:
            self._open(number)
            return
        channel = self._channel(number)
        if channel.closing:
            self._handle_closing(number, method)
        elif type(method) is ChannelMethods.Close:
            self._channels.pop(number).close()
            self._send(ChannelMethods.CloseOk(), number)
        else:
            channel.handle(method)

    def publish(self, number: int, method: Publish, properties: Properties, body: bytes) -> bool:
        """Publish a message. Raises :class:`Refused`.

        Returns False when the channel is being closed, so that the message is dropped.
        """
        channel = self._channel(number)
        if channel.closing:
            return False
        channel.publish(method, properties, body)
        return True

    def refuse(self, number: int, refusal: Refused, index: int) -> None:
        """Close channel *number*, because the method with *index* is refused."""
        channel = self._channels[number]
        channel.closing = True
        channel.close()
        self._send(ChannelMethods.Close(*refusal.close_arguments(index)), number)

    def is_closing(self, number: int) -> bool:
        """Return whether the broker has closed channel *number* and the client has not confirmed that yet.

        Raises :class:`FrameError` when the channel is not open.
        """
        channel = self._channels.get(number)
        if channel is None:
            raise FrameError("expected 'channel.open'", code=CHANNEL_ERROR, channel=number)
        return channel.closing

    def _channel(self, number: int) -> ServerChannel:
        channel = self._channels.get(number)
        if channel is None:
            raise Refused(504, "expected 'channel.open'")
        return channel

    def _open(self, number: int) -> None:
        if not self._handshake.done:
            raise Refused(504, f"channel {number} cannot be opened")
        most = self._handshake.channel_max
        if len(self._channels) >= most:
            raise Refused(
                530,
                f"number of channels opened ({most}) has reached the negotiated channel_max ({most})",
            )
        self._channels[number] = ServerChannel(
            number, self._model, self._session, self._output, self._handshake
        )
        self._send(ChannelMethods.OpenOk(), number)

    def _handle_closing(self, number: int, method: Any) -> None:
        """Free the channel at the client's CloseOk, even when both sides closed it at the same time."""
        if type(method) is ChannelMethods.CloseOk:
            del self._channels[number]
        elif type(method) is ChannelMethods.Close:
            self._send(ChannelMethods.CloseOk(), number)
        elif type(method) is ChannelMethods.Open:
            raise Refused(504, "second 'channel.open' seen")

    def _send(self, method: Any, number: int) -> None:
        self._output.write(method_frame(number, method))
