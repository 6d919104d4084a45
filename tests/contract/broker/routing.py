"""The contract: exchanges and bindings."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Channel, Queue
from pika import BasicProperties

from txmicro.amqp.frames import method_frame

from .case import ContractCase


class RoutingContract(ContractCase):
    """Exchanges and bindings."""

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

    async def test_copies_that_are_not_a_list_are_refused(self: Any) -> None:
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
