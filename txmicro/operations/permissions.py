"""RabbitMQ's permissions for a system: one user for each worker type, with only the rights that the type needs.

Names on the broker contain the worker type as their third word. A user may configure, write and read its own type's
names, and write to the exchanges of the types that it sends jobs to or answers. On the two exchanges that all types
share, topic permissions decide (https://www.rabbitmq.com/docs/access-control#topic-authorisation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from txmicro.manager import PROBLEMS
from txmicro.manager import TYPE as MANAGER
from txmicro.monitoring.report import WATCH, report_topic
from txmicro.protocol import topology
from txmicro.protocol.notifications import LEVELS

NOTHING: Final = "^$"


@dataclass(frozen=True)
class Role:
    """The rights of the workers of a type.

    :ivar kind: the type, which is also the name of its user.
    :ivar sends: the types that it sends or forwards jobs to.
    :ivar answers: the types that it answers because other types forward their jobs to it. Types whose ``sends``
        include this type need not be listed.
    :ivar publishes: the topics of its events, with ``*`` and ``#`` as in patterns. Topics of log lines need not be
        listed.
    :ivar subscribes: the patterns of the events that it subscribes to.
    """

    kind: str
    sends: Sequence[str] = ()
    answers: Sequence[str] = ()
    publishes: Sequence[str] = ()
    subscribes: Sequence[str] = ()


@dataclass(frozen=True)
class Operator:
    """A user for ``txmicro dead``, who may do nothing else.

    :ivar user: its name. :ivar kinds: the worker types whose dead letters it manages.
    """

    user: str
    kinds: Sequence[str]


def definitions(
    roles: Sequence[Role], vhost: str = "/", operators: Sequence[Operator] = ()
) -> dict[str, Any]:
    """Return definitions for ``rabbitmqctl import_definitions``: users for *roles*, *operators* and the SystemManager.

    The definitions contain the users' permissions and topic permissions, and the shared exchanges. The users have no
    passwords: they log in with a certificate, or get a password from ``rabbitmqctl change_password``.
    """
    users = [MANAGER, *(role.kind for role in roles), *(operator.user for operator in operators)]
    rights = (
        _manager_rights(),
        *(_rights(role, roles) for role in roles),
        *map(_operator_rights, operators),
    )
    return {
        "vhosts": [{"name": vhost}],
        "users": [{"name": name, "password_hash": "", "tags": ""} for name in users],
        "permissions": [{"vhost": vhost, **each} for each in rights],
        "topic_permissions": [
            {"vhost": vhost, **each}
            for each in (*_manager_topics(), *(t for role in roles for t in _topics(role)))
        ],
        "exchanges": [
            {
                "vhost": vhost,
                "name": exchange.name,
                "type": exchange.kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for exchange in topology.SHARED
        ],
    }


def _rights(role: Role, roles: Sequence[Role]) -> dict[str, str]:
    own, shared = _own(role.kind), _names(exchange.name for exchange in topology.SHARED)
    to = _names(map(topology.to_exchange, role.sends))
    replies = _names(map(topology.replies_exchange, _talks_to(role, roles)))
    return {
        "user": role.kind,
        "configure": _any(own),
        "write": _any(own, *shared, *to, *replies),
        "read": _any(own, *shared),
    }


def _talks_to(role: Role, roles: Sequence[Role]) -> list[str]:
    """Return the types whose inboxes it publishes to: a job's worker sends acks and results, its sender inquires."""
    theirs = (each.kind for each in roles if role.kind in (*each.sends, *each.answers))
    return sorted({*role.sends, *role.answers, *theirs} - {role.kind})


