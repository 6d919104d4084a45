"""Worker types, worker ids and addresses: ``Invoices``, ``Invoices:1795449588399-3fa9``, ``Invoices:*``."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from txmicro.errors import AddressError, show

ANY = "*"

# A type is one word of a topic (no dots) and part of queue names, which brokers limit to 255 bytes.
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Address(NamedTuple):
    """Where a job goes: to any worker of a type, or to one worker.

    :ivar type: the worker type.
    :ivar name: the rest of the worker's id; ``*``: any worker of the type.
    """

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"

    @property
    def any(self) -> bool:
        """True if the job goes to any worker of the type."""
        return self.name == ANY


def parse(text: str) -> Address:
    """Return the address that *text* is: ``TYPE:*`` or a worker id. Raises :class:`~txmicro.errors.AddressError`."""
    if not isinstance(text, str):
        raise _not_an_address(text)
    return _parse(text)


@lru_cache(10_000)  # jobs go to the same few addresses
def _parse(text: str) -> Address:
    kind, colon, name = text.partition(":")
    if not (colon and _TYPE.fullmatch(kind) and (name == ANY or _NAME.fullmatch(name))):
        raise _not_an_address(text)
    return Address(kind, name)


def _not_an_address(text: object) -> AddressError:
    return AddressError(
        f"{show(text)} is not a valid address: expected TYPE:* or a worker id such as TYPE:1795449588399-3fa9"
    )


def parse_id(text: str) -> Address:
    """Return the address that *text*, a worker id, is. Raises :class:`~txmicro.errors.AddressError`."""
    address = parse(text)
    if address.any:
        raise AddressError(f"{text} is not a valid worker id: it addresses any worker of its type")
    return address


def check_type(text: str) -> str:
    """Return *text* if it is a valid worker type. Raises :class:`~txmicro.errors.AddressError`."""
    if not (isinstance(text, str) and _TYPE.fullmatch(text)):
        raise AddressError(
            f"{show(text)} is not a valid worker type: expected a letter, then up to 63 letters, digits, _ or -"
        )
    return text


class Ids:
    """Makes the ids of workers and jobs.

    :param time: returns the Unix time, in seconds.
    :param randbits: returns a random number of that many bits.
    :ivar process: 16 random hex digits, with which the ids of this process's jobs begin.
    """

    def __init__(
        self, time: Callable[[], float] = time.time, randbits: Callable[[int], int] = secrets.randbits
    ) -> None:
        self.time = time
        self._randbits = randbits
        # Unique across processes and restarts by the random part, within the process by the count.
        self.process = f"{randbits(64):016x}"
        self._count = itertools.count(1)

    def worker(self, kind: str) -> str:
        """Return a new id for a worker of type *kind*: its type, 13 digits of milliseconds, and 4 random hex digits."""
        return f"{check_type(kind)}:{int(self.time() * 1000):013d}-{self._randbits(16):04x}"

    def job(self) -> str:
        """Return a new id for a job."""
        return f"{self.process}-{next(self._count):x}"
