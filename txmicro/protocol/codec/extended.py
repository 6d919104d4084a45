"""Objects with a reserved key, for the values that a format cannot express (:mod:`txmicro.protocol.codec`)."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from bson.dbref import DBRef

from txmicro.errors import EncodeError

MAX_DEPTH: Final = 200
"""How deep the slow pass follows a value. The C codecs have limits of their own, which are higher."""

MAX_BITS: Final = 14_280
"""Bits of the largest integer. Python refuses to read more than 4,300 digits, as that takes quadratic time."""

# "$ref" is not reserved here, but pymongo reads an object with "$ref" and "$id" as a DBRef.
LOOKS_RESERVED: Final = re.compile(rb"\$(?:binary|date|numberDouble|integer|map|ref)")
"""Matches in an encoded body that may have a reserved key."""

_NAME: Final = re.compile(r"[^\W\d]\w*", re.ASCII)


class Format(Protocol):
    """The interface of a format that the slow pass uses, a :class:`~txmicro.protocol.codec.base.Codec`."""

    @property
    def name(self) -> str:
        """The format's name, for errors."""

    @property
    def own_types(self) -> tuple[type, ...]:
        """The types that only this format carries."""

    def extend(self, value: int | float | bytes | datetime) -> Any:
        """Return *value* as the format can express it."""

    def has_key(self, key: Any) -> bool:
        """Return whether the format can express *key* as the key of a dict."""


class Extender:
    """One pass over a value that a C codec refused, which puts objects with reserved keys in it."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._path: list[Any] = []  # the place in the value, for the error

    def extend(self, value: Any) -> Any:
        """Return *value* as the format can express it, in plain types. Raises :class:`~txmicro.errors.EncodeError`."""
        if value is None or isinstance(value, (bool, *self._format.own_types)):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)):
            return self._list(value)
        return self._format.extend(self._plain(value))

    def _list(self, values: list[Any] | tuple[Any, ...]) -> list[Any]:
        extended = []
        for index, value in enumerate(values):
            self._enter(index)
            extended.append(self.extend(value))
            self._path.pop()
        return extended

    def _mapping(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        pairs, simple = [], not _looks_reserved(values)
        for key, value in values.items():
            self._enter(key)
            pairs.append([self.extend(key), self.extend(value)])
            self._path.pop()
            simple = simple and self._format.has_key(key)
        return dict(pairs) if simple else {"$map": pairs}

    def _enter(self, step: Any) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} levels deep, or in itself")
        self._path.append(step)

    def _text(self, value: str) -> str:
        try:
            return value.encode().decode()
        except UnicodeEncodeError:
            raise self._error("text with half a surrogate pair") from None

    def _plain(self, value: Any) -> int | float | bytes | datetime:
        if isinstance(value, int) and value.bit_length() <= MAX_BITS:
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, datetime):
            try:
                return in_utc(value)
            except OverflowError:
                raise self._error(f"{value} is out of range in UTC") from None
        if isinstance(value, int):
            raise self._error(f"{self._format.name} cannot carry an integer of {value.bit_length()} bits")
        raise self._error(
            f"{self._format.name} cannot carry {type(value).__name__}; convert it to a value of JSON, bytes or a date"
        )

    def _error(self, problem: str) -> EncodeError:
        return EncodeError(f"{_spell(self._path)}: {problem}")


def in_utc(value: datetime) -> datetime:
    """Return *value* in UTC; a naive one counts as UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_INT64: Final = range(-(2**63), 2**63)


def extend_integer(value: Any) -> Any:
    """Return *value*, an integer of over 64 bits as an object: BSON and MessagePack express all other plain values."""
    return {"$integer": str(int(value))} if isinstance(value, int) and value not in _INT64 else value


def _looks_reserved(value: Mapping[Any, Any]) -> bool:
    return (len(value) == 1 and next(iter(value)) in _READERS) or ("$ref" in value and "$id" in value)


def _spell(path: list[Any]) -> str:
    """Return *path* as in ``data.rows[3].when``: in ASCII, as a key may not be valid text, and not too long."""
    steps = [
        f".{step}" if _NAME.fullmatch(str(step)) and isinstance(step, str) else f"[{step!a}]" for step in path
    ]
    return f"{''.join(steps).removeprefix('.'):.200}"


def restore(value: Any) -> Any:
    """Undo :class:`Extender`. Raises any exception if an object with a reserved key is not valid."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, held),) = value.items()
            if name in _READERS:
                return _READERS[name](held)
        return {key: restore(item) for key, item in value.items()}
    if type(value) in (list, tuple):  # not an ExtType, which is a named tuple
        return [restore(item) for item in value]
    return restore(value.as_doc()) if isinstance(value, DBRef) else value


def _read_binary(held: dict[str, str]) -> bytes:
    return b64decode(held["base64"], validate=True)


def _read_date(held: str) -> datetime:
    return in_utc(datetime.fromisoformat(held))


def _read_integer(held: str) -> int:
    return int(held, 10)


def _read_map(held: list[list[Any]]) -> dict[Any, Any]:
    return {_hashable(restore(key)): restore(value) for key, value in held}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


_READERS: Final[dict[Any, Callable[[Any], Any]]] = {
    "$binary": _read_binary,
    "$date": _read_date,
    "$numberDouble": float,
    "$integer": _read_integer,
    "$map": _read_map,
}
