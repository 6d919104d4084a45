"""The deliveries of a channel that expect an acknowledgement. No I/O."""

from __future__ import annotations

from math import inf


class Deliveries:
    """Combines the acknowledgements of one turn of the reactor into as few frames as possible.

    Protocol: an ack with ``multiple`` covers all deliveries of its channel up to its tag (AMQP 0-9-1, basic.ack).
    """

    __slots__ = ("_done", "_open")

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # by tag; in ascending order, because brokers count up
        self._done: list[int] = []

    def arrived(self, tag: int) -> None:
        """Note that the delivery *tag* expects an acknowledgement."""
        self._open[tag] = None

    def done(self, tag: int) -> bool:
        """Note that *tag* is to be acknowledged. Return whether it is the first one since :meth:`take`."""
        self._open.pop(tag, None)
        self._done.append(tag)
        return len(self._done) == 1

    def rejected(self, tag: int) -> None:
        """Note that *tag* was rejected."""
        self._open.pop(tag, None)

    def take(self) -> list[tuple[int, bool]]:
        """Return the acknowledgements that are due, as tag and ``multiple``.

        One of them covers all tags before the first open one; each later tag has its own.
        """
        done, self._done = sorted(self._done), []
        first_open = next(iter(self._open), inf)
        covered = [tag for tag in done if tag < first_open]
        alone = [(tag, False) for tag in done[len(covered) :]]
        return [(covered[-1], len(covered) > 1), *alone] if covered else alone
