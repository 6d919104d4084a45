"""The files of a new worker's package, as templates."""

from __future__ import annotations

from string import Template
from typing import Final

_README: Final = """\
$type
$rule

A worker for txmicro. It greets: replace that with what your worker does, in ``$module/worker.py``, and
change the tests in ``tests/test_worker.py``.

Install it, and run its tests::

    pip install --editable .
    python -m twisted.trial tests

Run each line in a terminal of its own. With RabbitMQ on this machine, leave out the first one::

    twistd -n txmicro-broker
    twistd -n txmicro-manager
    twistd -n txmicro-worker --type $type

Send it a job::

    txmicro workers
    txmicro send '$type:*' '{"name": "Ada"}'
"""

_PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "$module"
version = "0.1.0"
description = "A worker for txmicro"
readme = "README.rst"
requires-python = ">=3.11"
dependencies = ["txmicro>=$version"]

# twistd txmicro-worker --type $type finds the class here.
[project.entry-points."txmicro.workers"]
$type = "$module.worker:$class"

[tool.setuptools]
packages = ["$module"]
"""

_WORKER: Final = '''\
"""The worker."""

from __future__ import annotations

from txmicro import Job, Worker
from txmicro.errors import BadRequest


class $class(Worker):
    """A worker that takes ``{"name": …}`` and returns a greeting."""

    type = "$type"

    async def do_job(self, job: Job) -> str:
        """Return the greeting: it is the job's result."""
        name = job.data.get("name") if isinstance(job.data, dict) else None
        if not isinstance(name, str):
            raise BadRequest(f'{job.data!r} is not valid; expected an object such as {{"name": "Ada"}}')
        return f"Hello, {name}!"
'''

_TEST: Final = '''\
"""Tests of the worker, in memory: they need no broker."""

from __future__ import annotations

from twisted.trial.unittest import TestCase
from txmicro.errors import BadRequest
from txmicro.testing import running

from $module.worker import $class


class ${class}Tests(TestCase):
    async def test_a_greeting(self) -> None:
        async with running($class()) as client:
            self.assertEqual(await client.send("$type:*", {"name": "Ada"}), "Hello, Ada!")

    async def test_data_that_is_not_valid(self) -> None:
        async with running($class()) as client:
            for data in (None, {}, {"name": 1}):
                with self.assertRaises(BadRequest):
                    await client.send("$type:*", data)
'''

_FILES: Final = {
    "README.rst": _README,
    "pyproject.toml": _PYPROJECT,
    "$module/__init__.py": '"""A worker for txmicro."""\n',
    "$module/worker.py": _WORKER,
    "tests/__init__.py": "",
    "tests/test_worker.py": _TEST,
}


def worker_files(kind: str, class_name: str, module: str, version: str) -> dict[str, str]:
    """Return the files of a package with a worker of type *kind*: texts by path."""
    words = {
        "type": kind,
        "class": class_name,
        "module": module,
        "version": version,
        "rule": "=" * len(kind),
    }
    return {
        Template(path).substitute(words): Template(text).substitute(words) for path, text in _FILES.items()
    }
