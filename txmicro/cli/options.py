"""The options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from txmicro._version import __version__
from txmicro.config import FILE_HELP
from txmicro.errors import AddressError
from txmicro.protocol.address import check_type

from .task import Task


class Group(click.Group):
    """A command line that has to name one of its commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*; raise UsageError if they name no command."""
        if not (args or ctx.resilient_parsing):
            names = ", ".join(self.commands)
            raise click.UsageError(f"the command is missing; expected one of {names}", ctx)
        return super().parse_args(ctx, args)


def group(name: str, meaning: str, commands: Sequence[click.Command], epilog: str | None = None) -> Group:
    """Return the group *name* of *commands*, in this order."""
    found = {each.name or "": each for each in commands}
    made = Group(
        name,
        commands=found,
        params=[VERSION],
        help=meaning,
        short_help=meaning,
        epilog=epilog,
        no_args_is_help=False,
    )
    made.list_commands = lambda ctx: list(found)  # type: ignore[method-assign]  # click sorts them
    return made


def command(
    name: str, task: Callable[..., Task], meaning: str, *params: click.Parameter, short: str | None = None
) -> click.Command:
    """Return the command *name*, which makes a *task* of its options and arguments.

    :param meaning: what it does, for ``--help``. :param short: the same for the list of commands.
    """
    return click.Command(
        name,
        callback=task,
        params=[*params, VERSION],
        help=meaning,
        short_help=short,
        context_settings={"show_default": True},
    )


# Types of values


if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # not generic at run time in all versions of click that we support


class Value(ParamType):
    """A type of values whose check raises ValueError, or AddressError, which says what is wrong.

    :param check: returns the value of a text. :param expected: a description of valid values.
    """

    def __init__(self, name: str, check: Callable[[str], Any], expected: str) -> None:
        self.name = name
        self._check = check
        self._expected = expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of a text; raise UsageError if it is not valid."""
        if not isinstance(value, str):
            return value
        name = param.opts[0] if isinstance(param, click.Option) else self.name
        try:
            return self._check(value)
        except AddressError as error:
            raise click.UsageError(f"{name}: {error}", ctx) from error
        except ValueError as error:
            expected = f"{value!r} is not valid; expected {self._expected}"
            raise click.UsageError(f"{name}: {expected}", ctx) from error


def whole_number(low: int, high: int) -> Value:
    """Return the type of the whole numbers from *low* to *high*."""

    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return Value("N", check, f"a whole number from {low} to {high}")


def seconds(high: float) -> Value:
    """Return the type of a number of seconds above 0, up to *high*."""

    def check(text: str) -> float:
        number = float(text)
        if not 0 < number <= high:
            raise ValueError
        return number

    return Value("SECONDS", check, f"seconds, a number above 0 and up to {high:g}")


# Options and arguments


def argument(value: Value, name: str, missing: str) -> click.Argument:
    """Return the argument *name*; *missing* says what to do if it is missing."""

    def check(ctx: click.Context, _param: click.Parameter, given: Any) -> Any:
        if not (given or ctx.resilient_parsing):
            raise click.UsageError(f"{value.name} is missing; {missing}", ctx)
        return given

    # click's own text for what is missing does not say what to do.
    return click.Argument([name], type=value, metavar=value.name, required=False, callback=check)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"txmicro {__version__}")
        ctx.exit()


VERSION = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and exit.",
    show_default=False,
)
CONFIG = click.Option(["--config", "-c"], metavar="FILE", help=FILE_HELP)
JSON = click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object.", show_default=False)
TYPE_VALUE = Value("TYPE", check_type, "a worker type")
TYPE = argument(TYPE_VALUE, "kind", "give a worker type, such as Invoices")
