from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.expiring import ExpiringKeys


class ExpiringKeysTests(SynchronousTestCase):
    def test_each_key_is_forgotten_after_its_time(self) -> None:
        keys = ExpiringKeys(2.0, 9)
        keys.add("a", 0.0)
        keys.add("b", 1.0)
        keys.add("a", 1.5)
        for now, known in ((2.9, "ab"), (3.0, "a"), (3.5, "")):
            keys.forget(now)
            self.assertEqual([key for key in "ab" if key in keys], list(known))

    def test_the_oldest_keys_are_removed_first(self) -> None:
        keys = ExpiringKeys(2.0, 2)
        for key in "abc":
            keys.add(key, 0.0)
        self.assertEqual(len(keys), 2)
        self.assertEqual([keys.pop(key) for key in "abcc"], [False, True, True, False])
        keys.add("d", 0.0)
        keys.clear()
        self.assertEqual(len(keys), 0)
