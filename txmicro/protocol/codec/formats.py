"""Which formats there are, by the names that the configuration and messages have for them."""

from __future__ import annotations

from typing import Final

from txmicro.errors import DecodeError

from .base import Codec
from .bson import BSON
from .json import JSON
from .messagepack import MESSAGEPACK

NAMES: Final = ("JSON", "BSON", "MessagePack", "msgpack")
"""The names that :func:`by_name` accepts, in any case."""

_BY_CONTENT_TYPE: Final = {codec.content_type: codec for codec in (JSON, BSON, MESSAGEPACK)}
_BY_NAME: Final = {codec.name.lower(): codec for codec in (JSON, BSON, MESSAGEPACK)}
_BY_NAME["msgpack"] = MESSAGEPACK


def by_name(name: str) -> Codec:
    """Return the codec of this ``data_transfer_protocol``. Raises KeyError if there is none."""
    return _BY_NAME[name.lower()]


def by_content_type(content_type: str) -> Codec:
    """Return the codec of a message's content type. Raises :class:`~txmicro.errors.DecodeError` if there is none."""
    try:
        return _BY_CONTENT_TYPE[content_type]
    except KeyError:
        known = ", ".join(_BY_CONTENT_TYPE)
        raise DecodeError(
            f"{content_type!r:.100} is not a known content type: expected one of {known}"
        ) from None
