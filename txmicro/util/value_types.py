"""Types of configuration values: how a value is checked, read from the environment, and shown without passwords."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .passwords import mask, mask_account, mask_url

LARGEST: Final = 2**53
"""The largest whole number: above it, JSON parsers may round."""


def show_masked(value: Any) -> str:
    """Return the ``repr`` of *value* without passwords, cut to 200 characters."""
    return f"{mask(repr(value)):.200}"


def show_urls(value: Any) -> str:
    """Return a URL, or a list of URLs, without passwords."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(show_urls, value))}]"
    return repr(mask_url(value)) if isinstance(value, str) else show_type(value)


def show_accounts(value: Any) -> str:
    """Return the names of *value*, a list of accounts, without their secrets."""
    if not isinstance(value, (list, tuple)):
        return show_type(value)
    return f"[{', '.join(repr(mask_account(account)) for account in value)}]"


def show_type(value: Any) -> str:
    """Return only the type of *value*, which may be a secret."""
    return f"a {type(value).__name__}"


class ValueType(NamedTuple):
    """A type of configuration values.

    :ivar expected: a description of valid values.
    :ivar check: returns the value as ``Config`` holds it, or raises TypeError, ValueError or KeyError.
    :ivar read: returns the value of a text from the environment, unchecked.
    :ivar show: returns any value as a text without passwords, for errors and logs.
    """

    expected: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any]
    show: Callable[[Any], str] = show_masked


def read_json(text: str) -> Any:
    """Return the JSON value of *text*, or *text* itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_items(text: str) -> Any:
    """Return the JSON list *text*, or the items between its commas and white space."""
    return read_json(text) if text.lstrip().startswith("[") else text.replace(",", " ").split()


def instance_of(*kinds: type) -> Callable[[Any], Any]:
    """Return a check that accepts instances of *kinds*."""

    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise TypeError
        return value

    return check


def whole_number(low: int, high: int = LARGEST) -> ValueType:
    """Return the type of the whole numbers from *low* to *high*."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    limits = f"of at least {low}" if high == LARGEST else f"from {low} to {high}"
    return ValueType(f"a whole number {limits}", check, read_json)


def one_of(*choices: str) -> ValueType:
    """Return the type of the texts *choices*, in any case."""
    known = {choice.lower(): choice for choice in choices}

    def check(value: Any) -> str:
        return known[instance_of(str)(value).lower()]

    return ValueType(f"one of {', '.join(choices)}, in any case", check, str)


def _check_positive(value: Any) -> float:
    # NaN is not greater than 0. The limit excludes infinity, which timers do not accept.
    if type(value) not in (int, float) or not 0 < value <= 1e9:
        raise ValueError
    return float(value)


BOOLEAN: Final = ValueType("true or false", instance_of(bool), lambda text: read_json(text.lower()))
TEXT: Final = ValueType("a text", instance_of(str), str)
POSITIVE: Final = ValueType("a number above 0", _check_positive, read_json)
"""Numbers above 0, as floats."""
