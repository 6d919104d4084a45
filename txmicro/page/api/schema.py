"""JSON Schemas of the API: built, checked against values, and used to read query parameters.

The same schema is in the OpenAPI description. Only the keywords that this module writes are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Schema = dict[str, Any]

LARGEST: Final = 2**53
"""The largest whole number: above it, JSON parsers may round."""

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")


def text(longest: int, *, pattern: str = "", shortest: int = 0) -> Schema:
    """Return the schema of texts with *shortest* to *longest* characters, all of which match *pattern*."""
    schema: Schema = {"type": "string", "maxLength": longest}
    if shortest:
        schema["minLength"] = shortest
    return {**schema, "pattern": pattern} if pattern else schema


def choice(*texts: str) -> Schema:
    """Return the schema of one of *texts*."""
    return {"type": "string", "enum": list(texts)}


def whole(low: int = 0, high: int = LARGEST) -> Schema:
    """Return the schema of the whole numbers from *low* to *high*."""
    return {"type": "integer", "minimum": low, "maximum": high}


def number(low: float = 0.0, high: float | None = None) -> Schema:
    """Return the schema of the numbers from *low* to *high* (None: without a limit, in an answer)."""
    return {"type": "number", "minimum": low, **({} if high is None else {"maximum": high})}


BOOLEAN: Final[Schema] = {"type": "boolean"}
ANY_TEXT: Final[Schema] = {"type": "string"}
"""Any text, in an answer."""


def nullable(schema: Schema) -> Schema:
    """Return the schema of null and of the values of *schema*."""
    return (
        {"anyOf": [schema, {"type": "null"}]}
        if "$ref" in schema
        else {**schema, "type": [schema["type"], "null"]}
    )


def array(items: Schema, longest: int = 0) -> Schema:
    """Return the schema of lists of *items*, of at most *longest* ones (0: any number)."""
    return {"type": "array", "items": items, **({"maxItems": longest, "minItems": 1} if longest else {})}


def table(values: Schema) -> Schema:
    """Return the schema of objects with any names and *values*."""
    return {"type": "object", "additionalProperties": values}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of objects with these properties, and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def ref(name: str) -> Schema:
    """Return the reference to the component *name*."""
    return {"$ref": f"#/components/schemas/{name}"}


class Invalid(ValueError):
    """A value does not match its schema; the text says where, the value, and what is expected."""


def read(schema: Schema, value: str, where: str) -> Any:
    """Return the value that *value*, the text of a query parameter, has by *schema*.

    :raise Invalid: it has none.
    """
    kind = schema["type"]
    if kind == "integer" and _WHOLE.fullmatch(value):
        return _checked(schema, int(value), where)
    if kind == "number" and _NUMBER.fullmatch(value):
        return _checked(schema, float(value), where)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return _checked(schema, value, where)


def _checked(schema: Schema, value: Any, where: str) -> Any:
    check(schema, value, where)
    return value


def check(schema: Schema, value: Any, where: str) -> None:
    """Raise :class:`Invalid` if *value* does not match *schema*; *where* names its place."""
    _CHECKS[schema["type"]](schema, value, where)


def _check_text(schema: Schema, value: Any, where: str) -> None:
    choices = schema.get("enum")
    if choices is not None:
        _expect(isinstance(value, str) and value in choices, value, where, f"one of {', '.join(choices)}")
        return
    longest, shortest = schema.get("maxLength", LARGEST), schema.get("minLength", 0)
    length = f"{shortest} to {longest}" if shortest else f"at most {longest}"
    fits = isinstance(value, str) and shortest <= len(value) <= longest
    _expect(fits, value, where, f"a text of {length} characters")
    pattern = schema.get("pattern")
    # The anchors are in the pattern; but $ of Python matches before a last line feed, too.
    _expect(
        not pattern or re.fullmatch(pattern.strip("^$"), value, re.ASCII) is not None,
        value,
        where,
        f"a text that matches {pattern}",
    )


def _check_integer(schema: Schema, value: Any, where: str) -> None:
    low, high = schema["minimum"], schema["maximum"]
    _expect(type(value) is int and low <= value <= high, value, where, f"a whole number from {low} to {high}")


def _check_number(schema: Schema, value: Any, where: str) -> None:
    low, high = schema["minimum"], schema["maximum"]
    fits = type(value) in (int, float) and low <= value <= high
    _expect(fits, value, where, f"a number from {low:g} to {high:g}")


def _check_boolean(_schema: Schema, value: Any, where: str) -> None:
    _expect(isinstance(value, bool), value, where, "true or false")


def _check_array(schema: Schema, value: Any, where: str) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", LARGEST)
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise Invalid(f"{where}: expected a list of {low} to {high} items")
    for index, item in enumerate(value):
        check(schema["items"], item, f"{where}[{index}]")


def _check_object(schema: Schema, value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Invalid(f"{where}: {_show(value)} is not valid; expected an object")
    properties = schema["properties"]
    for name in sorted(value.keys() - properties.keys()):
        raise Invalid(f"{where}: {_show(name)} is not a valid name; expected {', '.join(properties)}")
    for name in schema["required"]:
        if name not in value:
            raise Invalid(f"{where}: {name} is missing")
    for name, item in value.items():
        check(properties[name], item, name if where == BODY else f"{where}.{name}")
    alternatives = [each["required"][0] for each in schema.get("oneOf", ())]
    if alternatives and sum(name in value for name in alternatives) != 1:
        raise Invalid(f"{where}: expected exactly one of {', '.join(alternatives)}")


BODY: Final = "the body"
"""The place of the whole body of a request."""

_CHECKS: Final[Mapping[str, Callable[[Schema, Any, str], None]]] = {
    "string": _check_text,
    "integer": _check_integer,
    "number": _check_number,
    "boolean": _check_boolean,
    "array": _check_array,
    "object": _check_object,
}


def one_of(schema: Schema, names: Sequence[str]) -> Schema:
    """Return the schema of objects of *schema* that have exactly one of the properties *names*."""
    return {**schema, "oneOf": [{"required": [name]} for name in names]}


def _expect(fits: bool, value: Any, where: str, expected: str) -> None:
    if not fits:
        raise Invalid(f"{where}: {_show(value)} is not valid; expected {expected}")


def _show(value: Any) -> str:
    """Return a short text of *value*, as a client may have written anything."""
    return (
        f"{value!r:.60}"
        if isinstance(value, (str, int, float, bool)) or value is None
        else f"a {type(value).__name__}"
    )
