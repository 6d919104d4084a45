"""JSON (:rfc:`8259`), in UTF-8."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import datetime
from json import JSONDecoder, JSONEncoder
from json import encoder as json_encoder
from math import isfinite
from typing import Any, Final

from .base import Codec

_CONTAINERS: Final = frozenset({dict, list, tuple})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class _JSON(Codec):
    """JSON as strict parsers read it.

    :param parse_float: reads numbers with a fraction or an exponent; None: as ``float`` does.
    """

    name = "JSON"
    content_type = "application/json"

    def __init__(self, parse_float: Callable[[str], float] | None = None) -> None:
        encoder = JSONEncoder(
            ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
        )
        decoder: Any = JSONDecoder(parse_float=parse_float, parse_constant=_refuse_constant)
        self._encode = _c_encoder(encoder)
        self._decode = decoder.decode
        self._scan = decoder.scan_once

    def _pack(self, value: Any) -> bytes:
        if not _has_text_keys(value):
            raise TypeError("keys that are not text")
        return "".join(self._encode(value, 0)).encode()

    def _unpack(self, data: bytes) -> Any:
        text = data.decode()
        try:
            value, end = self._scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):  # there is white space around the object, or the text is not valid
            value = self._decode(text)
        if b"\\ud" in data or b"\\uD" in data:
            self._pack(value)  # raises for half a surrogate pair, which no other format carries
        return value

    def extend(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return {"$binary": {"base64": b64encode(value).decode(), "subType": "00"}}
        if isinstance(value, datetime):
            return {"$date": value.replace(tzinfo=None).isoformat() + "Z"}
        if isinstance(value, float) and not isfinite(value):
            return {"$numberDouble": _NOT_FINITE[str(value)]}
        return value


def _c_encoder(encoder: JSONEncoder) -> Callable[[Any, int], Iterable[str]]:
    """Return the C function that ``encoder.encode`` makes anew for each value; it returns the parts of the text."""
    make: Any = getattr(json_encoder, "c_make_encoder", None)
    if make is None:  # this Python has it not
        return lambda value, _: (encoder.encode(value),)
    options = (None, encoder.default, json_encoder.encode_basestring, None, ":", ",", False, False, False)
    function: Callable[[Any, int], Iterable[str]] = make(*options)
    return function


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a valid JSON value")


def _finite(number: str) -> float:
    """Return the number; Python reads ``1e400`` as Infinity."""
    value = float(number)
    if isfinite(value):
        return value
    raise ValueError(f"the number {number:.20} is larger than a 64-bit float can be")


def _has_text_keys(value: Any) -> bool:
    """Return whether *value* is plain JSON with text as keys: the C encoder would turn ``{1: 2}`` into ``{"1": 2}``.

    The slow pass handles everything else.
    """
    if isinstance(value, dict):
        try:
            "".join(value)
        except TypeError:
            return False
        value = value.values()
    for item in value:
        kind = type(item)
        if kind not in _SCALARS and (kind not in _CONTAINERS or not _has_text_keys(item)):
            return False
    return True


JSON: Final[Codec] = _JSON()

STRICT_JSON: Final[Codec] = _JSON(_finite)
"""JSON from strangers: a number that a float cannot hold is an error, not Infinity. It costs a call for each float."""
