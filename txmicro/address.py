"""Worker types, worker ids and addresses: ``WB``, ``WB:1795449588399-3fa9``, ``WB:*``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .errors import AddressError

ANY = "*"

# A type is one word of a topic (no dots) and part of queue names, which brokers limit to 255 bytes.
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Address(NamedTuple):
    """Where a job goes: any worker of ``type`` (``name`` is ``*``), or the one called ``type:name``."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"

    @property
    def any(self) -> bool:
        """Whether any worker of the type may take it."""
        return self.name == ANY


def parse(text: str) -> Address:
    """Read ``TYPE:*`` or a worker id; raises :class:`AddressError`."""
    kind, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not (colon and _TYPE.fullmatch(kind) and (name == ANY or _NAME.fullmatch(name))):
        raise AddressError(
            f"{text!r:.100} is no address: expected TYPE:* or a worker id such as WB:1795449588399-3fa9"
        )
    return Address(kind, name)


def parse_id(text: str) -> Address:
    """Read a worker id; raises :class:`AddressError`."""
    address = parse(text)
    if address.any:
        raise AddressError(f"{text!r} is no worker id: it addresses any worker of its type")
    return address


def check_type(text: str) -> str:
    """Give back *text* if it is a worker type; raises :class:`AddressError`."""
    if not (isinstance(text, str) and _TYPE.fullmatch(text)):
        raise AddressError(
            f"{text!r:.100} is no worker type: expected a letter, then up to 63 letters, digits, _ or -"
        )
    return text


def new_id(kind: str, now: float, randbits: Callable[[int], int]) -> str:
    """A fresh worker id of type *kind*: 13-digit milliseconds of *now* (Unix time, seconds), 4 hex digits."""
    return f"{check_type(kind)}:{int(now * 1000):013d}-{randbits(16):04x}"
