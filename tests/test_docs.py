"""The documentation's code runs, and the tests that it names are there."""

from __future__ import annotations

from tests.documents import test_cases

globals().update(test_cases("docs/writing.rst", __name__))
