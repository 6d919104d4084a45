"""Topic matching of the embedded broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.broker.topics import TopicTrie


class TopicTests(SynchronousTestCase):
    words = st.lists(st.sampled_from("ab*#"), max_size=5).map(".".join)

    @given(st.lists(words, unique=True, max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
    def test_it_matches_according_to_the_definition(self, patterns: list[str], key: list[str]) -> None:
        trie: TopicTrie[str] = TopicTrie()
        for pattern in patterns:
            trie.add(pattern, pattern)
        expected = {pattern for pattern in patterns if _matches(pattern.split(".") if pattern else [], key)}
        self.assertEqual(set(trie.match(".".join(key))), expected)

    def test_a_removed_pattern_does_not_match_and_others_still_do(self) -> None:
        trie: TopicTrie[str] = TopicTrie()
        for pattern in ("a.b", "a.b.c", "a.#"):
            trie.add(pattern, pattern)
        self.assertEqual(len(trie.match("a.b")), 2)
        trie.remove("a.b", "a.b")
        trie.remove("a.#", "a.#")
        trie.remove("a.#", "a.#")
        trie.remove("x.y", "a.#")
        self.assertEqual((trie.match("a.b"), trie.match("a.b.c")), ((), ("a.b.c",)))
        trie.remove("a.b.c", "a.b.c")
        self.assertEqual(trie._root.words, {})

    def test_its_cache_is_bounded(self) -> None:
        trie: TopicTrie[str] = TopicTrie()
        trie.add("#", "all")
        for number in range(5000):
            self.assertEqual(trie.match(str(number)), ("all",))
        self.assertLess(len(trie._known), 4097)


def _matches(pattern: list[str], key: list[str]) -> bool:
    """Return whether *key* matches, by the definition of topic matching."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return _matches(pattern[1:], key) or (bool(key) and _matches(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and _matches(pattern[1:], key[1:])
