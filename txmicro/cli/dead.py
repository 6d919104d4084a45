"""``txmicro dead``: the dead letters of a worker type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, TextIO

import click

from txmicro.amqp.connection import Connection
from txmicro.operations.dead_letter import DeadLetter
from txmicro.operations.dead_letter_queue import Chosen, DeadLetterQueue, open_dead_letter_queue
from txmicro.operations.letter_filter import EVERY

from .options import CONFIG, JSON, TYPE, command, group, whole_number
from .output import to_json, write, write_json
from .task import ConnectedTask, Context

PAGE: Final = 50
"""How many letters ``list`` shows by default."""

LONGEST_PAGE: Final = 10_000


@dataclass(kw_only=True)
class DeadTask(ConnectedTask):
    """Work on the dead letters of one type.

    :ivar kind: the type. :ivar letters: its dead letters, once they are opened.
    """

    kind: str
    letters: DeadLetterQueue | None = None

    async def work(self, client: Connection, context: Context) -> None:
        """Open the dead letters, do the task, and return the letters that are left to the queue."""
        self.letters = await open_dead_letter_queue(client, self.kind, context.reactor, context.time)
        try:
            await self.work_on(self.letters, context.out)
        finally:
            await self.letters.close()

    def interrupt(self) -> bool:
        """Stop after the current batch of letters, and return True; return False if none has been read."""
        if self.letters is None:
            return False
        self.letters.stopping = True
        return True

    async def work_on(self, letters: DeadLetterQueue, out: TextIO) -> None:
        """Do the task, and write its answer to *out*."""
        raise NotImplementedError


@dataclass(kw_only=True)
class ListDead(DeadTask):
    """``txmicro dead list``."""

    limit: int
    as_json: bool

    async def work_on(self, letters: DeadLetterQueue, out: TextIO) -> None:
        """Write a page of letters."""
        page = [letter.summary() for letter in await letters.page(self.limit)]
        total = letters.total - letters.copies
        page.sort(key=lambda letter: (letter["failed"] or "", letter["id"]))  # the broker's order changes
        if self.as_json:
            write_json({"type": self.kind, "total": total, "letters": page}, out)
        else:
            _write_page(self.kind, page, total, out)


@dataclass(kw_only=True)
class ShowDead(DeadTask):
    """``txmicro dead show``."""

    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise click.UsageError(
                "ID is missing; give the IDs of letters or jobs, which txmicro dead list shows"
            )

    async def work_on(self, letters: DeadLetterQueue, out: TextIO) -> None:
        """Write each letter as a JSON object."""
        for letter in await letters.show(self.ids):
            write(_in_full(letter), out)


@dataclass(kw_only=True)
class ChangeDead(DeadTask):
    """A task that removes letters from the queue."""

    ids: tuple[str, ...]
    all: bool
    as_json: bool = False

    def __post_init__(self) -> None:
        if bool(self.ids) == self.all:
            raise click.UsageError(
                "give either the IDs of letters or jobs, which txmicro dead list shows, or --all"
            )

    @property
    def chosen(self) -> Chosen:
        """The IDs, or what chooses all letters."""
        return EVERY if self.all else self.ids


class RequeueDead(ChangeDead):
    """``txmicro dead requeue``."""

    async def work_on(self, letters: DeadLetterQueue, out: TextIO) -> None:
        """Requeue the letters, and write how many, also if that fails halfway."""
        try:
            await letters.requeue(self.chosen)
        finally:
            if self.as_json:
                write_json({"requeued": letters.done, "expired": letters.expired}, out)
            else:
                write(f"{letters.done} requeued", out)
        if letters.expired and not self.as_json:
            write(f"{letters.expired} expired, left as they are", out)


class DiscardDead(ChangeDead):
    """``txmicro dead discard``."""

    async def work_on(self, letters: DeadLetterQueue, out: TextIO) -> None:
        """Delete the letters, and write how many, also if that fails halfway."""
        try:
            await letters.discard(self.chosen)
        finally:
            if self.as_json:
                write_json({"discarded": letters.done}, out)
            else:
                write(f"{letters.done} discarded", out)


_IDS: Final = click.Argument(["ids"], nargs=-1, metavar="ID...")
_IDS_OR_ALL: Final = click.Argument(["ids"], nargs=-1, metavar="(ID... | --all)")
_ALL: Final = click.Option(
    ["--all"], is_flag=True, help="All letters that exist when the command starts.", show_default=False
)
_LIMIT: Final = click.Option(
    ["--limit"],
    type=whole_number(1, LONGEST_PAGE),
    default=str(PAGE),
    help=f"The most letters to list, up to {LONGEST_PAGE}.",
)
_WHICH: Final = "An ID is that of a hop, or of a job for all its hops."

DEAD: Final = group(
    "dead",
    "List, show, requeue or discard dead letters: durable jobs that failed.",
    [
        command(
            "list",
            ListDead,
            "List the dead letters of a worker type, oldest failure first.",
            TYPE,
            _LIMIT,
            JSON,
            CONFIG,
        ),
        command(
            "show",
            ShowDead,
            f"Show dead letters with all headers and the body, each as a JSON object. {_WHICH}",
            TYPE,
            _IDS,
            CONFIG,
            short="Show dead letters with all headers and the body.",
        ),
        command(
            "requeue",
            RequeueDead,
            f"Store the jobs again, with all their attempts. {_WHICH}",
            TYPE,
            _IDS_OR_ALL,
            _ALL,
            JSON,
            CONFIG,
            short="Store the jobs again, with all their attempts.",
        ),
        command(
            "discard",
            DiscardDead,
            f"Delete dead letters. {_WHICH}",
            TYPE,
            _IDS_OR_ALL,
            _ALL,
            JSON,
            CONFIG,
            short="Delete dead letters.",
        ),
    ],
)


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
        return json.dumps(contents, indent=2, ensure_ascii=False, default=to_json)
    except (TypeError, ValueError, RecursionError):  # a key that is not a text, or too deep for JSON
        return json.dumps({**contents, "body": repr(contents.get("body"))}, indent=2, default=to_json)
