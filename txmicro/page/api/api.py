"""The endpoints of the API; :doc:`/reference/page_api` describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from txmicro import _version
from txmicro.manager import SystemManager
from txmicro.monitoring import records
from txmicro.monitoring.records import Record
from txmicro.operations.letter_filter import FailureGroup, LetterFilter
from txmicro.page.access import OPERATOR, Access
from txmicro.page.audit import LINES, Audit
from txmicro.page.dead_letters import DeadLetterOperations, Interruption, Settled
from txmicro.page.memory.memory import JobMemory
from txmicro.page.memory.queries import MOST, FailureQuery, JobQuery
from txmicro.page.monitor import Monitor
from txmicro.page.site import PageRoute, Refusal
from txmicro.util.log_levels import LEVELS

from . import answers
from .endpoint import ANY_TYPE, TYPE, Call, Endpoint, Parameter
from .events import Events
from .gateway import Gateway
from .openapi import describe
from .paging import AFTER, decode, encode, place_of
from .schema import BOOLEAN, Schema, array, choice, number, one_of, record, text, whole

KEYS: Final = 1_000
"""The most dead letters that one request names."""

_KEY: Final = text(500, shortest=1)
_TEXT: Final = text(500)
_TYPE: Final = Parameter("type", TYPE, "worker type")
_OF_TYPE: Final = Parameter("type", ANY_TYPE, "only this worker type; empty: all", "")
_SEARCH: Final = Parameter("search", _TEXT, "only what contains this text, in any case", "")
_ERROR: Final = Parameter("error", _TEXT, "only this type of error", "")
_TIME: Final = number(high=1e11)
_SINCE: Final = Parameter("since", _TIME, "only since this time, in Unix seconds", None)


def _after(schema: Schema) -> Parameter:
    return Parameter("after", schema, "the next of the page before", "")


def _limit(default: int, high: int) -> Parameter:
    return Parameter("limit", whole(1, high), "most items of the answer", default)


_GROUP: Final = text(64)
_LETTER_FILTER: Final = record(
    {}, {"search": _TEXT, "error": _TEXT, "message": _TEXT, "reason": _TEXT, "group": _GROUP}
)
_LOG_LEVEL: Final = record(
    {
        "component": text(
            1_010, pattern=r"^(\*|[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,9})$", shortest=1
        ),
        "level": choice("", *LEVELS),
    },
    {"type": ANY_TYPE},
)
_SETTLE: Final = one_of(
    record({}, {"keys": array(_KEY, KEYS), "filter": _LETTER_FILTER, "dry_run": BOOLEAN}),
    ["keys", "filter"],
)


class Api:
    """The API.

    :param manager: the SystemManager. :param monitor: watches the workers.
    :param letters: the dead letters. :param access: decides who may use the API.
    :param clock: a reactor, or a ``Clock``. :param time: gives Unix time, in seconds.
    :ivar memory: remembers jobs; None: the process is starting or stopping.
    """

    memory: JobMemory | None = None

    def __init__(
        self,
        manager: SystemManager,
        monitor: Monitor,
        letters: DeadLetterOperations,
        access: Access,
        *,
        clock: Any,
        time: Callable[[], float],
    ) -> None:
        self._manager = manager
        self._monitor = monitor
        self._letters = letters
        self._time = time
        self._audit = Audit(time)
        self._gateway = Gateway(access, self._audit)
        self._events = Events(monitor, lambda: self.memory.failure_changes if self.memory else 0, clock)

    @property
    def routes(self) -> list[PageRoute]:
        """All routes."""
        return [self._gateway.route(endpoint) for endpoint in self.endpoints]

    def guard(self, route: PageRoute) -> PageRoute:
        """Return *route*, where the page is served, for all: the form for the login is among its files."""
        return self._gateway.guard(route)

    async def close(self) -> None:
        """End the answers that have no end, and wait for the actions on dead letters."""
        self._events.close()
        await self._letters.stop()

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """The descriptions of all routes."""
        return [
            *self._about_now(),
            *self._about_jobs(),
            *self._about_letters(),
            *self._about_itself(),
        ]

    @cached_property
    def description(self) -> dict[str, Any]:
        """The OpenAPI description."""
        return describe(self.endpoints)

    # The fleet

    def _about_now(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "session", "GET", "/api/session", "Who asks, and with which role", self._session, answers.SESSION
        )
        yield Endpoint(
            "overview",
            "GET",
            "/api/overview",
            "All worker types with their numbers of now",
            lambda _call: self._monitor.overview(),
            answers.OVERVIEW,
        )
        yield Endpoint(
            "events",
            "GET",
            "/api/events",
            "Server-sent events: update (the overview, once a second), line and failures",
            self._events.handle,
            {"type": "string"},
            content_type="text/event-stream",
        )
        yield Endpoint(
            "series",
            "GET",
            "/api/types/{type}/series",
            "The numbers of a worker type, one for each second",
            self._series,
            answers.SERIES,
            parameters=[_TYPE],
            query=[Parameter("seconds", whole(1, 600), "how many seconds back", 600)],
            errors=[404],
        )
        yield Endpoint(
            "workers",
            "GET",
            "/api/workers",
            "Workers by id",
            lambda call: self._monitor.workers(**call.query),
            answers.WORKERS,
            query=[
                _OF_TYPE,
                Parameter("state", choice("", "alive", "suspect"), "only in this state; empty: any", ""),
                _SEARCH,
                _limit(100, 1_000),
                _after(text(200)),
            ],
        )
        yield Endpoint(
            "flow",
            "GET",
            "/api/flow",
            "The jobs that flow between the worker types",
            lambda _call: self._monitor.flow(),
            answers.FLOW,
        )
        yield Endpoint(
            "errors",
            "GET",
            "/api/errors",
            "The latest warnings and errors of all processes, the newest first",
            lambda call: self._monitor.errors(**call.query),
            answers.ERRORS,
            query=[_limit(100, 1_000)],
        )

    def _session(self, call: Call) -> Any:
        return {
            "name": call.caller.name,
            "role": call.caller.role,
            "manager": self._manager.id,
            "version": _version.__version__,
            "time": self._time(),
        }

    def _series(self, call: Call) -> Any:
        series = self._monitor.series(call.path["type"], **call.query)
        if series is None:
            raise Refusal(404, "NotFound", f"no worker of type {call.path['type']} is known")
        return series

    # Jobs

    def _about_jobs(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "jobs",
            "GET",
            "/api/jobs",
            "The jobs that are remembered, the newest first",
            lambda call: self._memory().jobs(JobQuery(**call.query)),
            answers.JOBS,
            query=[
                _OF_TYPE,
                Parameter("outcome", text(64), "only this outcome; empty: any", ""),
                _ERROR,
                Parameter("group", _GROUP, "only failures of this group; empty: all", ""),
                _SEARCH,
                _SINCE,
                Parameter("until", _TIME, "only until this time, in Unix seconds", None),
                _limit(50, MOST),
                _after(text(18, pattern="^[0-9]{0,18}$")),
            ],
        )
        yield Endpoint(
            "job",
            "GET",
            "/api/jobs/{id}",
            "A job with its steps",
            self._job,
            answers.JOB,
            parameters=[Parameter("id", text(200, shortest=1), "the job's id")],
            errors=[404],
        )
        yield Endpoint(
            "failures",
            "GET",
            "/api/failures",
            "Groups of failures that are alike, the one that failed last first",
            lambda call: self._memory().failures(FailureQuery(**call.query)),
            answers.FAILURES,
            query=[_SINCE, _OF_TYPE, _SEARCH, _limit(200, 1_000)],
        )

    def _memory(self) -> JobMemory:
        if self.memory is None:
            raise Refusal(503, "Unavailable", "the process is starting or stopping", retry_after="5")
        return self.memory

    async def _job(self, call: Call) -> Any:
        job = await self._memory().job(call.path["id"])
        if job is None:
            raise Refusal(404, "NotFound", "no job with this id is remembered")
        return job

    # Dead letters

    def _about_letters(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "dead", "GET", "/api/dead", "How many dead letters each worker type has", self._dead, answers.DEAD
        )
        yield Endpoint(
            "letters",
            "GET",
            "/api/dead/{type}",
            "The dead letters of a worker type, the latest first",
            self._list,
            answers.LETTERS,
            parameters=[_TYPE],
            query=[
                _SEARCH,
                _ERROR,
                Parameter("message", _TEXT, "only this message, except for its numbers, ids and quotes", ""),
                Parameter("reason", _TEXT, "only this reason", ""),
                Parameter("group", _GROUP, "only of this group of failures; empty: all", ""),
                _limit(50, 1_000),
                _after(AFTER),
            ],
            errors=[404, 409],
        )
        for action, meaning in (
            ("requeue", "Publish jobs of dead letters again"),
            ("discard", "Delete dead letters"),
        ):
            yield Endpoint(
                action,
                "POST",
                f"/api/dead/{{type}}/{action}",
                f"{meaning}, or count them (dry_run)",
                self._requeue if action == "requeue" else self._discard,
                answers.SETTLED,
                role=OPERATOR,
                parameters=[_TYPE],
                body=_SETTLE,
                errors=[404, 409],
                action=f"{action} dead letters",
            )

    def _dead(self, _call: Call) -> Any:
        types = self._monitor.overview()["types"]
        return {
            "types": [
                {"type": each["type"], "jobs": each["queues"]["dead"]["jobs"]}
                for each in types
                if each["queues"]["dead"]["jobs"] is not None
            ]
        }

    async def _list(self, call: Call) -> Any:
        query = dict(call.query)
        limit, after = query.pop("limit"), query.pop("after")
        wanted = await self._filter(call.path["type"], query)
        rows, total = await self._letters.rows(call.path["type"])
        chosen = [row for row in rows if wanted.matches(row)]
        rest = [row for row in chosen if not after or place_of(row) < decode(after)]
        page = rest[:limit]
        return {
            "total": total if wanted == LetterFilter() else len(chosen),
            "next": encode(place_of(page[-1])) if len(rest) > limit else None,
            "letters": [row._asdict() for row in page],
        }

    async def _filter(self, kind: str, given: Mapping[str, str]) -> LetterFilter:
        """Return the filter *given*, with the group of failures that it names."""
        wanted: dict[str, Any] = dict(given)
        id = wanted.pop("group", "")
        if not id:
            return LetterFilter(**wanted)
        found = await self._memory().dead_letters(id)
        if found is None:
            raise Refusal(404, "NotFound", "no failures of this group are remembered")
        error = found.error if found.type == kind else None  # other types' letters may have the same error
        return LetterFilter(**wanted, group=FailureGroup(frozenset(found.keys), error, found.message))

    async def _requeue(self, call: Call) -> Any:
        return await self._settle(call, self._letters.requeue, records.REQUEUED)

    async def _discard(self, call: Call) -> Any:
        return await self._settle(call, self._letters.discard, records.DISCARDED)

    async def _settle(self, call: Call, settle: Callable[..., Any], happened: str) -> Any:
        kind, body = call.path["type"], call.body
        chosen = body["keys"] if "keys" in body else await self._filter(kind, body["filter"])
        if body.get("dry_run", False):
            matched = await self._letters.count(kind, chosen)
            return {"matched": matched, "done": 0, "expired": 0, "dry_run": True}
        try:
            settled: Settled = await settle(call.caller.name, kind, chosen)
        except Interruption as interruption:
            self._remember(interruption.settled, happened, call)
            raise
        self._remember(settled, happened, call)
        return {
            "matched": settled.matched,
            "done": settled.done,
            "expired": settled.expired,
            "dry_run": False,
        }

    def _remember(self, settled: Settled, happened: str, call: Call) -> None:
        """Add to the lives of the jobs what the operator has done."""
        if self.memory is not None:
            jobs = (key.rpartition("/") for key in settled.keys)
            self.memory.add(
                Record(happened, self._time(), job, int(hop), text=call.caller.name)
                for job, _, hop in jobs
                if hop.isascii() and hop.isdecimal()
            )

    # The API itself

    def _about_itself(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "audit",
            "GET",
            "/api/audit",
            "The latest actions at the page, the newest first",
            lambda call: {"lines": self._audit.latest(call.query["limit"])},
            answers.AUDIT,
            role=OPERATOR,
            query=[_limit(100, LINES)],
        )
        yield Endpoint(
            "logLevels",
            "GET",
            "/api/log-levels",
            "The levels of the manager's log, by component",
            lambda _call: {"levels": self._manager.log_levels},
            answers.LOG_LEVELS,
        )
        yield Endpoint(
            "setLogLevel",
            "POST",
            "/api/log-levels",
            "Set the level of a component in all processes, or in those of a worker type, until they end",
            self._set_log_level,
            answers.NOTHING,
            role=OPERATOR,
            body=_LOG_LEVEL,
            action="set a log level",
        )
        yield Endpoint(
            "description",
            "GET",
            "/api/openapi.json",
            "This description",
            lambda _call: self.description,
            answers.DESCRIPTION,
        )

    def _set_log_level(self, call: Call) -> Any:
        try:
            self._manager.set_log_level(**call.body)
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from error
        return {}
