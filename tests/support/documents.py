"""Runs the Python code of the documentation as modules."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)
_NAME = re.compile(r"# (\w+)\.py\n")


def python_files(document: str) -> dict[str, str]:
    """Return the Python files in *document*, by module name. A block's first line names the file that it continues."""
    files: dict[str, str] = {}
    for block in _BLOCK.findall((ROOT / document).read_text("utf-8")):
        code = re.sub("^    ", "", block, flags=re.MULTILINE)
        name = _NAME.match(code)
        if name is None:
            raise ValueError(f"{document}: a block does not begin with its file's name:\n{code}")
        files[name[1]] = files.get(name[1], "") + code
    return files


def test_cases(document: str, home: str) -> dict[str, type[TestCase]]:
    """Run the Python files of *document* in order. Return their test cases, by name, as tests of the module *home*."""
    found = {}
    for name, code in python_files(document).items():
        module = sys.modules[name] = ModuleType(name)
        exec(compile(code, f"{document}:{name}.py", "exec"), module.__dict__)
        for case in vars(module).values():
            if isinstance(case, type) and issubclass(case, TestCase) and case.__module__ == name:
                case.__module__ = home
                found[case.__name__] = case
    return found
