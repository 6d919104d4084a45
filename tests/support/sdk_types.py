"""Checks that a JSON document is what Grafana's foundation SDK knows: its keys, and the types of its values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import EnumType
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def problems(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a dashboard. A key that the SDK does not know is lost when it reads the document."""
    model = Dashboard.from_json(document)
    kept = json.loads(JSONEncoder().encode(model))
    return [*_differences(document, kept, "dashboard"), *_wrong_types(model, Dashboard, "dashboard")]


def _differences(given: Any, kept: Any, place: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in sorted(given.keys() | kept.keys()):
            if key not in kept:
                yield f"{place}.{key} is not known"
            elif key not in given:
                yield f"{place}.{key} is missing"
            else:
                yield from _differences(given[key], kept[key], f"{place}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, pair in enumerate(zip(given, kept, strict=True)):
            yield from _differences(*pair, f"{place}[{index}]")
    elif given != kept:
        yield f"{place} is {given!r}, and is read as {kept!r}"


def _wrong_types(value: Any, expected: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict) and hasattr(expected, "from_json"):  # the SDK leaves some parts as they are
        value = expected.from_json(value)
    if get_origin(expected) in (Union, UnionType):
        found = [list(_wrong_types(value, option, place)) for option in get_args(expected)]
        if all(found):
            yield found[0][0]
    elif not _is_a(value, expected):
        yield f"{place} is {value!r}, not {expected}"
    else:
        for name, part, hint in _parts(value, expected):
            yield from _wrong_types(part, hint, f"{place}{name}")


def _parts(value: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the value and the expected type of each part of *value*."""
    if get_origin(expected) is list:
        yield from ((f"[{index}]", item, get_args(expected)[0]) for index, item in enumerate(value))
    elif get_origin(expected) is dict:
        yield from ((f".{key}", item, get_args(expected)[1]) for key, item in value.items())
    elif hasattr(value, "to_json"):
        yield from (
            (f".{name}", getattr(value, name), hint) for name, hint in get_type_hints(type(value)).items()
        )


def _is_a(value: Any, expected: Any) -> bool:
    """Return whether *value*, without its parts, is of the type *expected*."""
    if expected is Any:
        return True
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if isinstance(expected, EnumType):  # the SDK keeps the values of enumerations as they are
        return value in list(expected)
    if expected in (int, float):
        return type(value) in {int, expected}
    return isinstance(value, get_origin(expected) or expected)
