"""The deliveries of a channel that want an acknowledgement. No I/O."""

from __future__ import annotations

from math import inf


class Deliveries:
    """Acknowledgements of one turn, in as few frames as can be.

    Protocol: an ack with ``multiple`` covers all deliveries of its channel up to its tag (AMQP 0-9-1, basic.ack).
    """

    __slots__ = ("_done", "_open")

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # by tag; in their order, as a broker counts up
        self._done: list[int] = []

    def arrived(self, tag: int) -> None:
        """The delivery *tag* wants an acknowledgement."""
        self._open[tag] = None

    def done(self, tag: int) -> bool:
        """It is to be acknowledged; whether it is the first one since :meth:`take`."""
        self._open.pop(tag, None)
        self._done.append(tag)
        return len(self._done) == 1

    def rejected(self, tag: int) -> None:
        """It has been given back."""
        self._open.pop(tag, None)

    def take(self) -> list[tuple[int, bool]]:
        """The acknowledgements that are due, tag and ``multiple``: one for all before the first that is still open."""
        done, self._done = sorted(self._done), []
        first_open = next(iter(self._open), inf)
        covered = [tag for tag in done if tag < first_open]
        alone = [(tag, False) for tag in done[len(covered) :]]
        return [(covered[-1], len(covered) > 1), *alone] if covered else alone
