"""The documentation's code runs, and the tests that it names are there."""

from __future__ import annotations

import re

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT, test_cases

for page in sorted((ROOT / "docs").rglob("*.rst")):
    cases = test_cases(str(page.relative_to(ROOT)), __name__)
    if repeated := cases.keys() & globals().keys():
        raise ValueError(f"{page}: another page has tests of the same name: {repeated}")
    globals().update(cases)
del page, cases


class PromisesTests(SynchronousTestCase):
    def test_every_test_that_is_named_exists(self) -> None:
        text = (ROOT / "docs/reference/promises.rst").read_text("utf-8")
        named = re.findall(r"``(tests(?:\.\w+){3,})``", text)
        self.assertGreater(len(named), 100)
        for name in named:
            self.assertTrue(callable(namedAny(name)), name)
