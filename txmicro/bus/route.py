"""Where the messages for one address are published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .session import Session

_MOST: Final = 10_000


class Route(NamedTuple):
    """How one address is reached on one session.

    :ivar frame: the frame that says so before each message (``basic.publish``).
    """

    exchange: str
    routing_key: str
    frame: bytes


class Routes:
    """The routes of one kind of message, each made once per session.

    Only routes whose exchange is known to exist are kept.

    :param resolve: returns the exchange and the routing key of an address.
    """

    def __init__(self, resolve: Callable[[str], tuple[str, str]]) -> None:
        self._resolve = resolve
        self.known: dict[str, Route] = {}

    def make(self, session: Session, address: str) -> Route:
        """Return the route of *address*, and keep it if its exchange is known to exist."""
        exchange, key = self._resolve(address)
        route = Route(exchange, key, session.frame(exchange, key, mandatory=True))
        if session.knows(exchange):
            if (
                len(self.known) >= _MOST
            ):  # addresses come and go: forget them all rather than grow without end
                self.known.clear()
            self.known[address] = route
        return route
