"""Exchanges: from a routing key to queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from .errors import Refused
from .queues import Queue
from .topics import TopicTrie


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

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """The queues that a message with *key* and *headers* goes to, each once."""
        raise NotImplementedError

    def key(self, key: str, arguments: dict[str, Any]) -> str:
        """What tells a queue's bindings apart; raises :class:`Refused` (406) for senseless arguments."""
        return key

    def bind(self, key: str, queue: Queue) -> None:
        """Let messages with *key* go to *queue*; nothing if they do."""
        if (key, queue) not in self.bindings:
            self.bindings.add((key, queue))
            self.added(key, queue)

    def unbind(self, key: str, queue: Queue) -> None:
        """Undo :meth:`bind`; nothing if it was not done."""
        if (key, queue) in self.bindings:
            self.bindings.remove((key, queue))
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

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
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

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
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

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """The queues bound with a pattern that *key* matches."""
        return self._trie.match(key)

    def added(self, key: str, queue: Queue) -> None:
        """Route what matches *key* to *queue* too."""
        self._trie.add(key, queue)

    def removed(self, key: str, queue: Queue) -> None:
        """Undo :meth:`added`."""
        self._trie.remove(key, queue)


class Headers(Exchange):
    """Binding arguments are compared with the message's headers; keys play no part."""

    kind = "headers"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._rules: dict[str, _Rule] = {}

    def key(self, key: str, arguments: dict[str, Any]) -> str:
        """One text for key and arguments, and the rule that they make."""
        rule = _Rule(arguments)
        told = f"{key} {sorted(arguments.items(), key=itemgetter(0))}"
        self._rules[told] = rule
        return told

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """The queues bound with what *headers* has."""
        return tuple({queue: None for told, queue in self.bindings if self._rules[told].matches(headers)})

    def unbind(self, key: str, queue: Queue) -> None:
        """Undo :meth:`bind`, and forget the rule if nobody else is bound with it."""
        super().unbind(key, queue)
        if not any(told == key for told, _queue in self.bindings):
            self._rules.pop(key, None)

    def added(self, key: str, queue: Queue) -> None:
        """The rule is known from :meth:`key`."""

    def removed(self, key: str, queue: Queue) -> None:
        """:meth:`unbind` forgets the rule."""


class _Rule:
    """What the arguments of a binding ask of headers: https://www.rabbitmq.com/tutorials/amqp-concepts."""

    __slots__ = ("_count", "_wanted")

    def __init__(self, arguments: dict[str, Any]) -> None:
        match = arguments.get("x-match", "all")
        if match not in _MATCHES:
            raise Refused(
                406, f"Invalid x-match field value '{match!s:.100}'; expected {', '.join(_MATCHES)}"
            )
        self._count: Callable[[Iterable[bool]], bool] = any if match.startswith("any") else all
        with_x = match.endswith("-with-x")
        self._wanted = {
            name: value
            for name, value in arguments.items()
            if name != "x-match" and (with_x or not name.startswith("x-"))
        }

    def matches(self, headers: Mapping[str, Any]) -> bool:
        """Whether *headers* has all, or any, of what is wanted; a wanted None: with any value."""
        return self._count(
            name in headers and (value is None or _same(value, headers[name]))
            for name, value in self._wanted.items()
        )


def _same(wanted: Any, value: Any) -> bool:
    return type(wanted) is type(value) and bool(wanted == value)


_MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")


class Default(Exchange):
    """The exchange without a name: every queue is bound to it with its own name, and to nothing else."""

    kind = "direct"

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        super().__init__("", durable=True, auto_delete=False, internal=False, arguments={})
        self._named = queues

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """The queue of that name."""
        queue = self._named.get(key)
        return () if queue is None else (queue,)


KINDS: Final[dict[str, type[Exchange]]] = {kind.kind: kind for kind in (Direct, Fanout, Topic, Headers)}