def _manager_rights() -> dict[str, str]:
    own, shared = _own(MANAGER), _names(exchange.name for exchange in topology.SHARED)
    everybody = re.escape(topology.replies_exchange("")) + _TYPE
    # RabbitMQ 4.3 tells a user how many messages and consumers a queue has only if the user has a permission for that
    # queue. Write is the least of them: it allows neither to consume jobs nor to delete the queue.
    queues = map(_of_any_type, _WATCHED)
    # Operators requeue and discard dead letters at its page, as those of `txmicro dead` do: see _operator_rights.
    return {
        "user": MANAGER,
        "configure": _any(own, _of_any_type(topology.operator_queue)),
        "write": _any(own, *shared, everybody, *queues, _of_any_type(topology.durable_exchange)),
        "read": _any(own, *shared, _of_any_type(topology.dead_queue)),
    }


def _operator_rights(operator: Operator) -> dict[str, str]:
    """Return the rights to hold the lock, to read letters, and to publish jobs again."""
    return {
        "user": operator.user,
        "configure": _any(*_names(map(topology.operator_queue, operator.kinds))),
        "write": _any(*_names(map(topology.durable_exchange, operator.kinds))),
        "read": _any(*_names(map(topology.dead_queue, operator.kinds))),
    }


def _topics(role: Role) -> list[dict[str, str]]:
    kind = re.escape(role.kind)
    readable = (
        rf"worker\.new\.{kind}",
        rf"worker\.del\.{kind}",
        r"worker\.del",
        r"worker\.getAll",
        _LEVELS,
        _WATCH,
    )
    writable = (
        rf"worker\.new\.{kind}",
        rf"worker\.new\.resend\.{kind}",
        rf"worker\.del\.{kind}",
        re.escape(report_topic(role.kind)),
        *_ASKING,
    )
    return [
        _topic(role.kind, topology.NOTIFICATIONS, writable, readable),
        _topic(
            role.kind,
            topology.EVENTS,
            (_LOG_LINES, *map(_matching, role.publishes)),
            _names(role.subscribes),
        ),
    ]


def _manager_topics() -> list[dict[str, str]]:
    patterns = ("worker.new.#", "worker.del.#", report_topic("#"))
    readable = (*_names(patterns), *_ASKING, r"worker\.getAll", _LEVELS)
    writable = (r"worker\.getAll", rf"worker\.del\.{_TYPE}", _LEVELS, _WATCH)
    return [
        _topic(MANAGER, topology.NOTIFICATIONS, writable, readable),
        _topic(MANAGER, topology.EVENTS, (_LOG_LINES,), _names(PROBLEMS)),
    ]


def _topic(user: str, exchange: str, write: Iterable[str], read: Iterable[str]) -> dict[str, str]:
    return {"user": user, "exchange": exchange, "write": _any(*write), "read": _any(*read)}


# Expressions

_TYPE: Final = "[A-Za-z0-9_-]+"
_WATCH: Final = re.escape(WATCH)
# Of every type, because a line may be about another worker.
_LOG_LINES: Final = rf"log\.[a-z]+\.{_TYPE}"
_LEVELS: Final = re.escape(LEVELS)
_ASKING: Final = (r"worker\.next", r"worker\.list")


_WATCHED: Final = (
    topology.jobs_queue,
    topology.durable_queue,
    topology.quarantine_queue,
    topology.dead_queue,
)


def _of_any_type(name: Callable[[str], str]) -> str:
    """Return an expression for the names that *name* returns for types."""
    return re.escape(name("TYPE")).replace("TYPE", _TYPE)


def _own(kind: str) -> str:
    """Return an expression for all names of a type and of its workers, whose ids follow a colon."""
    return rf"txmicro\.[a-z]+\.{re.escape(kind)}([.:].+)?"


def _names(names: Iterable[str]) -> list[str]:
    return [re.escape(name) for name in names]


def _matching(pattern: str) -> str:
    """Return an expression for the topics that *pattern* matches."""
    return re.escape(pattern).replace(r"\*", r"[^.]+").replace(r"\#", ".*")


def _any(*expressions: str) -> str:
    return f"^({'|'.join(expressions)})$" if expressions else NOTHING
