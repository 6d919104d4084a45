"""Exchanges: from a routing key to queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .topics import TopicTrie

if TYPE_CHECKING:
    from .queues import Queue


class Exchange:
    """What all kinds share: a name, how it was declared, and its bindings.

    Subclasses answer :meth:`route` and keep what they need for it in :meth:`added` and :meth:`removed`.
    """

    kind = ""

    def __init__(
        self, name: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: dict[str, Any]
    ):
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        self.bindings: set[tuple[str, Queue]] = set()

    def route(self, key: str) -> tuple[Queue, ...]:
        """The queues that a message with *key* goes to, each once."""
        raise NotImplementedError

    def bind(self, key: str, queue: Queue) -> None:
        """Let messages with *key* go to *queue*; nothing if they do."""
        if (key, queue) not in self.bindings:
            self.bindings.add((key, queue))
            queue.bindings.add((key, self))
            self.added(key, queue)

    def unbind(self, key: str, queue: Queue) -> None:
        """Undo :meth:`bind`; nothing if it was not done."""
        if (key, queue) in self.bindings:
            self.bindings.remove((key, queue))
            queue.bindings.remove((key, self))
            self.removed(key, queue)

    def added(self, key: str, queue: Queue) -> None:
        """A binding is new."""
        raise NotImplementedError

    def removed(self, key: str, queue: Queue) -> None:
        """A binding is gone."""
        raise NotImplementedError


class Direct(Exchange):
    """The routing key is the binding's key."""

    kind = "direct"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._routes: dict[str, tuple[Queue, ...]] = {}

    def route(self, key: str) -> tuple[Queue, ...]:
        """The queues bound with *key*."""
        return self._routes.get(key, ())

    def added(self, key: str, queue: Queue) -> None:
        """Route *key* to *queue* too."""
        self._routes[key] = (*self._routes.get(key, ()), queue)

    def removed(self, key: str, queue: Queue) -> None:
        """Route *key* to the others only."""
        others = tuple(other for other in self._routes.pop(key) if other is not queue)
        if others:
            self._routes[key] = others


class Fanout(Exchange):
    """Every message goes to every queue."""

    kind = "fanout"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._queues: tuple[Queue, ...] = ()

    def route(self, key: str) -> tuple[Queue, ...]:
        """All bound queues."""
        return self._queues

    def added(self, key: str, queue: Queue) -> None:
        """Route to *queue* too."""
        self._collect()

    def removed(self, key: str, queue: Queue) -> None:
        """Route to *queue* only if it is bound with another key."""
        self._collect()

    def _collect(self) -> None:
        self._queues = tuple({queue: None for _key, queue in self.bindings})


class Topic(Exchange):
    """Binding keys are patterns of words (:mod:`.topics`)."""

    kind = "topic"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._trie: TopicTrie[Queue] = TopicTrie()

    def route(self, key: str) -> tuple[Queue, ...]:
        """The queues bound with a pattern that *key* matches."""
        return self._trie.match(key)

    def added(self, key: str, queue: Queue) -> None:
        """Route what matches *key* to *queue* too."""
        self._trie.add(key, queue)

    def removed(self, key: str, queue: Queue) -> None:
        """Undo :meth:`added`."""
        self._trie.remove(key, queue)


class Default(Exchange):
    """The exchange without a name: every queue is bound to it with its own name, and to nothing else."""

    kind = "direct"

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        super().__init__("", durable=True, auto_delete=False, internal=False, arguments={})
        self._named = queues

    def route(self, key: str) -> tuple[Queue, ...]:
        """The queue of that name."""
        queue = self._named.get(key)
        return () if queue is None else (queue,)


KINDS: Final[dict[str, type[Exchange]]] = {kind.kind: kind for kind in (Direct, Fanout, Topic)}
