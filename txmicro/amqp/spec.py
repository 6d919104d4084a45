"""The :class:`txamqp.spec.Spec` of AMQP 0-9-1, built from pamqp's tables, because txamqp ships no spec file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from pamqp import base
from pamqp.commands import INDEX_MAPPING, Basic
from txamqp import spec as txamqp

_WITH_CONTENT: Final = (Basic.Publish, Basic.Return, Basic.Deliver, Basic.GetOk)


def _dashed(name: str) -> str:
    """Return *name* as AMQP writes it: ``DeclareOk`` is ``declare-ok``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _method(klass: Any, kind: type[base.Frame]) -> Any:
    summary = (kind.__doc__ or "").partition("\n")[0]
    method = txamqp.Method(
        klass, _dashed(kind.__name__), kind.frame_id, kind in _WITH_CONTENT, [], kind.synchronous, summary, []
    )
    for number, name in enumerate(kind.attributes()):
        method.fields.add(txamqp.Field(name, number, kind.amqp_type(name), []))
    return method


def _class(spec: Any, number: int, kinds: Iterable[type[base.Frame]]) -> Any:
    kinds = list(kinds)
    name = _dashed(kinds[0].name.partition(".")[0])
    klass = txamqp.Class(spec, name, number, "connection" if name == "connection" else "channel", [])
    for kind in kinds:
        klass.methods.add(_method(klass, kind))
    for kind in kinds:
        responses = [_dashed(response.partition(".")[2]) for response in kind.valid_responses]
        method = klass.methods.byid[kind.frame_id]
        method.responses = [klass.methods.byname[response] for response in responses]
        for response in method.responses:
            response.response = True
    return klass


def _build() -> Any:
    spec = txamqp.Spec(0, 9, INDEX_MAPPING[0x000A000A].__module__)
    spec.constants.add(txamqp.Constant(spec, "frame-end", 0xCE, None, []))
    for number in sorted({index >> 16 for index in INDEX_MAPPING}):
        kinds = [kind for index, kind in INDEX_MAPPING.items() if index >> 16 == number]
        spec.classes.add(_class(spec, number, kinds))
    spec.post_load()
    return spec


SPEC: Final = _build()
"""The only instance. Its generated methods (``channel.queue_declare(queue=…)``) are compiled once."""

METHODS: Final[dict[int, Any]] = {
    method.klass.id << 16 | method.id: method for klass in SPEC.classes for method in klass.methods
}
"""The methods of txamqp, by their index in pamqp."""


def index_of(method: Any) -> int:
    """Return the index in pamqp of *method*, which is txamqp's."""
    index: int = method.klass.id << 16 | method.id
    return index
