"""Checks the prose of docstrings, comments and the documentation: plain words, short sentences."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.documents import ROOT

FOLDERS = ("benchmarks", "docs", "examples", "tests", "txmicro")
LONGEST = 27
"""Words of a sentence in a docstring or a comment."""

BETTER = {
    r"stands?|stood|standing": "is, exists, is declared, is connected",
    r"(?:is|are|has|have|had|was|were) gone": "is closed, has ended, is deleted",
    r"whoever": "any user that, each worker that",
    r"believe[sd]?|believing": "accept, verify, trust",
    r"amid": "during",
    r"(?<!there )(?:is|are|was|were) no (?!longer|more|less|one)\w+": "is not a",
    r"(?-i:post|posts)": "publisher, message",
    r"of chance": "random",
    r"put aside": "moved to the dead letters",
    r"to no avail|in vain": "without success, failed",
    r"without a word": "silently, without closing the connection",
    r"good-?bye": "close",
    r"the ancestor": "MicroServices.js",
    r"for ever": "without a limit, until it is stopped",
    r"lets? us in": "accepts the login",
    r"ghosts?|deaf": "name the state",
}
"""Words that are unclear to readers who are not native speakers, as patterns, and what to write."""

ALLOWED = ("stands for", "stand for", "stand in for")
"""Terms that contain a word of :data:`BETTER` in its plain sense."""

SAMPLE = """
It stood and is gone. Whoever believes it is no user. Amid the job the post waits, a queue of chance. It is put aside in
vain, without a word, says good-bye to the ancestor for ever, lets us in, and is deaf.
"""
"""A text with one word for each pattern of :data:`BETTER`."""

_BAD = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): better for pattern, better in BETTER.items()}
_ALLOWED = re.compile("|".join(map(re.escape, ALLOWED)), re.IGNORECASE)
_MARKUP = re.compile(r"``.+?``|:[\w:]+:`[^`]+`|`[^`]+`", re.DOTALL)
_FIELD = re.compile(r":(?:param|ivar|raise|raises) [^:]*:")
_BREAKS = re.compile(r"\n\s*\n|\n\s*[-*] |\n[= ]+\n|\n\S+  +")
_STOPS = re.compile(r"(?<=[.!?:;])\s+")
_OPENING = re.compile(r"(?:What|Who|Whoever|Whose|Whether)\b")
_LITERALS = re.compile(r"(?:::|\.\. [\w-]+::.*)\n\n(?:(?: +.*)?\n)+")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a module, each with its line. A block of comments is one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)
    block: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            block.append(token.string.lstrip("# "))
        elif token.type == tokenize.COMMENT and not token.string.startswith(("# type:", "# noqa", "# fmt:")):
            yield token.start[0], token.string.lstrip("# ")
        elif block and not (token.type == tokenize.NL and token.line.strip()):
            yield token.start[0] - len(block), " ".join(block)
            block = []


def problems(text: str) -> Iterator[str]:
    """Yield the problems of a docstring or a comment."""
    plain = _MARKUP.sub("X", text)
    yield from bad_words(plain)
    for paragraph in _BREAKS.split(_FIELD.sub("\n\n", plain)):
        for sentence in _STOPS.split(" ".join(paragraph.split())):
            if _OPENING.match(sentence):
                yield f"begin with a verb or a noun: {sentence[:60]}"
            if (words := len(sentence.split())) > LONGEST:
                yield f"{words} words, more than {LONGEST}: {sentence[:60]}"


def bad_words(text: str) -> Iterator[str]:
    """Yield the words in *text* for which there is a better one."""
    text = " ".join(_ALLOWED.sub("", text).split())
    for pattern, better in _BAD.items():
        for found in pattern.findall(text):
            yield f"{found!r}: write {better}"


def found_in(path: Path) -> Iterator[str]:
    """Yield the problems of a file, with their places."""
    name, content = path.relative_to(ROOT), path.read_text("utf-8")
    if path.suffix == ".rst":
        yield from (f"{name}: {each}" for each in bad_words(_MARKUP.sub("X", _LITERALS.sub("\n", content))))
        return
    for line, text in texts(content):
        yield from (f"{name}:{line}: {each}" for each in problems(text))


class ProseTests(SynchronousTestCase):
    def test_docstrings_comments_and_documentation_are_plain(self) -> None:
        folders = [ROOT / folder for folder in FOLDERS]
        files = [path for folder in folders for end in ("py", "rst") for path in folder.rglob(f"*.{end}")]
        files += ROOT.glob("*.rst")
        self.assertGreater(len(files), 100)
        found = [problem for path in files for problem in found_in(path)]
        self.assertEqual(found, [], "\n".join(found))

    def test_the_check_finds_every_bad_word(self) -> None:
        found = list(bad_words(SAMPLE))
        self.assertEqual([each.partition(": write ")[2] for each in found], list(BETTER.values()))

    def test_the_check_finds_bad_sentences(self) -> None:
        self.assertEqual(
            list(problems("Whether it runs.")), ["begin with a verb or a noun: Whether it runs."]
        )
        [long] = problems(f"Return {'very ' * LONGEST}long.")
        self.assertIn("29 words", long)
        self.assertEqual(list(problems(f"Return {'very ' * 20}long. Fire {'very ' * 20}late.")), [])

    def test_the_check_allows_terms(self) -> None:
        for sample in ("a standard, standalone", "HTTP POST", "stands for", "there is no queue", "``stood``"):
            self.assertEqual(list(problems(f"Return {sample}.")), [], sample)

    def test_docstrings_and_comments_are_found(self) -> None:
        source = (
            'A = 1  # one\n"""Two."""\n# Three\n# four.\nB = "no"  # five\n\n\nclass C:\n    """Six."""\n'
        )
        self.assertEqual(
            list(texts(source)), [(2, "Two."), (9, "Six."), (1, "one"), (3, "Three four."), (5, "five")]
        )
