"""A set of keys that are forgotten after some time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator


class ExpiringKeys:
    """A set of keys, each of which is kept for the same time.

    :param seconds: how long a key is kept. :param most: the most keys; then the oldest one is forgotten.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: str) -> bool:
        return key in self._until

    def __iter__(self) -> Iterator[str]:
        return iter(self._until)

    def add(self, key: str, now: float) -> None:
        """Add *key* at the time *now*, or keep it again for the whole time."""
        self._until[key] = now + self._seconds
        self._until.move_to_end(key)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def pop(self, key: str) -> bool:
        """Remove *key*, and return whether it was there."""
        return self._until.pop(key, None) is not None

    def forget(self, now: float) -> None:
        """Remove the keys that have expired at the time *now*."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)

    def clear(self) -> None:
        """Remove all keys."""
        self._until.clear()
