"""The description of one route of the API. The routes, their checks and the OpenAPI description are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from txmicro.page.access import READER, Caller

from .schema import Schema, text

JSON: Final = "application/json"

NO_DEFAULT: Final = object()
"""The default of a parameter that has none: it is required."""

TYPE: Final = text(64, pattern="^[A-Za-z][A-Za-z0-9_-]{0,63}$")
"""A worker type."""

ANY_TYPE: Final = text(64, pattern="^([A-Za-z][A-Za-z0-9_-]{0,63})?$")
"""A worker type, or empty."""


class Parameter(NamedTuple):
    """A parameter of the path or of the query string.

    :ivar default: its value if it is not given; :data:`NO_DEFAULT`: it is required.
    """

    name: str
    schema: Schema
    meaning: str
    default: Any = NO_DEFAULT


class Call(NamedTuple):
    """A request that was checked.

    :ivar path: the parameters of its path. :ivar query: those of its query string.
    :ivar body: the JSON of its body; None: it has none.
    """

    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any = None


class Endpoint(NamedTuple):
    """A route of the API.

    :ivar name: the operation's name, in camelCase.
    :ivar handler: takes a :class:`Call`. Returns the content of the answer, or a Deferred or a coroutine of it.
        Raises :class:`~txmicro.page.site.Refusal` to refuse.
    :ivar answer: the schema of the content.
    :ivar role: the least role that may use it.
    :ivar body: the schema of the body; None: it has none.
    :ivar errors: the statuses of errors that only some routes have.
    :ivar action: its name in the audit; empty: it changes nothing.
    :ivar content_type: of the answer. If it is not JSON, the handler gets the request, and answers by itself.
    """

    name: str
    method: str
    path: str
    summary: str
    handler: Callable[[Any], Any]
    answer: Schema
    role: str = READER
    parameters: Sequence[Parameter] = ()
    query: Sequence[Parameter] = ()
    body: Schema | None = None
    errors: Sequence[int] = ()
    action: str = ""
    content_type: str = JSON
