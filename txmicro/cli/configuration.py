"""``txmicro config``: checks the configuration, and shows where its values come from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

from txmicro.config import describe_origin
from txmicro.errors import ConfigError

from .options import CONFIG, JSON, command, group
from .origins import origins
from .output import write, write_json, write_table
from .task import Context, Task


@dataclass(kw_only=True)
class CheckConfig(Task):
    """``txmicro config check``."""

    as_json: bool
    config: str | None = None

    async def run(self, context: Context) -> None:
        """Write where the configuration comes from; raise ConfigError with all its problems."""
        path = context.find(self.config)
        origin = describe_origin(path, context.environ)
        problems: list[str] = []
        try:
            context.targets(context.reactor, context.load(self.config))
        except ConfigError as error:
            problems = error.problems
        if self.as_json:
            write_json({"valid": not problems, "origin": origin, "problems": problems}, context.out)
        elif not problems:
            write(f"the configuration is valid: {origin}", context.out)
        if problems:
            read = [f"the configuration was read from {os.path.abspath(path)}"] if path else []
            raise ConfigError([*problems, *read])


@dataclass(kw_only=True)
class ShowConfig(Task):
    """``txmicro config show``."""

    as_json: bool
    config: str | None = None

    async def run(self, context: Context) -> None:
        """Write each value and where it comes from."""
        config = context.load(self.config)
        found = origins(config, context.find(self.config), context.environ)
        if self.as_json:
            write_json({each.key: {"value": each.value, "from": each.origin} for each in found}, context.out)
            return
        rows = ((each.key, json.dumps(each.value, ensure_ascii=False), each.origin) for each in found)
        write_table(("KEY", "VALUE", "FROM"), rows, context.out)


CONFIGURATION: Final = group(
    "config",
    "Check the configuration, or show where its values come from.",
    [
        command(
            "check",
            CheckConfig,
            "Check the configuration, without connecting to a broker. If it is wrong, all problems are written to "
            "stderr, and the status is 2.",
            JSON,
            CONFIG,
            short="Check the configuration.",
        ),
        command(
            "show",
            ShowConfig,
            "Show each value of the configuration and where it comes from: default, the path of a file, or the name "
            "of a variable. Passwords in URLs are masked. Of the program's own settings only the types are shown.",
            JSON,
            CONFIG,
            short="Show each value of the configuration and where it comes from.",
        ),
    ],
)
