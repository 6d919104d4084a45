from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.stores.text_index import MAX_LENGTH, index_terms, words_of


class TextIndexTests(SynchronousTestCase):
    def test_words_have_no_case_accents_and_punctuation(self) -> None:
        self.assertEqual(
            words_of("Amélie, l'été: ÉTÉ-42 STRASSE straße ﬁlm"),
            {"amelie", "l", "ete", "42", "strasse", "film"},
        )
        self.assertEqual(words_of(" ...!"), set())

    def test_a_long_word_is_cut(self) -> None:
        self.assertEqual(words_of("x" * 1000), {"x" * MAX_LENGTH})

    def test_terms_name_the_field(self) -> None:
        document = {"a": "One two", "b": ["two", 3, "three"], "c": "four", "d": None}
        self.assertEqual(index_terms(document, ["a", "b", "d", "e"]), {"a:one", "a:two", "b:two", "b:three"})
