"""The errors with which the broker refuses requests: AMQP 0-9-1 reply codes, with RabbitMQ's names for them."""

from __future__ import annotations

from typing import Final

from txmicro.errors import TxmicroError

_NAMES: Final = {
    311: "CONTENT_TOO_LARGE",
    320: "CONNECTION_FORCED",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
}
_SOFT: Final = frozenset({311, 403, 404, 405, 406})


class Refused(TxmicroError):
    """A request that the broker refuses.

    :ivar code: the AMQP reply code.
    :ivar text: the reply text in RabbitMQ's form: the name of the code, a dash, and the details.
    :ivar soft: whether it closes only the channel; otherwise it closes the connection.
    """

    soft = False

    def __init__(self, code: int, detail: str) -> None:
        self.code = code
        self.soft = self.soft or code in _SOFT
        self.text = f"{_NAMES[code]} - {detail}"
        super().__init__(self.text)

    def close_arguments(self, index: int) -> tuple[int, str, int, int]:
        """Return the arguments of the ``close`` method for it.

        :param index: the index of the refused method; 0: none.
        """
        text = self.text.encode()[:255].decode(errors="ignore")
        return self.code, text, index >> 16, index & 0xFFFF


class Unsupported(Refused):
    """A request for a feature that RabbitMQ has and this broker does not have.

    It closes only the channel, although 540 is a code that closes connections. So libraries that probe for features
    keep their connection, as on RabbitMQ.
    """

    soft = True

    def __init__(self, detail: str) -> None:
        super().__init__(540, detail)
