"""Change requests made of real sources: what they ask for is invented, the symbols and words in them are the file's
own.

Three kinds, so that no single habit is enough:
    symbol: names a function or class that several files use and one defines; that one is the answer.
    words: has two words of a docstring, each in several files and only together in one; that one is the answer.
    two: names two symbols that two files define; both are the answer.
A request never has a part of its answer's name, so that names alone say nothing.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from examples.file_planning.change_requests import ChangeRequest
from examples.file_planning.prompts import COMMON
from examples.file_planning.repositories import Repository, files_by_word

FEWEST_FILES, MOST_FILES = 2, 6
MIN_NAME, MAX_NAME = 5, 22
WORD = re.compile(r"(?<![\w])[a-z]{6,14}(?!\w)")
DEFINITION = re.compile(r"^[ \t]*(?:async +)?(?:def|class) +(\w+)", re.MULTILINE)
DOCUMENTED = re.compile(
    r"""^[ \t]*(?:async +)?(?:def|class) +(\w+)[^"'#]{0,400}?:[ \t]*\n[ \t]+[rRuU]?\"{3}(.*?)\"{3}""",
    re.MULTILINE | re.DOTALL,
)
# Most words that end so are verbs and adverbs, which no request is about.
NO_NOUNS = ("ing", "ed", "ly", "s")
# Of a docstring, whose pairs are tried.
MOST_WORDS = 12
# Where the answer is the first hit of a search, copying is as good as reading: such requests are kept this often.
FIRST_HIT_KEPT = 0.4
SHARES = {"symbol": 0.4, "words": 0.35, "two": 0.25}
TEMPLATES = {
    "symbol": (
        "`{0}` gives a wrong result for empty input",
        "`{0}` should raise a clear error when its first argument is missing",
        "Speed up `{0}` on large input",
        "Deprecate the last argument of `{0}`",
        "Document what `{0}` returns when nothing is given",
    ),
    "words": (
        "Wrong results for {0} without {1}",
        "Support {0} also when {1} is missing",
        "Explain {0} and {1} better in the documentation",
        "Make {0} independent of {1}",
    ),
    "two": (
        "`{0}` and `{1}` should raise the same error",
        "Rename the first argument of `{0}` as in `{1}`",
        "Share the checks of `{0}` with `{1}`",
    ),
}


@dataclass(frozen=True)
class Symbol:
    """A function or class with a docstring, and the file that defines it."""

    name: str
    file: str
    docstring: str


def generate(repository: Repository, most: int, generator: random.Random) -> list[ChangeRequest]:
    """At most so many requests about one repository, in random order, of the kinds in their shares as far as there are
    enough."""
    texts = repository.texts()
    hits = files_by_word(texts)
    times_defined = Counter(name for text in texts.values() for name in DEFINITION.findall(text))
    symbols = [symbol for file, text in sorted(texts.items()) for symbol in _symbols(file, text)]
    generator.shuffle(symbols)
    once = [symbol for symbol in symbols if times_defined[symbol.name] == 1]
    named = [symbol for symbol in once if _can_be_asked_for(symbol, hits, generator)]
    made = {
        "symbol": (([symbol.name], [symbol.file]) for symbol in named),
        "words": _by_words(symbols, hits, generator),
        "two": _in_pairs(named),
    }
    found = []
    for kind, share in SHARES.items():
        for parts, files in itertools.islice(made[kind], max(1, round(share * most))):
            text = generator.choice(TEMPLATES[kind]).format(*parts)
            found.append(ChangeRequest(repository.package, text, tuple(sorted(files)), kind=kind))
    generator.shuffle(found)
    return found[:most]


def _can_be_asked_for(symbol: Symbol, hits: dict[str, list[str]], generator: random.Random) -> bool:
    files = hits[symbol.name]
    return (
        MIN_NAME <= len(symbol.name) <= MAX_NAME
        and FEWEST_FILES <= len(files) <= MOST_FILES
        and not _gives_away(symbol.name, symbol.file)
        and (files[0] != symbol.file or generator.random() < FIRST_HIT_KEPT)
    )


def _by_words(
    symbols: list[Symbol], hits: dict[str, list[str]], generator: random.Random
) -> Iterator[tuple[list[str], list[str]]]:
    used: set[str] = set()
    for symbol in symbols:
        telling = [
            word
            for word in sorted(set(WORD.findall(symbol.docstring)) - COMMON - used)
            if FEWEST_FILES <= len(hits[word]) <= MOST_FILES
            and not word.endswith(NO_NOUNS)
            and not _gives_away(word, symbol.file)
        ]
        pairs = list(itertools.permutations(telling[:MOST_WORDS], 2))
        generator.shuffle(pairs)
        for first, second in pairs:
            both = set(hits[first]) & set(hits[second])
            if both == {symbol.file} and (hits[first][0] != symbol.file or generator.random() < FIRST_HIT_KEPT):
                used |= {first, second}
                yield [first, second], [symbol.file]
                break


def _in_pairs(symbols: list[Symbol]) -> Iterator[tuple[list[str], list[str]]]:
    # From the end, so that few symbols are asked for alone, too.
    backwards = symbols[::-1]
    for first, second in zip(backwards[::2], backwards[1::2], strict=False):
        if first.file != second.file:
            yield [first.name, second.name], [first.file, second.file]


def _symbols(file: str, text: str) -> Iterator[Symbol]:
    """The public functions, classes and methods of a file that have a docstring, as far as their heads are simple: not
    parsed, which would take most of the time that the data take."""
    for name, docstring in DOCUMENTED.findall(text):
        if not name.startswith("_"):
            yield Symbol(name, file, docstring)


def _gives_away(word: str, file: str) -> bool:
    """Whether a word has a part in common with a file's name."""
    parts = re.findall(r"[a-z0-9]{3,}", file.rpartition("/")[2].removesuffix(".py").lower())
    return any(part in word.lower() or word.lower() in part for part in parts)
