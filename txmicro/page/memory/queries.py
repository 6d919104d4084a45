"""Queries of the memory, as the page's API gets them."""

from __future__ import annotations

from typing import Final, NamedTuple

from txmicro.errors import BadRequest, show

MOST: Final = 500
"""The most jobs of a page."""


class JobQuery(NamedTuple):
    """Conditions for a list of jobs; empty or None: any.

    :ivar type: a worker type that a hop of the job went to.
    :ivar outcome: the outcome; ``pending``: none yet.
    :ivar error: the error's type.
    :ivar group: the id of a group of failures.
    :ivar search: words; each is the beginning of a word of the job's id, address, error or message.
    :ivar since: Unix seconds, since which the job was first heard of, or failed. :ivar until: likewise.
    :ivar limit: the most jobs of the page.
    :ivar after: ``next`` of the page before.
    """

    type: str = ""
    outcome: str = ""
    error: str = ""
    group: str = ""
    search: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = 50
    after: str = ""


class FailureQuery(NamedTuple):
    """Conditions for groups of failures; empty or None: any.

    :ivar since: Unix seconds; groups that failed since then, with the number of failures since then.
    :ivar type: the worker type where the job failed.
    :ivar search: texts that the type, the error or the message contains, all of them.
    :ivar limit: the most groups.
    """

    since: float | None = None
    type: str = ""
    search: str = ""
    limit: int = 200


class DeadGroup(NamedTuple):
    """The dead letters of a group of failures, as far as known.

    :ivar type: the worker type. :ivar error: the error's type; None: the group has failures of several kinds.
    :ivar message: the message of the group. :ivar keys: the keys of its dead letters.
    """

    type: str
    error: str | None
    message: str
    keys: list[str]


def read_after(after: str) -> int | None:
    """Return the number of the job that *after* names; None: it is empty.

    :raise txmicro.errors.BadRequest: it is not what a page's ``next`` was.
    """
    if not after:
        return None
    if not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise BadRequest(f"after: {show(after)} is not valid: expected the 'next' of the page before")
    return int(after)
