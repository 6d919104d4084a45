"""``txmicro dead``: the dead letters of a worker type."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TextIO

from twisted.python.usage import UsageError

from txmicro.amqp.connection import Connection
from txmicro.operations.dead_letter import DeadLetter
from txmicro.operations.dead_letters import DeadLetters, open_dead_letters

from .options import CommandGroup, TypeCommand, write

PAGE: Final = 50
"""How many letters ``list`` shows by default."""

LONGEST_PAGE: Final = 10_000


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= LONGEST_PAGE):
        raise UsageError(f"--limit: {text!r} is not valid; expected a whole number from 1 to {LONGEST_PAGE}")
    return int(text)


class DeadCommand(TypeCommand):
    """A command that works on the dead letters of one type."""

    letters: DeadLetters | None = None

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Open the dead letters, do the command, and return the letters that are left to the queue."""
        self.letters = await open_dead_letters(client, self["type"], clock, time)
        try:
            await self.work_on(self.letters, out)
        finally:
            await self.letters.close()

    def interrupt(self) -> bool:
        """Stop after the current batch of letters, and return True; return False if none has been read."""
        if self.letters is None:
            return False
        self.letters.stopping = True
        return True

    async def work_on(self, letters: DeadLetters, out: TextIO) -> None:
        """Do the command, and write its answer to *out*."""
        raise NotImplementedError


class ListDead(DeadCommand):
    """``txmicro dead list``."""

    longdesc = "Lists the dead letters of a worker type, oldest failure first."
    optParameters = [
        ["limit", None, PAGE, f"The most letters to list, up to {LONGEST_PAGE}."],
    ]
    optFlags = [["json", None, "Write one JSON object."]]

    def postOptions(self) -> None:
        """Convert the limit to a number; raise UsageError if it is wrong."""
        self["limit"] = _limit(str(self["limit"]))

    async def work_on(self, letters: DeadLetters, out: TextIO) -> None:
        """Write a page of letters."""
        page = [letter.summary() for letter in await letters.page(self["limit"])]
        total = letters.total - letters.copies
        page.sort(key=lambda letter: (letter["failed"] or "", letter["id"]))  # the broker's order changes
        if self["json"]:
            write(json.dumps({"type": self["type"], "total": total, "letters": page}), out)
        else:
            _write_page(self["type"], page, total, out)


class ShowDead(DeadCommand):
    """``txmicro dead show``."""

    synopsis = "TYPE ID... [options]"
    longdesc = "Shows dead letters with all headers and the body. An ID is that of a hop, or of a job for all its hops."

    def check(self) -> None:
        """Raise UsageError if there is no ID."""
        if not self["ids"]:
            raise UsageError("ID is missing; give the IDs of letters or jobs, which txmicro dead list shows")

    async def work_on(self, letters: DeadLetters, out: TextIO) -> None:
        """Write each letter as a JSON object."""
        for letter in await letters.show(self["ids"]):
            write(_in_full(letter), out)


class ChangeDead(DeadCommand):
    """A command that removes letters from the queue."""

    synopsis = "TYPE (ID... | --all) [options]"
    optFlags = [["all", None, "All letters that exist when the command starts."]]

    def check(self) -> None:
        """Raise UsageError unless there are either IDs or ``--all``."""
        if bool(self["ids"]) == bool(self["all"]):
            raise UsageError(
                "give either the IDs of letters or jobs, which txmicro dead list shows, or --all"
            )

    @property
    def chosen(self) -> list[str] | None:
        """The IDs; None: all letters."""
        return None if self["all"] else self["ids"]


class RequeueDead(ChangeDead):
    """``txmicro dead requeue``."""

    longdesc = "Stores the jobs again, with all their attempts. An ID is that of a hop, or of a job for all its hops."

    async def work_on(self, letters: DeadLetters, out: TextIO) -> None:
        """Requeue the letters, and write how many."""
        try:
            await letters.requeue(self.chosen)
        finally:
            write(f"{letters.done} requeued", out)
        if letters.expired:
            write(f"{letters.expired} expired, left as they are", out)


class DiscardDead(ChangeDead):
    """``txmicro dead discard``."""

    longdesc = "Deletes dead letters. An ID is that of a hop, or of a job for all its hops."

    async def work_on(self, letters: DeadLetters, out: TextIO) -> None:
        """Delete the letters, and write how many."""
        try:
            await letters.discard(self.chosen)
        finally:
            write(f"{letters.done} discarded", out)


class DeadOptions(CommandGroup):
    """``txmicro dead``."""

    subCommands = [
        ["list", None, ListDead, "List the dead letters of a worker type."],
        ["show", None, ShowDead, "Show dead letters with all headers and the body."],
        ["requeue", None, RequeueDead, "Store the jobs again, with all their attempts."],
        ["discard", None, DiscardDead, "Delete dead letters."],
    ]


def _write_page(kind: str, page: list[dict[str, Any]], total: int, out: TextIO) -> None:
    count = f"{total} dead letter{'' if total == 1 else 's'} of {kind}"
    if len(page) < total:
        count += f"; {len(page)} of them are shown, --limit shows more"
    write(count, out)
    if page:
        write(_row("ID", "STORED", "FAILED", "ATTEMPT", "REASON", "WORKER", "LAST FAILURE"), out)
    for letter in page:
        failure = letter["failure"]
        text = f"{failure['type']}: {failure['message']}" if failure else "-"
        write(
            _row(
                letter["id"],
                letter["stored"] or "-",
                letter["failed"] or "-",
                str(letter["attempt"]),
                letter["reason"],
                (failure["worker"] if failure else None) or "-",
                f"{text:.200}",
            ),
            out,
        )


def _row(*cells: str) -> str:
    widths = (24, 20, 20, 7, 14, 24, 0)
    return "  ".join(f"{' '.join(cell.split()):<{width}}" for cell, width in zip(cells, widths, strict=True))


def _in_full(letter: DeadLetter) -> str:
    contents = letter.contents()
    try:
        return json.dumps(contents, indent=2, ensure_ascii=False, default=_to_json)
    except (TypeError, ValueError, RecursionError):  # a key that is not a text, or too deep for JSON
        return json.dumps({**contents, "body": repr(contents.get("body"))}, indent=2, default=_to_json)


def _to_json(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)
