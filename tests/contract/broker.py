"""The contract of a broker for txmicro, tested with pika, an independent client.

A test case derives from :class:`BrokerContract` and trial's TestCase, and starts its broker. The tests do not wait
for real time: they wait for the dead letter of a message that expires.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pamqp.commands import Channel, Connection, Exchange, Queue
from pika import BasicProperties, PlainCredentials, URLParameters
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConsumerCancelled,
    NackError,
    UnroutableError,
)
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from txmicro.amqp.frames import HEARTBEAT, PROTOCOL_HEADER, content_frames, method_frame, publish_prefix

reactor: Any = _reactor

BYE = Connection.Close(200, "bye", 0, 0)


class BrokerContract:
    """The tests of the contract. :meth:`start_broker` sets ``url``."""

    url: str
    timeout = 60

    @property
    def rabbitmq4(self) -> bool:
        """Return whether the broker is RabbitMQ 4."""
        properties = self.connection._impl.server_properties
        return properties["product"] == "RabbitMQ" and self.version >= (4,)

    async def start_broker(self) -> None:
        """Start a broker, and set ``url``."""
        raise NotImplementedError

    async def alarm(self, on: bool) -> None:
        """Raise the broker's memory alarm, or end it."""
        raise NotImplementedError

    def setUp(self) -> Any:
        return Deferred.fromCoroutine(self._set_up())

    def tearDown(self) -> Any:
        return Deferred.fromCoroutine(self._tear_down())

    async def _set_up(self) -> None:
        self.connections: list[TwistedProtocolConnection] = []
        await self.start_broker()
        self.connection = await self.connect()
        self.channel = await self.open_channel()
        await self.channel.confirm_delivery()

    async def _tear_down(self) -> None:
        for connection in self.connections:
            if connection.closed is not None:
                await connection.close()

    # Helpers for tests

    def endpoint(self) -> TCP4ClientEndpoint:
        parameters = URLParameters(self.url)
        return TCP4ClientEndpoint(reactor, parameters.host, parameters.port)

    async def connect(self, **changes: Any) -> Any:
        parameters = URLParameters(self.url)
        for name, value in changes.items():
            setattr(parameters, name, value)
        connection = await connectProtocol(self.endpoint(), TwistedProtocolConnection(parameters))
        await connection.ready
        self.connections.append(connection)
        return connection

    async def open_channel(self, connection: Any = None) -> Any:
        return await (connection or self.connection).channel()

    @property
    def version(self) -> tuple[int, ...]:
        """Return the version of RabbitMQ. The embedded broker behaves like 4.0 where versions differ."""
        properties = self.connection._impl.server_properties
        if properties["product"] != "RabbitMQ":
            return (4, 0)
        return tuple(int(number) for number in properties["version"].split(".")[:2])

    def name(self) -> str:
        return f"contract.{uuid4().hex}"

    async def declare(self, **declared: Any) -> str:
        """Declare a new queue, which is deleted with the connection by default; return its name."""
        declared.setdefault("exclusive", True)
        reply = await self.channel.queue_declare(self.name(), **declared)
        return str(reply.method.queue)

    async def declare_exchange(self, kind: str = "direct", **declared: Any) -> str:
        name = self.name()
        declared.setdefault("auto_delete", True)
        await self.channel.exchange_declare(name, kind, **declared)
        return name

    async def publish(self, key: str, body: bytes = b"", exchange: str = "", **properties: Any) -> None:
        """Publish with the mandatory flag, and wait for the confirm."""
        await self.channel.basic_publish(exchange, key, body, BasicProperties(**properties), mandatory=True)

    async def consume(self, queue: str, channel: Any = None, **options: Any) -> Any:
        deliveries, _tag = await (channel or self.channel).basic_consume(queue, **options)
        return deliveries

    async def count(self, queue: str) -> int:
        """Return how many messages are ready."""
        reply = await self.channel.queue_declare(queue, passive=True)
        return int(reply.method.message_count)

    async def count_elsewhere(self, queue: str) -> int:
        """Return how many messages are ready, on a new channel."""
        self.channel = await self.open_channel()
        return await self.count(queue)

    async def bodies(self, queue: str) -> list[bytes]:
        """Take all ready messages from *queue*; return their bodies."""
        bodies = []
        while (message := await self.channel.basic_get(queue, auto_ack=True)) is not None:
            bodies.append(message.body)
        return bodies

    async def refusal(self, asked: Any) -> tuple[int, str]:
        """Return the code and text with which the broker closes the channel because of the request *asked*."""
        error = await self.failure(asked, ChannelClosedByBroker)
        return error.reply_code, error.reply_text

    async def failure(self, asked: Any, kind: type[Exception]) -> Any:
        try:
            await asked
        except kind as error:
            return error
        raise self.failureException(f"no {kind.__name__}")  # type: ignore[attr-defined]

    # Publish and consume

    async def test_a_message_arrives_as_it_was_sent(self: Any) -> None:
        exchange, queue = await self.declare_exchange(), await self.declare()
        await self.channel.queue_bind(queue, exchange, "clé")
        sent = {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "headers": {"text": "ü", "int": 2**40, "flag": True, "nothing": None, "list": [1, {"a": "b"}]},
            "delivery_mode": 2,
            "priority": 3,
            "correlation_id": "c",
            "reply_to": "r",
            "expiration": "60000",
            "message_id": "m",
            "timestamp": 1_795_449_588,
            "type": "t",
            "user_id": "guest",
            "app_id": "a",
        }
        await self.publish("clé", b"\x00\xff\xce", exchange, **sent)
        message = await (await self.consume(queue)).get()
        self.assertEqual(message.body, b"\x00\xff\xce")
        self.assertEqual({name: getattr(message.properties, name) for name in sent}, sent)
        self.assertEqual(
            (message.method.exchange, message.method.routing_key, message.method.redelivered),
            (exchange, "clé", False),
        )

    async def test_empty_and_large_bodies(self: Any) -> None:
        queue = await self.declare()
        bodies = [b"", b"x" * 131_064, b"y" * 131_065, b"z" * 1_000_000]
        for body in bodies:
            await self.publish(queue, body)
        self.assertEqual(await self.bodies(queue), bodies)

    async def test_messages_keep_their_order(self: Any) -> None:
        queue = await self.declare()
        deliveries = await self.consume(queue, auto_ack=True)
        for number in range(50):
            await self.publish(queue, b"%d" % number)
        received = [(await deliveries.get()).body for _ in range(50)]
        self.assertEqual(received, [b"%d" % number for number in range(50)])

    async def test_consumers_take_turns(self: Any) -> None:
        queue = await self.declare()
        first, second = await self.consume(queue), await self.consume(queue)
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        self.assertEqual([(await first.get()).body for _ in range(2)], [b"0", b"2"])
        self.assertEqual([(await second.get()).body for _ in range(2)], [b"1", b"3"])

    async def test_get_takes_one_message(self: Any) -> None:
        queue = await self.declare()
        self.assertIsNone(await self.channel.basic_get(queue))
        await self.publish(queue, b"one")
        await self.publish(queue, b"two")
        message = await self.channel.basic_get(queue)
        self.assertEqual((message.body, message.method.message_count), (b"one", 1))

    async def test_a_cancelled_consumer_gets_nothing_more_and_keeps_what_it_has(self: Any) -> None:
        queue = await self.declare()
        deliveries, tag = await self.channel.basic_consume(queue)
        await self.publish(queue, b"one")
        message = await deliveries.get()
        await self.channel.basic_cancel(tag)
        await self.publish(queue, b"two")
        self.assertEqual(await self.count(queue), 1)
        self.channel.basic_ack(message.method.delivery_tag)
        self.assertEqual(await self.bodies(queue), [b"two"])

    async def test_purge_drops_what_is_ready(self: Any) -> None:
        queue = await self.declare()
        for _ in range(3):
            await self.publish(queue)
        reply = await self.channel.queue_purge(queue)
        self.assertEqual((reply.method.message_count, await self.count(queue)), (3, 0))

    # Prefetch and acknowledgements

    async def test_prefetch_bounds_what_is_unacknowledged(self: Any) -> None:
        queue = await self.declare()
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        await self.channel.basic_qos(prefetch_count=2)
        deliveries = await self.consume(queue)
        await deliveries.get()
        second = await deliveries.get()
        self.assertEqual(await self.count(queue), 2)
        self.channel.basic_ack(second.method.delivery_tag, multiple=True)
        self.assertEqual([(await deliveries.get()).body for _ in range(2)], [b"2", b"3"])

    async def test_reject_drops(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        message = await self.channel.basic_get(queue)
        self.channel.basic_reject(message.method.delivery_tag, requeue=False)
        self.assertEqual(await self.bodies(queue), [])

    async def test_requeued_messages_return_to_their_places(self: Any) -> None:
        queue = await self.declare()
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        messages = [await self.channel.basic_get(queue) for _ in range(3)]
        self.channel.basic_reject(messages[1].method.delivery_tag, requeue=True)
        self.channel.basic_nack(messages[0].method.delivery_tag, requeue=True)
        self.channel.basic_nack(messages[2].method.delivery_tag, multiple=True, requeue=True)
        again = await self.channel.basic_get(queue, auto_ack=True)
        self.assertEqual((again.body, again.method.redelivered), (b"0", True))
        self.assertEqual(await self.bodies(queue), [b"1", b"2", b"3"])

    async def test_recover_requeues_all(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        await self.channel.basic_get(queue)
        await self.channel.basic_recover(requeue=True)
        again = await self.channel.basic_get(queue)
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_a_closed_channel_gives_back_what_it_had(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        other = await self.open_channel()
        deliveries = await self.consume(queue, other)
        await deliveries.get()
        other.close()
        again = await (await self.consume(queue)).get()
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_a_broken_connection_gives_back_what_it_had(self: Any) -> None:
        queue = await self.declare(exclusive=False, auto_delete=True)
        other = await self.connect()
        deliveries = await self.consume(queue, await self.open_channel(other))
        ours = await self.consume(queue)
        for body in (b"one", b"two"):
            await self.publish(queue, body)
        await deliveries.get()
        await ours.get()
        other.transport.abortConnection()
        again = await ours.get()
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_an_unknown_delivery_tag_closes_the_channel(self: Any) -> None:
        queue = await self.declare()
        self.channel.basic_ack(7)
        code, text = await self.refusal(self.channel.queue_purge(queue))
        self.assertEqual((code, text), (406, "PRECONDITION_FAILED - unknown delivery tag 7"))

    # Confirms and returns

    async def test_an_unroutable_message_is_returned_and_confirmed(self: Any) -> None:
        exchange = await self.declare_exchange()
        error = await self.failure(
            self.publish("nowhere", b"body", exchange, message_id="m"), UnroutableError
        )
        (returned,) = error.messages
        self.assertEqual((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        self.assertEqual((returned.method.exchange, returned.method.routing_key), (exchange, "nowhere"))
        self.assertEqual((returned.body, returned.properties.message_id), (b"body", "m"))

    async def test_a_returned_message_has_its_headers_in_any_order(self: Any) -> None:
        exchange = await self.declare_exchange()
        headers = {"txmicro-stored": 1, "b": "x", "a": 2**40, "traceparent": "t"}
        for id in ("m1", "m2"):
            returning = self.publish("nowhere", b"", exchange, message_id=id, headers=headers)
            (returned,) = (await self.failure(returning, UnroutableError)).messages
            self.assertEqual((returned.properties.message_id, returned.properties.headers), (id, headers))

    async def test_an_unroutable_message_that_need_not_arrive_is_confirmed(self: Any) -> None:
        exchange = await self.declare_exchange()
        await self.channel.basic_publish(exchange, "nowhere", b"")

    async def test_a_full_queue_refuses(self: Any) -> None:
        queue = await self.declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await self.publish(queue, b"one")
        await self.failure(self.publish(queue, b"two"), NackError)
        self.assertEqual(await self.bodies(queue), [b"one"])

    async def test_publishing_to_no_exchange_closes_the_channel(self: Any) -> None:
        other = await self.open_channel()
        await other.basic_publish("missing", "key", b"")
        code, text = await self.refusal(other.queue_declare("", exclusive=True))
        self.assertEqual((code, text), (404, "NOT_FOUND - no exchange 'missing' in vhost '/'"))

    # Routing

    async def routed(self, exchange: str, *keys: str) -> None:
        for key in keys:
            await self.channel.basic_publish(exchange, key, key.encode())

    async def test_a_direct_exchange_compares_keys(self: Any) -> None:
        exchange, one, two = await self.declare_exchange(), await self.declare(), await self.declare()
        await self.channel.queue_bind(one, exchange, "a")
        await self.channel.queue_bind(two, exchange, "a")
        await self.channel.queue_bind(two, exchange, "b")
        await self.routed(exchange, "a", "b", "c")
        self.assertEqual((await self.bodies(one), await self.bodies(two)), ([b"a"], [b"a", b"b"]))

    async def test_a_fanout_exchange_ignores_keys(self: Any) -> None:
        exchange, one, two = await self.declare_exchange("fanout"), await self.declare(), await self.declare()
        await self.channel.queue_bind(one, exchange, "a")
        await self.channel.queue_bind(two, exchange, "b")
        await self.routed(exchange, "c")
        self.assertEqual((await self.bodies(one), await self.bodies(two)), ([b"c"], [b"c"]))

    async def test_a_topic_exchange_matches_words(self: Any) -> None:
        exchange = await self.declare_exchange("topic")
        keys = ["", "a", "b", "a.b", "a.b.c", "a..c", "b.a", "a.c", "*", "#.b"]
        expected = {
            "#": keys,
            "*": ["a", "b", "*"],
            "a": ["a"],
            "a.#": ["a", "a.b", "a.b.c", "a..c", "a.c"],
            "a.*": ["a.b", "a.c"],
            "*.b": ["a.b", "#.b"],
            "#.b": ["b", "a.b", "#.b"],
            "a.*.c": ["a.b.c", "a..c"],
            "a.#.c": ["a.b.c", "a..c", "a.c"],
            "#.a.#": ["a", "a.b", "a.b.c", "a..c", "b.a", "a.c"],
            "#.#": keys,
            "*.#": keys[1:],
        }
        queues = {pattern: await self.declare() for pattern in expected}
        for pattern, queue in queues.items():
            await self.channel.queue_bind(queue, exchange, pattern)
        await self.routed(exchange, *keys)
        received = {
            pattern: [body.decode() for body in await self.bodies(queue)] for pattern, queue in queues.items()
        }
        self.assertEqual(received, expected)

    async def test_a_message_enters_a_queue_once(self: Any) -> None:
        exchange, queue = await self.declare_exchange("topic"), await self.declare()
        for pattern in ("a.*", "*.b", "#"):
            await self.channel.queue_bind(queue, exchange, pattern)
        await self.routed(exchange, "a.b")
        self.assertEqual(await self.bodies(queue), [b"a.b"])

    async def test_a_headers_exchange_compares_headers(self: Any) -> None:
        sent: list[Any] = [None, {"a": 1}, {"a": 2}, {"x-b": "c"}, {"a": 1, "x-b": "c"}, {"a": "1"}]
        for match, expected in (
            ("all", [1, 4]),
            ("any", [1, 4]),
            (None, [1, 4]),
            ("all-with-x", [4]),
            ("any-with-x", [1, 3, 4]),
        ):
            queue = await self.declare()
            arguments = {"a": 1, "x-b": "c"} | ({"x-match": match} if match else {})
            await self.channel.queue_bind(queue, "amq.headers", "", arguments=arguments)
            for number, headers in enumerate(sent):
                properties = BasicProperties(headers=headers)
                await self.channel.basic_publish("amq.headers", "", b"%d" % number, properties)
            self.assertEqual([int(body) for body in await self.bodies(queue)], expected, match)

    async def test_bindings_of_other_arguments_are_other_bindings(self: Any) -> None:
        queue = await self.declare()
        for arguments in (
            {"x-match": "any", "a": 1},
            {"x-match": "any", "b": None},
            {"x-match": "all", "c": 1},
        ):
            await self.channel.queue_bind(queue, "amq.match", "", arguments=arguments)
        await self.channel.queue_unbind(queue, "amq.match", "", arguments={"a": 1, "x-match": "any"})
        for name in "abc":
            properties = BasicProperties(headers={name: 1})
            await self.channel.basic_publish("amq.match", "", name.encode(), properties)
        self.assertEqual(await self.bodies(queue), [b"b", b"c"])
        asked = self.channel.queue_bind(queue, "amq.match", "", arguments={"x-match": "some"})
        self.assertEqual((await self.refusal(asked))[0], 406)

    async def test_copies_go_to_further_keys(self: Any) -> None:
        one, two, three = await self.declare(), await self.declare(), await self.declare()
        headers = {"CC": [two, one], "BCC": [three], "mine": 1}
        await self.publish(one, b"x", headers=headers)
        for queue in (one, two, three):
            message = await self.channel.basic_get(queue, auto_ack=True)
            self.assertEqual(message.method.routing_key, one)
            self.assertEqual(message.properties.headers, {"CC": [two, one], "mine": 1})
            self.assertIsNone(await self.channel.basic_get(queue, auto_ack=True))

    async def test_copies_that_are_no_list_are_refused(self: Any) -> None:
        queue = await self.declare()
        for name in ("CC", "BCC"):
            other = await self.open_channel()
            await other.basic_publish("", queue, b"", BasicProperties(headers={name: "key"}))
            code, text = await self.refusal(other.queue_purge(queue))
            self.assertEqual((code, "PRECONDITION_FAILED - invalid message" in text), (406, True), text)

    async def test_dead_letters_go_to_the_copies_too(self: Any) -> None:
        queue, dead = await self.dying(x_max_length=0)
        await self.publish(queue, b"x", headers={"CC": ["also"], "BCC": ["hidden"]})
        letter = await dead.get()
        self.assertEqual(letter.properties.headers["x-death"][0]["routing-keys"], [queue, "also"])

    async def test_another_users_name_is_refused(self: Any) -> None:
        queue, other = await self.declare(), await self.open_channel()
        await other.basic_publish("", queue, b"", BasicProperties(user_id="other"))
        code, text = await self.refusal(other.queue_purge(queue))
        words = "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'"
        self.assertEqual((code, text), (406, words))

    async def test_consumers_of_a_higher_priority_come_first(self: Any) -> None:
        queue = await self.declare()
        await self.channel.basic_qos(prefetch_count=2)
        low = await self.consume(queue)
        high = await self.consume(queue, arguments={"x-priority": 5})
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        self.assertEqual([(await high.get()).body for _ in range(2)], [b"0", b"1"])
        self.assertEqual([(await low.get()).body for _ in range(2)], [b"2", b"3"])
        asked = self.consume(queue, await self.open_channel(), arguments={"x-priority": "high"})
        self.assertEqual((await self.refusal(asked))[0], 406)

    async def test_exchanges_that_every_broker_has(self: Any) -> None:
        kinds = ("direct", "fanout", "topic", "headers")
        for name, kind in (*((f"amq.{kind}", kind) for kind in kinds), ("amq.match", "headers")):
            await self.channel.exchange_declare(name, kind, durable=True)
            asked = (await self.open_channel()).exchange_declare(name, kind, durable=False)
            self.assertEqual((await self.refusal(asked))[0], 406)

    async def test_line_feeds_in_names_are_stripped(self: Any) -> None:
        name = self.name()
        declare = method_frame(1, Queue.Declare(queue=f"{name}@#")).replace(b"@#", b"\r\n")
        client = await self.raw(*self.hello(60), method_frame(1, Channel.Open()), declare)
        await client.hear(name.encode() + bytes(8))  # pika waits for the name that it has sent
        await self.channel.queue_bind(f"{name}\n", "amq.\ndirect", name)
        await self.publish(name, b"x", "amq.direct")
        await self.channel.queue_delete(f"{name}\n")
        code, _text = await self.refusal(self.channel.queue_declare(name, passive=True))
        self.assertEqual(code, 404)
        client.transport.abortConnection()
        await client.gone

    async def test_unbind(self: Any) -> None:
        exchange, queue = await self.declare_exchange("topic", auto_delete=False), await self.declare()
        for pattern in ("a.#", "b.#"):
            await self.channel.queue_bind(queue, exchange, pattern)
        await self.channel.queue_unbind(queue, exchange, "a.#")
        await self.routed(exchange, "a.b", "b.b")
        self.assertEqual(await self.bodies(queue), [b"b.b"])
        await self.channel.exchange_delete(exchange)

    # Time to live and dead letters

    async def dying(self, key: str | None = None, **arguments: Any) -> tuple[str, Any]:
        """Declare a queue with *arguments*; return it with the consumer of its dead letters."""
        dead = await self.declare()
        exchange = await self.declare_exchange("topic")
        await self.channel.queue_bind(dead, exchange, "#")
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
        queue = await self.declare(arguments={"x-dead-letter-exchange": exchange, **arguments})
        return queue, await self.consume(dead)

    async def test_expired_messages_become_dead_letters(self: Any) -> None:
        queue, dead = await self.dying()
        await self.publish(queue, b"body", expiration="1", headers={"mine": "kept"})
        letter = await dead.get()
        self.assertEqual((letter.body, letter.properties.expiration), (b"body", None))
        self.assertEqual(letter.method.routing_key, queue)
        headers = letter.properties.headers
        (death,) = headers.pop("x-death")
        self.assertIsNotNone(death.pop("time"))
        self.assertEqual(
            death,
            {
                "count": 1,
                "reason": "expired",
                "queue": queue,
                "exchange": "",
                "routing-keys": [queue],
                "original-expiration": "1",
            },
        )
        which = ["first"] if self.version < (4,) else ["first", "last"]
        said = {"exchange": "", "queue": queue, "reason": "expired"}
        expected = {f"x-{when}-death-{what}": value for when in which for what, value in said.items()}
        self.assertEqual(headers, {"mine": "kept", **expected})

    async def test_a_queue_can_set_the_time_to_live(self: Any) -> None:
        queue, dead = await self.dying(x_message_ttl=1)
        await self.publish(queue, b"body", expiration="60000")
        self.assertEqual((await dead.get()).body, b"body")

    async def test_a_consumer_gets_a_message_that_lives_for_no_time(self: Any) -> None:
        queue, _dead = await self.dying(x_message_ttl=0)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        self.assertEqual((await deliveries.get()).body, b"body")

    async def test_rejected_messages_become_dead_letters(self: Any) -> None:
        queue, dead = await self.dying("another key")
        await self.publish(queue, b"body")
        message = await self.channel.basic_get(queue)
        self.channel.basic_nack(message.method.delivery_tag, requeue=False)
        letter = await dead.get()
        self.assertEqual((letter.body, letter.method.routing_key), (b"body", "another key"))
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "rejected")

    async def test_a_full_queue_drops_its_head_to_the_dead_letters(self: Any) -> None:
        queue, dead = await self.dying(x_max_length=1)
        await self.publish(queue, b"one")
        await self.publish(queue, b"two")
        letter = await dead.get()
        self.assertEqual(letter.body, b"one")
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "maxlen")
        self.assertEqual(await self.bodies(queue), [b"two"])

    async def test_a_queue_can_be_bounded_in_bytes(self: Any) -> None:
        queue = await self.declare(arguments={"x-max-length-bytes": 10})
        for body in (b"123456", b"1234", b"12345"):
            await self.publish(queue, body)
        self.assertEqual(await self.bodies(queue), [b"1234", b"12345"])

    async def test_dying_twice_is_counted(self: Any) -> None:
        queue, dead = await self.dying()
        await self.publish(queue, b"body")
        for _ in range(2):
            message = await self.channel.basic_get(queue)
            self.channel.basic_reject(message.method.delivery_tag, requeue=False)
            letter = await dead.get()
            await self.channel.basic_publish("", queue, letter.body, letter.properties)
        (death,) = letter.properties.headers["x-death"]
        # RabbitMQ 4 ignores an x-death header that a client publishes.
        self.assertEqual(death["count"], 1 if self.rabbitmq4 else 2)

    async def test_a_message_that_goes_round_by_itself_is_dropped(self: Any) -> None:
        exchange, last = await self.declare_exchange("fanout"), await self.declare()
        await self.channel.queue_bind(last, exchange, "")
        arguments = {"x-message-ttl": 1, "x-dead-letter-exchange": exchange}
        round_trip = await self.declare(arguments=arguments)
        await self.channel.queue_bind(round_trip, exchange, "")
        await self.publish(round_trip, b"body")
        await (await self.consume(last)).get()
        self.assertEqual(await self.count(round_trip), 0)

    async def test_a_retry_queue_gives_back_after_its_time(self: Any) -> None:
        work = await self.declare()
        retry = await self.declare(
            arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work}
        )
        deliveries = await self.consume(work)
        await self.publish(retry, b"again")
        self.assertEqual((await deliveries.get()).body, b"again")

    async def test_a_quorum_queue_counts_and_limits_deliveries(self: Any) -> None:
        dead, queue = await self.declare(), self.name()
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
        }
        await self.channel.queue_declare(queue, durable=True, arguments=arguments)
        self.addCleanup(self.channel.queue_delete, queue)
        letters = await self.consume(dead)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        seen = []
        for _ in range(2):
            message = await deliveries.get()
            seen.append((message.properties.headers or {}).get("x-delivery-count"))
            if self.version < (4, 3):
                self.channel.basic_nack(message.method.delivery_tag, requeue=True)
            else:
                self.channel.basic_reject(message.method.delivery_tag, requeue=True)
        letter = await letters.get()
        self.assertEqual(seen, [None, 1])
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "delivery_limit")

    async def test_a_nack_counts_as_a_delivery_until_4_3(self: Any) -> None:
        queue = self.name()
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5}
        await self.channel.queue_declare(queue, durable=True, arguments=arguments)
        self.addCleanup(self.channel.queue_delete, queue)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        message = await deliveries.get()
        self.channel.basic_nack(message.method.delivery_tag, requeue=True)
        message = await deliveries.get()
        headers = message.properties.headers or {}
        self.assertEqual(headers.get("x-delivery-count"), 1 if self.version < (4, 3) else None)
        self.assertTrue(message.method.redelivered)

    # The end of queues and exchanges

    async def test_an_auto_delete_queue_goes_with_its_last_consumer(self: Any) -> None:
        queue = await self.declare(exclusive=False, auto_delete=True)
        _deliveries, tag = await self.channel.basic_consume(queue)
        await self.channel.basic_cancel(tag)
        code, text = await self.refusal(self.channel.queue_declare(queue, passive=True))
        self.assertEqual((code, text), (404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"))

    async def test_an_auto_delete_exchange_goes_with_its_last_binding(self: Any) -> None:
        exchange, queue = await self.declare_exchange(), await self.declare()
        await self.channel.queue_bind(queue, exchange, "a")
        await self.channel.queue_delete(queue)
        code, _text = await self.refusal(self.channel.exchange_declare(exchange, passive=True))
        self.assertEqual(code, 404)

    async def test_an_unused_queue_expires(self: Any) -> None:
        queue = await self.declare(arguments={"x-expires": 20})
        try:
            while True:
                await self.publish(queue)
        except (UnroutableError, NackError):  # RabbitMQ 4.3 may lose the queue while it publishes
            pass

    async def test_an_exclusive_queue_is_its_connections_own(self: Any) -> None:
        owner = await self.connect()
        channel = await self.open_channel(owner)
        queue = (await channel.queue_declare("", exclusive=True)).method.queue
        code, text = await self.refusal((await self.open_channel()).basic_get(queue))
        self.assertEqual(code, 405)
        self.assertIn(f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}'", text)
        await owner.close()
        code, _text = await self.refusal((await self.open_channel()).queue_declare(queue, passive=True))
        self.assertEqual(code, 404)

    async def test_consumers_hear_that_their_queue_is_deleted(self: Any) -> None:
        queue = await self.declare()
        deliveries = await self.consume(queue)
        waiting = deliveries.get()
        await (await self.open_channel()).queue_delete(queue)
        await self.failure(waiting, ConsumerCancelled)

    async def test_delete_can_spare_what_is_in_use(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange()
        await self.publish(queue)
        asked = (await self.open_channel()).queue_delete(queue, if_empty=True)
        words = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"
        self.assertEqual(await self.refusal(asked), (406, words))
        await self.consume(queue)
        asked = (await self.open_channel()).queue_delete(queue, if_unused=True)
        words = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"
        self.assertEqual(await self.refusal(asked), (406, words))
        await self.channel.queue_bind(queue, exchange, "a")
        asked = (await self.open_channel()).exchange_delete(exchange, if_unused=True)
        words = f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"
        self.assertEqual(await self.refusal(asked), (406, words))

    async def test_what_is_missing_can_be_deleted(self: Any) -> None:
        await self.channel.queue_delete(self.name())
        await self.channel.exchange_delete(self.name())

    # Refused requests

    async def test_a_queue_cannot_change(self: Any) -> None:
        queue = await self.declare(exclusive=False, arguments={"x-message-ttl": 1000})
        self.addCleanup(self.channel.queue_delete, queue)
        await self.channel.queue_declare(queue, arguments={"x-message-ttl": 1000})
        for field, changed in (
            ("durable", {"durable": True, "arguments": {"x-message-ttl": 1000}}),
            ("auto_delete", {"auto_delete": True, "arguments": {"x-message-ttl": 1000}}),
            ("x-message-ttl", {"arguments": {"x-message-ttl": 1}}),
            ("x-message-ttl", {}),
        ):
            code, text = await self.refusal((await self.open_channel()).queue_declare(queue, **changed))
            self.assertEqual(code, 406)
            self.assertIn(f"inequivalent arg '{field}' for queue '{queue}' in vhost '/': received", text)

    async def test_an_exchange_cannot_change(self: Any) -> None:
        exchange = await self.declare_exchange("topic")
        await self.channel.exchange_declare(exchange, "topic", auto_delete=True)
        code, text = await self.refusal((await self.open_channel()).exchange_declare(exchange, "direct"))
        self.assertEqual(
            (code, text),
            (
                406,
                f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{exchange}' in vhost '/': "
                "received 'direct' but current is 'topic'",
            ),
        )

    async def test_what_is_missing_is_not_found(self: Any) -> None:
        queue = await self.declare()
        for ask in (
            lambda channel: channel.queue_declare("missing", passive=True),
            lambda channel: channel.exchange_declare("missing", passive=True),
            lambda channel: channel.basic_consume("missing"),
            lambda channel: channel.basic_get("missing"),
            lambda channel: channel.queue_purge("missing"),
            lambda channel: channel.queue_bind("missing", "missing", "a"),
            lambda channel: channel.queue_bind(queue, "missing", "a"),
        ):
            code, text = await self.refusal(ask(await self.open_channel()))
            self.assertEqual((code, "'missing' in vhost '/'" in text), (404, True), text)

    async def test_requests_for_what_is_not_there_may_do_nothing(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange("topic", auto_delete=False)
        self.addCleanup(self.channel.exchange_delete, exchange)
        for names in ((queue, exchange), ("missing", exchange), (queue, "missing")):
            await self.channel.queue_unbind(*names, "not.bound")
        await self.channel.basic_recover(requeue=True)
        await self.channel.queue_purge(queue)

    async def test_requests_for_what_is_not_there_may_be_refused(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange("topic", auto_delete=False)
        self.addCleanup(self.channel.exchange_delete, exchange)
        for code, ask in (
            (403, lambda channel: channel.exchange_delete("")),
            (403, lambda channel: channel.exchange_delete("amq.direct")),
            (403, lambda channel: channel.exchange_declare("", "direct")),
            (405, lambda channel: channel.queue_declare(queue, exclusive=False)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", durable=True)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", auto_delete=True)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", internal=True)),
        ):
            self.assertEqual((await self.refusal(ask(await self.open_channel())))[0], code)

    async def test_an_ack_of_several_names_one_that_is_there(self: Any) -> None:
        queue = await self.declare()
        for _ in range(3):
            await self.publish(queue)
        for _ in range(3):
            await self.channel.basic_get(queue)
        self.channel.basic_ack(2)
        self.channel.basic_ack(2, multiple=True)
        self.assertEqual((await self.refusal(self.channel.queue_purge(queue)))[0], 406)
        self.assertEqual(await self.count_elsewhere(queue), 2)

    async def test_an_ack_of_nothing_at_all_is_one(self: Any) -> None:
        queue = await self.declare()
        self.channel.basic_ack(0, multiple=True)
        self.assertEqual(await self.count(queue), 0)

    async def test_a_missing_key_of_the_dead_letters_keeps_the_old_one(self: Any) -> None:
        queue, dead = await self.dying(x_max_length=0)
        await self.publish(queue, b"body")
        self.assertEqual((await dead.get()).method.routing_key, queue)

    async def test_what_is_reserved_is_refused(self: Any) -> None:
        queue = await self.declare()
        for ask, words in (
            (lambda channel: channel.queue_declare("amq.mine"), "queue name 'amq.mine' contains reserved"),
            (
                lambda channel: channel.exchange_declare("amq.mine"),
                "exchange name 'amq.mine' contains reserved",
            ),
            (
                lambda channel: channel.queue_bind(queue, "", "a"),
                "operation not permitted on the default exchange",
            ),
        ):
            code, text = await self.refusal(ask(await self.open_channel()))
            self.assertEqual((code, words in text), (403, True), text)

    async def test_an_exclusive_consumer_is_alone(self: Any) -> None:
        queue = await self.declare()
        await self.consume(queue, exclusive=True)
        code, text = await self.refusal(self.consume(queue, await self.open_channel()))
        self.assertEqual(
            (code, text), (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
        )

    async def test_senseless_arguments_are_refused(self: Any) -> None:
        for arguments in (
            {"x-message-ttl": -1},
            {"x-message-ttl": "1"},
            {"x-expires": 0},
            {"x-max-length": -1},
            {"x-overflow": "burst"},
            {"x-dead-letter-exchange": 1},
            {"x-dead-letter-routing-key": "a"},
        ):
            asked = (await self.open_channel()).queue_declare("", exclusive=True, arguments=arguments)
            self.assertEqual((await self.refusal(asked))[0], 406, arguments)
        asked = (await self.open_channel()).queue_declare(self.name(), arguments={"x-queue-type": "quorum"})
        self.assertEqual((await self.refusal(asked))[0], 406)

    async def test_a_senseless_expiration_is_refused(self: Any) -> None:
        queue, other = await self.declare(), await self.open_channel()
        await other.basic_publish("", queue, b"", BasicProperties(expiration="soon"))
        self.assertEqual((await self.refusal(other.queue_purge(queue)))[0], 406)

    # The connection

    async def test_a_wrong_password_is_refused(self: Any) -> None:
        await self.failure(self.connect(credentials=PlainCredentials("guest", "wrong")), AMQPConnectionError)

    async def test_an_unknown_vhost_is_refused(self: Any) -> None:
        await self.failure(self.connect(virtual_host="elsewhere"), AMQPConnectionError)

    async def test_the_broker_says_what_it_can(self: Any) -> None:
        capabilities = self.connection._impl.server_capabilities
        for name in (
            "publisher_confirms",
            "consumer_cancel_notify",
            "basic.nack",
            "connection.blocked",
            "per_consumer_qos",
            "authentication_failure_close",
        ):
            self.assertIs(capabilities[name], True, name)

    async def test_publishers_are_blocked_while_memory_is_short(self: Any) -> None:
        queue = await self.declare()
        blocked: Deferred[None] = Deferred()
        unblocked: Deferred[None] = Deferred()
        self.connection._impl.add_on_connection_blocked_callback(lambda *_: blocked.callback(None))
        self.connection._impl.add_on_connection_unblocked_callback(lambda *_: unblocked.callback(None))
        await self.publish(queue)
        await self.alarm(True)
        publishing = self.publish(queue)
        waiting = Deferred.fromCoroutine(publishing)
        await blocked
        await self.alarm(False)
        await unblocked
        await waiting

    async def raw(self, *methods: Any) -> Any:
        """Return a client that sends the protocol header and *methods*, and nothing else."""
        client = await connectProtocol(self.endpoint(), Raw())
        client.transport.write(PROTOCOL_HEADER + b"".join(methods))
        return client

    def hello(self, heartbeat: int) -> list[bytes]:
        """Return the frames with which a client logs in."""
        return [
            method_frame(0, method)
            for method in (
                Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"),
                Connection.TuneOk(2047, 131_072, heartbeat),
                Connection.Open("/"),
            )
        ]

    async def test_an_unknown_kind_of_exchange_is_refused(self: Any) -> None:
        declare = method_frame(1, Exchange.Declare(exchange="contract.magic", exchange_type="magic"))
        client = await self.raw(*self.hello(60), method_frame(1, Channel.Open()), declare)
        old = self.version < (4,)
        code = "COMMAND_INVALID" if old else "PRECONDITION_FAILED"
        await client.hear(f"{code} - unknown exchange type 'magic'".encode())
        answer = method_frame(0, Connection.CloseOk()) if old else method_frame(1, Channel.CloseOk())
        client.transport.write(answer)
        if not old:  # the connection stays open
            client.transport.write(method_frame(0, BYE))
            await client.hear(method_frame(0, Connection.CloseOk()))
            client.transport.abortConnection()
        await client.gone

    async def test_both_may_close_a_channel_at_once(self: Any) -> None:
        publish = content_frames(1, publish_prefix(1, "missing", "key", False), b"\0\0", b"", 131_072)
        close = method_frame(1, Channel.Close(200, "bye", 0, 0))
        client = await self.raw(*self.hello(60), method_frame(1, Channel.Open()), publish, close)
        await client.hear(b"NOT_FOUND - no exchange 'missing'")
        await client.hear(method_frame(1, Channel.CloseOk()))
        client.transport.write(method_frame(1, Channel.CloseOk()))
        client.transport.write(method_frame(1, Channel.Open()) + method_frame(0, BYE))
        await client.hear(method_frame(0, Connection.CloseOk()))
        self.assertNotIn(b"CHANNEL_ERROR", client.received)
        client.transport.abortConnection()
        await client.gone

    async def test_garbage_closes_the_connection(self: Any) -> None:
        client = await self.raw(*self.hello(60), b"\x00garbage", bytes(100))
        await client.gone

    async def test_another_protocol_is_told_ours(self: Any) -> None:
        for greeting in (b"GET / HT", b"AMQP\x00\x00\x08\x00"):
            client = await connectProtocol(self.endpoint(), Raw())
            client.transport.write(greeting)
            await client.gone
            # RabbitMQ 4 proposes AMQP 1.0 with SASL.
            self.assertEqual(client.received, b"AMQP\3\1\0\0" if self.rabbitmq4 else PROTOCOL_HEADER)

    async def test_a_silent_client_hears_heartbeats_and_is_dropped(self: Any) -> None:
        client = await self.raw(*self.hello(1))
        await client.gone
        self.assertIn(HEARTBEAT, client.received)


class Raw(Protocol):
    """A client that sends raw bytes."""

    def __init__(self) -> None:
        self.received = b""
        self.gone: Deferred[None] = Deferred()
        self._awaited: list[tuple[bytes, Deferred[None]]] = []

    def hear(self, words: bytes) -> Deferred[None]:
        """Fire when the bytes *words* have been received."""
        heard: Deferred[None] = Deferred()
        self._awaited.append((words, heard))
        self.dataReceived(b"")
        return heard

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        heard = [waiting for waiting in self._awaited if waiting[0] in self.received]
        for waiting in heard:
            self._awaited.remove(waiting)
            waiting[1].callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.gone.callback(None)
