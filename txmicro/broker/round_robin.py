"""Whose turn it is among the consumers of a queue."""

from __future__ import annotations

from collections import deque

from .consumers import Consumer


class RoundRobin:
    """Consumers that may be able to take a message: those of the highest priority first, equals in turn."""

    __slots__ = ("_by_priority", "_levels")

    def __init__(self) -> None:
        self._by_priority: dict[int, deque[Consumer]] = {}
        self._levels: list[deque[Consumer]] = []

    def add(self, consumer: Consumer) -> None:
        """Let *consumer* have its turn after its equals."""
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
        """Forget all."""
        self._by_priority.clear()
        self._levels.clear()

    def next(self) -> Consumer | None:
        """Return who takes the next message; None: nobody can. Park those found unable to."""
        for level in self._levels:
            while level:
                consumer = level[0]
                if consumer.unacked < consumer.prefetch and consumer.channel.session.writable:
                    level.rotate(-1)
                    return consumer
                level.popleft()
                consumer.parked = True
        return None
