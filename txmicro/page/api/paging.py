"""Pages of a sorted list: the opaque ``next`` and ``after``."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from txmicro.errors import BadRequest


def encode(time: float, key: str) -> str:
    """Return the ``next`` that names the place after an item: its time and its key."""
    return urlsafe_b64encode(f"{time!r} {key}".encode()).decode().rstrip("=")


def decode(after: str) -> tuple[float, str]:
    """Return the time and the key in *after*.

    :raise BadRequest: it is not what a page's ``next`` was.
    """
    try:
        time, _, key = urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode().partition(" ")
        return float(time), key
    except ValueError as error:
        raise BadRequest("after is not valid; expected the 'next' of the page before") from error
