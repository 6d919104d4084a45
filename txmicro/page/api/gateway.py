"""Makes routes of the API's description: checks each request, calls its handler, and records actions in the audit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from txmicro.errors import BadRequest, DecodeError, TxmicroError
from txmicro.operations.dead_letter_queue import DeadLetterExpired, DeadLetterNotFound, NoDeadLetters
from txmicro.operations.operator_channel import TypeLocked
from txmicro.page.access import OPERATOR, Access, Caller, check_origin
from txmicro.page.audit import Audit
from txmicro.page.dead_letters import Interruption
from txmicro.page.site import Answer, PageRoute, Refusal, header, json_answer
from txmicro.protocol.codec.json import STRICT_JSON

from .endpoint import JSON, NO_DEFAULT, Call, Endpoint, Parameter
from .schema import BODY, Invalid, check, read

_HEADERS: Final = {"cache-control": "no-store"}
_SHOWN: Final = 5  # items of a list in the audit
_LONGEST: Final = 500  # characters of a detail in the audit

_STATUSES: Final[Mapping[type[BaseException], tuple[int, str]]] = {
    BadRequest: (400, "BadRequest"),
    NoDeadLetters: (404, "NotFound"),
    DeadLetterNotFound: (404, "NotFound"),
    DeadLetterExpired: (409, "Conflict"),
    TypeLocked: (409, "Conflict"),
}


class Gateway:
    """Makes routes; see the module.

    :param access: decides who may use them. :param audit: records the actions.
    """

    def __init__(self, access: Access, audit: Audit) -> None:
        self._access = access
        self._audit = audit

    def route(self, endpoint: Endpoint) -> PageRoute:
        """Return the route of *endpoint*."""
        return PageRoute(endpoint.method, endpoint.path, partial(self._handle, endpoint))

    def guard(self, route: PageRoute) -> PageRoute:
        """Return *route*, where the page is served. It needs no login: it is for what is not secret."""
        return route._replace(handler=partial(self._guarded, route))

    def _guarded(self, route: PageRoute, request: Any, **path: str) -> Any:
        self._access.check_place(request)
        return route.handler(request, **path)

    def _handle(self, endpoint: Endpoint, request: Any, **path: str) -> Any:
        caller = self._access.admit(request)
        try:
            call = _call(endpoint, request, path, caller)
        except Refusal as refusal:
            if endpoint.action:
                self._audit.record(caller, endpoint.action, " ".join(path.values()), _refused(refusal))
            raise
        if endpoint.content_type != JSON:
            return endpoint.handler(request)
        answering = maybeDeferred(endpoint.handler, call).addErrback(_translate)
        if endpoint.action:
            answering.addCallbacks(
                self._done, self._not_done, callbackArgs=(endpoint, call), errbackArgs=(endpoint, call)
            )
        return _shield(answering.addCallback(json_answer, headers=_HEADERS))

    def _done(self, content: Any, endpoint: Endpoint, call: Call) -> Any:
        self._audit.record(call.caller, endpoint.action, _detail(call), _members(content) or "done")
        return content

    def _not_done(self, failure: Failure, endpoint: Endpoint, call: Call) -> Failure:
        error = failure.value
        outcome = _refused(error) if isinstance(error, Refusal) else f"failed: {type(error).__name__}"
        self._audit.record(call.caller, endpoint.action, _detail(call), outcome)
        return failure


def _shield(answering: Deferred[Answer]) -> Deferred[Answer]:
    """Return a Deferred that fires as *answering*, which is not canceled with it when the client leaves.

    An action that has begun is completed, and recorded.
    """
    shielded: Deferred[Answer] = Deferred()

    def fire(outcome: Any) -> None:
        if not shielded.called:
            shielded.callback(outcome)

    answering.addBoth(fire)
    return shielded


# Requests


def _call(endpoint: Endpoint, request: Any, path: Mapping[str, str], caller: Caller) -> Call:
    """Return the checked request; raise :class:`~txmicro.page.site.Refusal`."""
    if endpoint.role == OPERATOR and caller.role != OPERATOR:
        raise Refusal(403, "Forbidden", f"{caller.name} is a reader; only an operator may do this")
    if endpoint.method == "POST":
        check_origin(request)
        _check_content_type(request)
    try:
        for parameter in endpoint.parameters:
            check(parameter.schema, path[parameter.name], parameter.name)
        query = _query(endpoint, request.args)
        body = None if endpoint.body is None else _body(endpoint.body, request)
    except Invalid as error:
        raise Refusal(400, "BadRequest", str(error)) from error
    return Call(caller, path, query, body)


def _check_content_type(request: Any) -> None:
    kind = header(request, "content-type").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Refusal(415, "UnsupportedMediaType", f"the Content-Type is {kind!r:.100}; expected {JSON}")


def _query(endpoint: Endpoint, given: Mapping[bytes, list[bytes]]) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in endpoint.query}
    found = {}
    for name, values in given.items():
        parameter = known.get(name.decode("latin-1"))
        if parameter is None:
            expected = f"expected {', '.join(known)}" if known else "expected none"
            raise Invalid(f"{name.decode('latin-1')!r:.60} is not a valid parameter; {expected}")
        if len(values) != 1:
            raise Invalid(f"{parameter.name}: expected one value, got {len(values)}")
        found[parameter.name] = _value(parameter, values[0])
    for parameter in endpoint.query:
        if parameter.name not in found:
            if parameter.default is NO_DEFAULT:
                raise Invalid(f"{parameter.name} is missing")
            found[parameter.name] = parameter.default
    return found


def _value(parameter: Parameter, value: bytes) -> Any:
    try:
        return read(parameter.schema, value.decode(), parameter.name)
    except UnicodeDecodeError as error:
        raise Invalid(f"{parameter.name}: {value!r:.60} is not valid UTF-8") from error


def _body(schema: Any, request: Any) -> Any:
    try:
        body = STRICT_JSON.decode(request.content.read())
    except DecodeError as error:
        raise Invalid(f"{BODY}: {error}") from error
    check(schema, body, BODY)
    return body


# Errors and the audit


def _translate(failure: Failure) -> Failure:
    """Raise an error that the API explains as a refusal; return any other one."""
    error = failure.value
    if isinstance(error, Interruption):
        settled = error.settled
        text = f"{settled.done} letters are done, then it failed: {error}; the other letters are as before"
        raise Refusal(503, "Unavailable", text, content={"done": settled.done}) from error
    for kind, (status, name) in _STATUSES.items():
        if isinstance(error, kind):
            raise Refusal(status, name, str(error)) from error
    if isinstance(error, TxmicroError):
        raise Refusal(503, "Unavailable", str(error)) from error
    return failure


def _refused(refusal: Refusal) -> str:
    return f"refused ({refusal.status}): {refusal.message}"


def _detail(call: Call) -> str:
    return " ".join([*call.path.values(), _members(call.body)])[:_LONGEST]


def _members(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_shown(value)}" for name, value in content.items())


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"{len(value)} items"
    return json.dumps(value)
