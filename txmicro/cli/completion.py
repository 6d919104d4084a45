"""``txmicro completion``: has a shell complete commands and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from .options import Value, argument, command
from .task import Context, Task

NAME: Final = "txmicro"

SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

_NAMES: Final = ", ".join(SHELLS)

VARIABLE: Final = "_TXMICRO_COMPLETE"
"""The variable of the environment in which a shell's script says what ``txmicro`` is to complete."""


@dataclass(kw_only=True)
class WriteScript(Task):
    """``txmicro completion``."""

    shell: str

    async def run(self, context: Context) -> None:
        """Write the script that the shell has to run."""
        # The script depends on the command's name only. click's source() would also run bash to look at its version.
        script = SHELLS[self.shell](click.Command(NAME), {}, NAME, VARIABLE)
        print(script.source_template % script.source_vars(), file=context.out)


def _check_shell(text: str) -> str:
    if text not in SHELLS:
        raise ValueError
    return text


COMPLETION: Final = command(
    "completion",
    WriteScript,
    "Write a script for a shell, which then completes the commands and options of txmicro. For bash, put this into "
    '~/.bashrc: eval "$(txmicro completion bash)"; for zsh the same into ~/.zshrc. For fish: txmicro completion fish '
    "> ~/.config/fish/completions/txmicro.fish",
    argument(Value("SHELL", _check_shell, f"one of {_NAMES}"), "shell", f"give one of {_NAMES}"),
    short="Write a script with which a shell completes commands and options.",
)
