"""The OpenAPI description of the API, made of its endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from txmicro import _version

from .answers import COMPONENTS
from .endpoint import JSON, NO_DEFAULT, Endpoint, Parameter
from .schema import Schema, choice, ref

_ALWAYS: Final = (401, 403, 429)
_OF_POST: Final = (400, 413, 415)


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of *endpoints*."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "txmicro",
            "version": _version.__version__,
            "description": "The API of a SystemManager. Times are Unix seconds, durations are seconds.",
        },
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [
        *(_parameter(each, "path") for each in endpoint.parameters),
        *(_parameter(each, "query") for each in endpoint.query),
    ]
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": _responses(endpoint),
    }
    if endpoint.method == "POST":
        parameters.append(_header())
        operation["requestBody"] = {"required": True, "content": _content(endpoint.body or {})}
    return {**operation, "parameters": parameters} if parameters else operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    errors = {*_ALWAYS, *endpoint.errors, 503}
    if endpoint.query or endpoint.parameters:
        errors.add(400)
    if endpoint.method == "POST":
        errors |= {*_OF_POST}
    responses = {
        "200": {
            "description": HTTPStatus.OK.phrase,
            "content": _content(endpoint.answer, endpoint.content_type),
        }
    }
    for status in sorted(errors):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": _content(ref("Error")),
        }
    responses["default"] = {"description": "Any other error", "content": _content(ref("Error"))}
    return responses


def _content(schema: Schema, content_type: str = JSON) -> dict[str, Any]:
    return {content_type: {"schema": schema}}


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    schema = parameter.schema
    optional = place == "query" and parameter.default is not NO_DEFAULT
    if optional and parameter.default is not None:
        schema = {**schema, "default": parameter.default}
    return {
        "name": parameter.name,
        "in": place,
        "required": not optional,
        "description": parameter.meaning,
        "schema": schema,
    }


def _header() -> dict[str, Any]:
    """Return the header that each POST needs, so that pages of other sites cannot send it."""
    return {"name": "X-Txmicro", "in": "header", "required": True, "schema": choice("1")}
