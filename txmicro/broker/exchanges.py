"""Exchanges: they route messages to queues."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from .errors import Refused
from .queues import Queue
from .topics import TopicTrie


class Exchange:
    """The base class of all exchanges: a name, the declared properties, and the bindings.

    Subclasses implement :meth:`route`, and update their data for it in :meth:`added` and :meth:`removed`.

    :ivar bindings: pairs of a binding key and a queue.
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
        """Return the queues for a message with the routing key *key* and these *headers*, each once."""
        raise NotImplementedError

    def binding_key(self, key: str, arguments: dict[str, Any]) -> str:
        """Return what identifies a binding of a queue. Raises :class:`Refused` (406) for invalid *arguments*."""
        return key

    def bind(self, key: str, queue: Queue) -> None:
        """Route messages with *key* to *queue*. Do nothing if the binding exists."""
        if (key, queue) not in self.bindings:
            self.bindings.add((key, queue))
            self.added(key, queue)

    def unbind(self, key: str, queue: Queue) -> None:
        """Undo :meth:`bind`. Do nothing if there is no such binding."""
        if (key, queue) in self.bindings:
            self.bindings.remove((key, queue))
            self.removed(key, queue)

    def added(self, key: str, queue: Queue) -> None:
        """Note a new binding."""
        raise NotImplementedError

    def removed(self, key: str, queue: Queue) -> None:
        """Note that a binding was removed."""
        raise NotImplementedError


class Direct(Exchange):
    """Routes a message to the queues that are bound with its routing key."""

    kind = "direct"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._routes: dict[str, tuple[Queue, ...]] = {}

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """Return the queues bound with *key*."""
        return self._routes.get(key, ())

    def added(self, key: str, queue: Queue) -> None:
        """Route *key* to *queue*, too."""
        self._routes[key] = (*self._routes.get(key, ()), queue)

    def removed(self, key: str, queue: Queue) -> None:
        """Route *key* to the other queues only."""
        others = tuple(other for other in self._routes.pop(key) if other is not queue)
        if others:
            self._routes[key] = others


class Fanout(Exchange):
    """Routes every message to every bound queue."""

    kind = "fanout"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._queues: tuple[Queue, ...] = ()

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """Return all bound queues."""
        return self._queues

    def added(self, key: str, queue: Queue) -> None:
        """Route to *queue*, too."""
        self._collect()

    def removed(self, key: str, queue: Queue) -> None:
        """Route to *queue* only if it is also bound with another key."""
        self._collect()

    def _collect(self) -> None:
        self._queues = tuple({queue: None for _key, queue in self.bindings})


class Topic(Exchange):
    """Routes by patterns of words (:mod:`.topics`)."""

    kind = "topic"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._trie: TopicTrie[Queue] = TopicTrie()

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """Return the queues bound with a pattern that *key* matches."""
        return self._trie.match(key)

    def added(self, key: str, queue: Queue) -> None:
        """Route keys that match the pattern *key* to *queue*, too."""
        self._trie.add(key, queue)

    def removed(self, key: str, queue: Queue) -> None:
        """Undo :meth:`added`."""
        self._trie.remove(key, queue)


class Headers(Exchange):
    """Routes by the message's headers, which it compares with the arguments of bindings. Keys do not matter."""

    kind = "headers"

    def __init__(self, name: str, **declared: Any) -> None:
        super().__init__(name, **declared)
        self._rules: dict[str, _Rule] = {}

    def binding_key(self, key: str, arguments: dict[str, Any]) -> str:
        """Return one text for key and arguments, and note the rule that they make."""
        rule = _Rule(arguments)
        binding = f"{key} {sorted(arguments.items(), key=itemgetter(0))}"
        self._rules[binding] = rule
        return binding

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """Return the queues whose arguments *headers* match."""
        return tuple({queue: None for key, queue in self.bindings if self._rules[key].matches(headers)})

    def unbind(self, key: str, queue: Queue) -> None:
        """Undo :meth:`bind`, and forget the rule if no other queue is bound with it."""
        super().unbind(key, queue)
        if not any(other == key for other, _queue in self.bindings):
            self._rules.pop(key, None)

    def added(self, key: str, queue: Queue) -> None:
        """Do nothing: :meth:`binding_key` has noted the rule."""

    def removed(self, key: str, queue: Queue) -> None:
        """Do nothing: :meth:`unbind` forgets the rule."""


class _Rule:
    """The headers that a binding's arguments require: https://www.rabbitmq.com/tutorials/amqp-concepts."""

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
        """Return whether *headers* have all, or any, of the wanted values. A wanted None matches any value."""
        return self._count(
            name in headers and (value is None or _same(value, headers[name]))
            for name, value in self._wanted.items()
        )


def _same(wanted: Any, value: Any) -> bool:
    return type(wanted) is type(value) and bool(wanted == value)


_MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")


class Default(Exchange):
    """The exchange with the empty name: every queue is bound to it with the queue's name."""

    kind = "direct"

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        super().__init__("", durable=True, auto_delete=False, internal=False, arguments={})
        self._named = queues

    def route(self, key: str, headers: Mapping[str, Any]) -> tuple[Queue, ...]:
        """Return the queue of that name."""
        queue = self._named.get(key)
        return () if queue is None else (queue,)


KINDS: Final[dict[str, type[Exchange]]] = {kind.kind: kind for kind in (Direct, Fanout, Topic, Headers)}


def routed(exchange: Exchange, keys: Iterable[str], headers: Mapping[str, Any]) -> Collection[Queue]:
    """Return the queues that a message with any of *keys* is routed to, each once."""
    return dict.fromkeys(queue for key in keys for queue in exchange.route(key, headers))
