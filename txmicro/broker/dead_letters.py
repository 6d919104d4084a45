"""Dead letters: dropped messages that are published to the dead letter exchange of their queue.

https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from .death_header import REJECTED, is_cycle, with_death
from .exchanges import Exchange, routed
from .messages import Message
from .properties import cc_keys


class DeadLetters:
    """Publishes dropped messages.

    :param exchanges: all exchanges, by name.
    :param now: returns Unix time in seconds, for the history of dead letters.
    """

    def __init__(self, exchanges: Mapping[str, Exchange], now: Callable[[], float]) -> None:
        self._exchanges = exchanges
        self._now = now
        self._dropping = False
        self._dropped: deque[tuple[Message, str]] = deque()

    def drop(self, message: Message, reason: str) -> None:
        """Publish *message*, and call ``dead_lettered`` of its queue with the result.

        A dead letter may drop another message. That message follows after this one, so that the stack does not grow.
        """
        self._dropped.append((message, reason))
        if self._dropping:
            return
        self._dropping = True
        try:
            while self._dropped:
                message, reason = self._dropped.popleft()
                message.queue.dead_lettered(message, reason, self._publish(message, reason))
        finally:
            self._dropping = False

    def _publish(self, message: Message, reason: str) -> bool:
        """Publish *message*, if its queue has a dead letter exchange.

        Returns False when no queue has taken it, or when one refused it.
        """
        options = message.queue.options
        if options.dead_letter_exchange is None:
            return True
        exchange = self._exchanges.get(options.dead_letter_exchange)
        key = message.routing_key if options.dead_letter_key is None else options.dead_letter_key
        keys = [key, *(cc_keys(message.properties) if options.dead_letter_key is None else ())]
        queues = () if exchange is None else routed(exchange, keys, message.properties.headers or {})
        properties = with_death(message, reason, self._now())
        stored = [
            queue.push(options.dead_letter_exchange, key, properties, message.body, None)
            for queue in queues
            if reason == REJECTED or not is_cycle(properties, queue.name)
        ]
        return bool(queues) and all(stored)
