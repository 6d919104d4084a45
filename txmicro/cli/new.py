"""``txmicro new``: makes the files of a new worker."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Final

import click

from txmicro._version import __version__
from txmicro.errors import AddressError, TxmicroError
from txmicro.protocol.address import check_type

from .options import JSON, Value, argument, command, group
from .output import write, write_json
from .task import Context, Task
from .worker_files import worker_files

_IMPORTED: Final = frozenset({"BadRequest", "Job", "TestCase", "Worker"})
"""Names that the generated modules import, so that no class of theirs can have them."""

_MODULES: Final = sys.stdlib_module_names | {"tests", "twisted", "txmicro"}
"""Modules that a new package would hide, or be hidden by."""


class NotCreated(TxmicroError):
    """The folder of a new package exists already, or cannot be written. Nothing that existed was changed.

    Choose another name, or give another ``--folder``.
    """


@dataclass(kw_only=True)
class NewWorker(Task):
    """``txmicro new worker``.

    :ivar kind: the worker's type. :ivar folder: the folder to make; None: one with the name of the package.
    """

    kind: str
    folder: str | None
    as_json: bool

    async def run(self, context: Context) -> None:
        """Make the folder and its files, and write their paths; raise NotCreated if that fails."""
        module = module_name(self.kind)
        folder = Path(self.folder or module)
        files = worker_files(self.kind, class_name(self.kind), module, __version__)
        try:
            folder.mkdir(parents=True)
            for path, text in files.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text, "utf-8")
        except OSError as error:
            raise NotCreated(f"{folder}: cannot be created: {error.strerror or error}") from error
        paths = [str(folder / path) for path in files]
        if self.as_json:
            write_json({"type": self.kind, "folder": str(folder), "files": paths}, context.out)
            return
        for path in paths:
            write(f"created {path}", context.out)
        write(f"{folder / 'README.rst'} says how to test and run it", context.out)


def module_name(kind: str) -> str:
    """Return the name of the package for a worker type: words in lower case, joined by underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).replace("-", "_").lower()


def class_name(kind: str) -> str:
    """Return the name of the class for a worker type: words with capitals."""
    return "".join(word[:1].upper() + word[1:] for word in re.split("[_-]", kind))


def _check_name(text: str) -> str:
    kind, module = check_type(text), module_name(text)
    if module in _MODULES or iskeyword(module) or class_name(kind) in _IMPORTED:
        raise AddressError(
            f"{text!r} is not valid: a package {module!r} or class {class_name(kind)!r} would hide another one of this "
            "name; choose another name"
        )
    return kind


_FOLDER: Final = click.Option(
    ["--folder"], metavar="FOLDER", help="The folder to make. Default: one with the name of the package."
)

NEW: Final = group(
    "new",
    "Make the files of a new worker.",
    [
        command(
            "worker",
            NewWorker,
            "Make a package with a worker of the type NAME, its tests, a README and a pyproject.toml. It runs as it "
            "is. Nothing that exists is changed.",
            argument(
                Value("NAME", _check_name, "a worker type"),
                "kind",
                "give the type of the new worker, such as Invoices",
            ),
            _FOLDER,
            JSON,
            short="Make a package with a worker and its tests.",
        )
    ],
)
