"""Makes invalid input from valid input, by random changes to bytes and values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from txmicro.amqp.frames import PROTOCOL_HEADER
from txmicro.amqp.properties import Properties
from txmicro.protocol import messages
from txmicro.protocol.codec.formats import NAMES, by_name

ODD: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 2**31, 2**53 + 1, -(2**63), 1e308, float("nan"), b"\xff"),
    *("", "\0", "ü" * 300, "a" * 5000, "WB:*", "WB:1"),
    *([], [[]], [1], ["WB:*"] * 50, {}, {"": ""}, {"id": None}),
)
CODECS: Final = tuple(by_name(name) for name in NAMES)


def bytes_mutated(chance: random.Random, data: bytes) -> bytes:
    """Return *data* with some bytes changed, lost, doubled or added. It always differs from *data*."""
    while (wrong := _bytes_changed(chance, data)) == data:
        pass
    return wrong


def _bytes_changed(chance: random.Random, data: bytes) -> bytes:
    wrong = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(len(wrong) + 1)
        match chance.randrange(5):
            case 0 if place < len(wrong):
                wrong[place] ^= 1 << chance.randrange(8)
            case 1 if place < len(wrong):
                wrong[place] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                del wrong[place : place + chance.choice((1, 4, 100))]
            case 3:
                wrong[place:place] = chance.randbytes(chance.choice((1, 4, 20)))
            case _:
                wrong[place:place] = wrong[max(0, place - 8) : place]
    return bytes(wrong)


def value_mutated(chance: random.Random, value: Any) -> Any:
    """Return *value* with one part that has another type, is missing, or is unexpected."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: value_mutated(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.5:
        place = chance.randrange(len(value))
        return [*value[:place], value_mutated(chance, value[place]), *value[place + 1 :]]
    return chance.choice(ODD)


def frames(stream: bytes) -> Iterator[bytes]:
    """Return the frames in the bytes that one side sent. A client's protocol header comes with its first frame."""
    start = len(PROTOCOL_HEADER) if stream.startswith(b"AMQP") else 0
    begin = 0
    while start < len(stream):
        end = start + 8 + int.from_bytes(stream[start + 3 : start + 7], "big")
        yield stream[begin:end]
        begin = start = end


def bodies(worker: str, manager: str) -> list[tuple[str, str, str, Any]]:
    """Return the messages that are usual on the bus: exchange, key, message type, body."""
    kind = worker.partition(":")[0]
    to, told = f"txmicro.to.{kind}", (f"txmicro.replies.{kind}", worker)
    job = {
        "id": "0123456789abcdef-1", "workers_list": [f"{kind}:*", "WX:*"], "workers_list_id": 0, "data": [1, "b"],
        "sender": {"id": "WA:1", "type": "WA"}, "origin": "WA:1", "tries": 0, "deadline": 1000,
    }  # fmt: skip
    last = {**job, "workers_list": [f"{kind}:*"]}
    keys = {"worker": "WA:1", "keys": ["0123456789abcdef-1/0", "x/1"]}
    status = {"worker": "WA:1", "running": ["x/0"], "forwarded": {"y/0": "WX:*"}, "unknown": ["z/0"]}
    about = {
        "id": "WB:1795449588399-3fa9",
        "type": "WB",
        "host": "h",
        "pid": 1,
        "capacity": 3,
        "started": 1795449588399,
    }
    deleted = {"id": "WB:1795449588399-3fa9", "type": "WB", "reason": "stopped"}
    topic = "txmicro.notifications"
    return [
        *((to, key, messages.JOB, body) for key in ("*", worker, "durable") for body in (job, last)),
        *((*told, name, keys) for name in (messages.ACK, messages.DONE, messages.CANCEL, messages.PROBE)),
        (*told, messages.STATUS, status),
        (*told, messages.RESULT, {"id": "x", "workers_list_id": 0, "worker": "WA:1", "result": {"b": 1}}),
        (*told, messages.FAILURE, {"id": "x", "worker": "WA:1", "failure": {"type": "E", "message": "m"}}),
        (*told, messages.ERROR, {"target": {"id": worker, "type": kind}, "error": "none", "address": "WX:*"}),
        (*told, messages.PEERS, {"peers": [about]}),
        (*told, messages.LIST, {"workers": [about]}),
        ("txmicro.replies.SystemManager", manager, messages.PROBE, keys),
        (topic, f"worker.new.{kind}", "", about),
        (topic, f"worker.del.{kind}", "", deleted),
        (topic, "worker.del", "", deleted),
        (topic, "worker.getAll", "", {}),
        (topic, "worker.next", "", {"address": f"{kind}:*", "sender": "WA:1"}),
        (topic, "worker.list", "", {"sender": {"id": "WA:1", "type": "WA"}}),
        ("txmicro.events", "movie.created", messages.EVENT, {"data": 1, "sender": "WA:1"}),
    ]  # fmt: skip


class InvalidMessages:
    """Yields invalid messages, always the same ones for the same *seed*."""

    def __init__(self, seed: int, worker: str, manager: str) -> None:
        self.chance = random.Random(seed)
        self._bodies = bodies(worker, manager)

    def next(self) -> tuple[str, str, bytes, bytes]:
        """Return exchange, key, encoded properties and body. At least one part of the latter two is invalid."""
        chance = self.chance
        exchange, key, kind, value = chance.choice(self._bodies)
        format = chance.choice(CODECS)
        what = chance.randrange(3)
        body = self._encode(format, value_mutated(chance, value) if what == 0 else value)
        if what == 1:
            body = bytes_mutated(chance, body)
        properties = Properties(
            content_type=format.content_type,
            message_type=kind,
            message_id="0123456789abcdef-1/0",
            reply_to="WA:1",
            headers={"txmicro-attempt": 1} if key == "durable" else None,
        )
        if what == 2:
            self._spoil(properties)
        return exchange, key, properties.encode(), body

    def _encode(self, format: Any, value: Any) -> bytes:
        try:
            return bytes(format.encode(value))
        except Exception:  # this format cannot encode the body; without it, then
            return self.chance.randbytes(20)

    def _spoil(self, properties: Properties) -> None:
        chance = self.chance
        name = chance.choice(("content_type", "message_type", "message_id", "reply_to", "headers"))
        if name == "headers":
            names = ("txmicro-attempt", "txmicro-attempts", "txmicro-expires", "traceparent", "x-death")
            odd = [
                value for value in ODD if not isinstance(value, float) and value not in (-(2**63), 2**53 + 1)
            ]
            properties.headers = {chance.choice(names): chance.choice(odd)}
        else:
            texts = ("", "\0", "job", "result", "ü", "a" * 200, "application/json", "text/plain; x", "WB:*")
            setattr(properties, name, chance.choice(texts))
