from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.grouping import LONGEST, group_id, normalize

EXAMPLES = {
    "no article 4711 left for customer 'c99'": "no article # left for customer '…'",
    "can't find it, don't try 3 times": "can't find it, don't try # times",
    "timeout after 30.5 s at 10.0.0.1:5672": "timeout after # s at #",
    "Invoices:1795449588399-3fa9 is not connected": "Invoices:# is not connected",
    "job 0123456789abcdef-1a2 of 550e8400-e29b-41d4-a716-446655440000": "job # of #",
    "at 2026-11-24T16:00:00.123Z, 0xdeadBEEF": "at #, #",
    'KeyError: "x\'y" and `z` and “w”': "KeyError: '…' and '…' and '…'",
    "decade, facade, deadbeef": "decade, facade, deadbeef",
    "a\n  b\tc ": "a b c",
    "größte 5 €": "größte # €",
    "red \x1b[31m": "red \\x#b[#m",
    "": "",
}


class GroupingTests(SynchronousTestCase):
    def test_values_are_replaced_and_words_stay(self) -> None:
        self.assertEqual({message: normalize(message) for message in EXAMPLES}, EXAMPLES)

    def test_what_is_normalized_stays_as_it_is(self) -> None:
        for expected in EXAMPLES.values():
            self.assertEqual(normalize(expected), expected)

    def test_a_long_message_is_cut(self) -> None:
        self.assertEqual(len(normalize("word " * 10**5)), LONGEST)

    def test_quotes_that_are_not_closed_are_not_values(self) -> None:
        self.assertEqual(normalize("it's 'open"), "it's 'open")

    def test_groups_differ_by_each_of_their_parts(self) -> None:
        parts = [
            ("A", "B", "C"),
            ("A", "B", "D"),
            ("A", "D", "C"),
            ("D", "B", "C"),
            ("AB", "", "C"),
            ("\ud800", "", ""),
        ]
        ids = [group_id(*each) for each in parts]
        self.assertEqual(len(set(ids)), len(parts))
        self.assertTrue(all(re.fullmatch("[0-9a-f]{16}", each) for each in ids))
        self.assertEqual(ids, [group_id(*each) for each in parts])
