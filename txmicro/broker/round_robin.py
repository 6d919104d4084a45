"""Chooses the consumer of a queue that gets the next message."""

from __future__ import annotations

from collections import deque

from .consumers import Consumer


class RoundRobin:
    """The active consumers of a queue: the highest priority first, and in turn within a priority."""

    __slots__ = ("_by_priority", "_levels")

    def __init__(self) -> None:
        self._by_priority: dict[int, deque[Consumer]] = {}
        self._levels: list[deque[Consumer]] = []

    def add(self, consumer: Consumer) -> None:
        """Add *consumer*, after the others of its priority."""
        level = self._by_priority.get(consumer.priority)
        if level is None:
            level = self._add_level(consumer.priority)
        level.append(consumer)

    def _add_level(self, priority: int) -> deque[Consumer]:
        used = {known: level for known, level in self._by_priority.items() if level}
        used[priority] = deque()
        self._by_priority = dict(sorted(used.items(), reverse=True))
        self._levels = list(self._by_priority.values())
        return used[priority]

    def remove(self, consumer: Consumer) -> None:
        """Undo :meth:`add`."""
        self._by_priority[consumer.priority].remove(consumer)

    def clear(self) -> None:
        """Remove all consumers."""
        self._by_priority.clear()
        self._levels.clear()

    def next(self) -> Consumer | None:
        """Return the consumer for the next message; None: none can take it.

        Consumers that cannot take a message now are removed, and marked as inactive.
        """
        for level in self._levels:
            while level:
                consumer = level[0]
                if consumer.unacked < consumer.prefetch and consumer.channel.session.writable:
                    level.rotate(-1)
                    return consumer
                level.popleft()
                consumer.inactive = True
        return None
