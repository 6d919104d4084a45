"""How the broker says no: AMQP 0-9-1 reply codes, with RabbitMQ's names for them."""

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
    :ivar text: the reply text, as RabbitMQ writes it: the code's name, a dash, what was wrong.
    """

    def __init__(self, code: int, detail: str) -> None:
        self.code = code
        self.text = f"{_NAMES[code]} - {detail}"
        super().__init__(self.text)

    @property
    def soft(self) -> bool:
        """Whether it closes only the channel; otherwise it closes the connection."""
        return self.code in _SOFT
