"""Topic matching: ``*`` matches one word, ``#`` any number of words; words are separated by dots."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_CACHED: Final = 4096  # keys


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


class _Node(Generic[T]):
    __slots__ = ("many", "targets", "words")

    def __init__(self, word: str = "") -> None:
        self.many = word == "#"
        self.words: dict[str, _Node[T]] = {}
        self.targets: dict[T, None] = {}


def _with_hashes(nodes: Iterable[_Node[T]]) -> dict[_Node[T], None]:
    """Return *nodes*, and the nodes that a ``#`` after them reaches without another word."""
    found: dict[_Node[T], None] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        found[node] = None
        if "#" in node.words:
            waiting.append(node.words["#"])
    return found


class TopicTrie(Generic[T]):
    """Finds the targets of the patterns that a routing key matches.

    Results are cached until the patterns change, so a repeated key costs one dictionary lookup.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._known: dict[str, tuple[T, ...]] = {}

    def add(self, pattern: str, target: T) -> None:
        """Add *target* for keys that match *pattern*."""
        node = self._root
        for word in _words(pattern):
            node = node.words.setdefault(word, _Node(word))
        node.targets[target] = None
        self._known.clear()

    def remove(self, pattern: str, target: T) -> None:
        """Undo one :meth:`add`. Do nothing if there was none."""
        path = [self._root]
        words = _words(pattern)
        for word in words:
            node = path[-1].words.get(word)
            if node is None:
                return
            path.append(node)
        path[-1].targets.pop(target, None)
        while words and not (path[-1].targets or path[-1].words):
            path.pop()
            del path[-1].words[words.pop()]
        self._known.clear()

    def match(self, key: str) -> tuple[T, ...]:
        """Return the targets of the patterns that *key* matches, each once."""
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[key] = tuple(self._walk(_words(key)))
        return known

    def _walk(self, words: list[str]) -> dict[T, None]:
        """Follow all patterns at once, one word of the key after the other."""
        nodes = _with_hashes([self._root])
        for word in words:
            nodes = _with_hashes(
                after
                for node in nodes
                for after in (node if node.many else None, node.words.get(word), node.words.get("*"))
                if after is not None
            )
        targets: dict[T, None] = {}
        for node in nodes:
            targets.update(node.targets)
        return targets
