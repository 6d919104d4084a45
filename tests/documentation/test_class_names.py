"""No two classes of the package have one name: a reader who sees a name knows which class it is."""

from __future__ import annotations

import ast
from collections import defaultdict

from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT


class ClassNameTests(SynchronousTestCase):
    def test_each_class_has_a_name_of_its_own(self) -> None:
        places = defaultdict(list)
        for path in (ROOT / "txmicro").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(ROOT)))
        self.assertIn("Worker", places)
        self.assertEqual({name: found for name, found in places.items() if len(found) > 1}, {})
