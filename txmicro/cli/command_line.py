"""The command line of ``txmicro``: all its commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from click.exceptions import Exit
from click.shell_completion import shell_complete

from .bench import BENCH
from .completion import COMPLETION, NAME, VARIABLE
from .configuration import CONFIGURATION
from .dead import DEAD
from .jobs import JOB, JOBS
from .logs import LOGS
from .new import NEW
from .options import group
from .queues import QUEUES
from .send import SEND
from .task import Task
from .top import TOP
from .workers import WORKERS

COMMANDS: Final = group(
    NAME,
    "Operate a system of txmicro workers.",
    [WORKERS, TOP, JOBS, JOB, LOGS, SEND, BENCH, DEAD, QUEUES, CONFIGURATION, NEW, COMPLETION],
    epilog="Status: 0 after success, 1 if the command failed, 2 if the command line or the configuration is wrong, 141 "
    "when nobody reads the output any more.",
)


def complete(instruction: str) -> int:
    """Write what the command line in the environment may go on with, for a shell's script; return the exit status.

    :param instruction: the shell and what it wants, such as ``bash_complete``.
    """
    return shell_complete(COMMANDS, {}, NAME, VARIABLE, instruction)


def read(words: Sequence[str]) -> Task:
    """Return the task of the command line *words*.

    :raise ClickException: it is wrong. :raise SystemExit: it asks for the help or the version, which is written.
    """
    try:
        with COMMANDS.make_context(NAME, list(words)) as context:
            task: Task = COMMANDS.invoke(context)
    except Exit as done:
        raise SystemExit(done.exit_code) from None
    return task
