"""Makes the reference of the ``txmicro`` command from the commands themselves; ``conf.py`` puts it into the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from txmicro.cli.command_line import COMMANDS, NAME

_COMMON = frozenset({"--version"})
"""Options that every command has; the page describes them once."""


def commands(
    command: click.Command = COMMANDS, parent: click.Context | None = None
) -> Iterator[tuple[click.Command, click.Context]]:
    """Return all commands that can be run, in the order of ``--help``, with their contexts."""
    context = click.Context(
        command, parent, NAME if parent is None else command.name, **command.context_settings
    )
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        yield from commands(command.commands[name], context)


def full() -> str:
    """Return the reference in reStructuredText: a section for each command, with its options."""
    return "\n".join(line for command, context in commands() for line in _section(command, context))


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    path = context.command_path
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield from (path, "-" * len(path), "", "::", "", f"    {usage}", "", _escape(command.help or ""), "")
    yield from (f".. program:: {path}", "")
    for param in command.params:
        if isinstance(param, click.Option) and not _COMMON & set(param.opts):
            yield from _option(param, context)


def _option(option: click.Option, context: click.Context) -> Iterator[str]:
    names, meaning = option.get_help_record(context) or ("", "")
    yield from (f".. option:: {names}", "", f"   {_escape(meaning)}", "")


def _escape(text: str) -> str:
    return re.sub(r"([*`|\\_])", r"\\\1", " ".join(text.split()))
