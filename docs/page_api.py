"""Makes the reference of the page's API from the API's own description; ``conf.py`` puts it into the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from txmicro.page.api.api import Api
from txmicro.page.api.endpoint import Endpoint, Parameter


def endpoints() -> list[Endpoint]:
    """Return all endpoints, in the order of the description."""
    nothing: Any = None
    return Api(nothing, nothing, nothing, nothing, clock=None, time=nothing).endpoints


def full() -> str:
    """Return the reference in reStructuredText: an entry for each route, with its parameters."""
    return "\n".join(line for endpoint in endpoints() for line in _entry(endpoint))


def _entry(endpoint: Endpoint) -> Iterator[str]:
    yield f"``{endpoint.method} {endpoint.path}``"
    yield f"   {endpoint.summary}. Role: {endpoint.role}."
    parameters = [f"{each.name} ({_about(each)})" for each in endpoint.query]
    if parameters:
        yield f"   Parameters: {', '.join(parameters)}."
    if endpoint.body is not None:
        yield f"   Members of the body: {', '.join(endpoint.body['properties'])}."
    if "properties" in endpoint.answer:
        yield f"   Answer: {', '.join(endpoint.answer['properties']) or 'an empty object'}."
    yield ""


def _about(parameter: Parameter) -> str:
    default = "" if parameter.default in ("", None) else f"; default: {parameter.default}"
    return f"{parameter.meaning}{default}"
