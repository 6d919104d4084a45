"""Frames for tests of the AMQP client: strategies of hypothesis, and pamqp's encoding."""

from __future__ import annotations

import datetime
import struct
from typing import Any

from hypothesis import strategies as st
from pamqp import base, commands
from pamqp import body as pamqp_body
from pamqp import frame as pamqp_frame
from pamqp import header as pamqp_header
from pamqp.heartbeat import Heartbeat

from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.methods import Ack, Deliver, IncomingMessage, Publish
from txmicro.amqp.properties import Properties

Light = Deliver | Publish | Ack


class Reading:
    """A reader that records what it reads."""

    def __init__(self, **limits: Any) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.reader = FrameReader(
            lambda channel, method: self.events.append((channel, fields(method))),
            lambda channel, method, properties, body: self.events.append(
                (channel, fields(method), properties, body)
            ),
            lambda: self.events.append(("heartbeat",)),
            **limits,
        )

    def feed(self, *pieces: bytes) -> list[tuple[Any, ...]]:
        for piece in pieces:
            self.reader.feed(piece)
        return self.events


def fields(method: base.Frame | Light) -> tuple[str, dict[str, Any]]:
    """Return the name and arguments of a method, of txmicro or pamqp."""
    names = [name for name in method.__slots__ if name != "ticket"]
    return type(method).__name__, {name: getattr(method, name) for name in names}


def raw(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def raw_header(
    channel: int, size: int, properties: bytes = b"\0\0", kind: int = 60, weight: int = 0
) -> bytes:
    return raw(2, channel, struct.pack(">HHQ", kind, weight, size) + properties)


SHORT = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.floats(width=32, allow_nan=False)
    | st.decimals(-999, 999, places=2)
    | st.datetimes(
        datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)
    ).map(lambda moment: moment.replace(microsecond=0))
    | st.binary(max_size=20).map(bytearray)
)

TABLES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.recursive(
        SIMPLE,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)

BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": st.integers(0, 255),
    "short": st.integers(0, 65535),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**63 - 1),
    "shortstr": SHORT,
    "longstr": st.text(max_size=300),
    "table": TABLES,
}

NAMES = st.text("abzAZ09-_.:@#,/+ ", max_size=100)

# pamqp accepts no other values.
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "ticket": st.just(0),
    "queue": NAMES,
    "exchange": NAMES,
    "source": NAMES,
    "destination": NAMES,
    "virtual_host": NAMES,
    "capabilities": st.just(""),
    "insist": st.just(False),
    "out_of_band": st.just("0"),
    "channel_id": st.just("0"),
    "known_hosts": st.just(""),
    "cluster_id": st.just(""),
}

CONTENT = (commands.Basic.Publish, commands.Basic.Return, commands.Basic.Deliver, commands.Basic.GetOk)

PROPERTIES = st.builds(
    Properties,
    **dict.fromkeys(
        (
            "content_type",
            "content_encoding",
            "correlation_id",
            "reply_to",
            "expiration",
            "message_id",
            "message_type",
            "user_id",
            "app_id",
        ),
        st.none() | SHORT.filter(bool),
    ),
    headers=st.none() | TABLES,
    delivery_mode=st.none() | st.sampled_from((1, 2)),
    priority=st.none() | st.integers(0, 255),
    timestamp=st.none() | st.integers(0, 2**32 - 1),
)


def methods(kind: type[base.Frame]) -> st.SearchStrategy[base.Frame]:
    """Return a strategy for methods of *kind*."""
    arguments = {name: BY_NAME.get(name, BY_TYPE[kind.amqp_type(name)]) for name in kind.attributes()}
    return st.builds(kind, **arguments)


METHODS = st.sampled_from([kind for kind in commands.INDEX_MAPPING.values() if kind not in CONTENT]).flatmap(
    methods
)

CONTENTS = st.builds(
    IncomingMessage, st.sampled_from(CONTENT).flatmap(methods), PROPERTIES, st.binary(max_size=9000)
)

DELIVERIES = st.builds(IncomingMessage, methods(commands.Basic.Deliver), PROPERTIES, st.binary(max_size=60))

THINGS = st.tuples(st.integers(1, 65535), METHODS | CONTENTS | st.just(Heartbeat()))


def as_pamqp(properties: Properties) -> commands.Basic.Properties:
    theirs = commands.Basic.Properties(
        **{name: getattr(properties, name) for name in Properties.__slots__ if name != "timestamp"}
    )
    if properties.timestamp is not None:
        theirs.timestamp = datetime.datetime.fromtimestamp(properties.timestamp, datetime.UTC)
    return theirs


def by_pamqp(channel: int, thing: base.Frame | IncomingMessage | Heartbeat, frame_max: int) -> bytes:
    """Return the frames of *thing* as pamqp encodes them."""
    if not isinstance(thing, IncomingMessage):
        return pamqp_frame.marshal(thing, channel)
    if isinstance(thing.method, Light):
        raise TypeError(thing.method)
    header = pamqp_header.ContentHeader(0, len(thing.body), as_pamqp(thing.properties))
    most = frame_max - 8
    chunks = [thing.body[start : start + most] for start in range(0, len(thing.body), most)]
    parts: list[Any] = [thing.method, header, *map(pamqp_body.ContentBody, chunks)]
    return b"".join(pamqp_frame.marshal(part, channel) for part in parts)


def expected(channel: int, thing: base.Frame | IncomingMessage | Heartbeat) -> tuple[Any, ...]:
    if isinstance(thing, Heartbeat):
        return ("heartbeat",)
    if isinstance(thing, IncomingMessage):
        return channel, fields(thing.method), thing.properties, thing.body
    return channel, fields(thing)
