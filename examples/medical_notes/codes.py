"""The code set: what a search looks through, and under which everyday names notes mention it.

The names are the code set's own inclusion terms, so that the right code is a matter of record. Codes are dealt out to
the four data files by category (`K90` of `K90.0`), so that nothing of one file helps with another.
"""

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import simple_icd_10_cm as icd

from examples.medical_coding.search_index import Hit
from examples.medical_coding.terms import Diagnosis, all_terms
from examples.medical_notes.search import Ranker

CATEGORY_CHARACTERS = 3
SPLITS = {"train": 0.4, "validation": 0.15, "test": 0.25, "demonstrations": 0.2}
# What the notes, which are about adults, do not name: what children have, and the code set's own shorthand.
LEFT_OUT = re.compile(r"\b(congenital|newborn|neonatal|infant\w*|child\w*|juvenile|other|NEC)\b", re.I)
MALFORMATIONS = "Q"

Sex = Literal["man", "woman"]
# Ranges of categories, and words where the category does not say it.
OF_MEN = (("C60", "C63"), ("D29", "D29"), ("D40", "D40"), ("N40", "N53"))
OF_WOMEN = (("C51", "C58"), ("D25", "D28"), ("D39", "D39"), ("N70", "N98"))
WORD_OF_MEN = re.compile(r"\b(male|penis|penile|prostat\w*|testic\w*|testis|scrot\w*|sperm\w*|ejaculat\w*)\b", re.I)
WORD_OF_WOMEN = re.compile(
    r"\b(female|uter\w+|ovar\w+|vagin\w+|vulv\w+|endometri\w+|menstru\w+|menopaus\w+|postpartum|pregnan\w+)\b", re.I
)


@dataclass(frozen=True)
class CodeSet:
    """What the example knows of a code set.

    Attributes:
        hits: all codes with their official descriptions, in the order of the code set.
        names: of those codes that notes mention.
    """

    hits: list[Hit]
    names: list[Diagnosis]


def load_codes(categories: Collection[str] | None = None) -> CodeSet:
    """Every billable code of the installed code set, about 74,000; or those of some categories alone, for tests."""
    codes = [
        code
        for code in icd.get_all_codes(with_dots=True)
        if icd.is_leaf(code) and (categories is None or category(code) in categories)
    ]
    hits = [Hit(code, icd.get_description(code)) for code in codes]
    known = set(codes)
    names = [
        Diagnosis(code, term)
        for code, terms in all_terms().items()
        if code in known and not code.startswith(MALFORMATIONS)
        for term in terms
        if LEFT_OUT.search(term) is None
    ]
    return CodeSet(hits, _that_stand_alone(names, hits))


def category(code: str) -> str:
    """The first three characters, which stand for the disease without its details."""
    return code[:CATEGORY_CHARACTERS]


def sex_of(diagnosis: Diagnosis) -> Sex | None:
    """Whose diagnosis it is, where it is not everybody's."""
    if _within(diagnosis.code, OF_MEN) or WORD_OF_MEN.search(diagnosis.term):
        return "man"
    if _within(diagnosis.code, OF_WOMEN) or WORD_OF_WOMEN.search(diagnosis.term):
        return "woman"
    return None


def deal_out(
    codes: CodeSet, index: Ranker, *, hits_shown: int, found_share: float, seed: int
) -> dict[str, list[Diagnosis]]:
    """Names for each data file; no category is in two of them.

    Args:
        codes: the code set.
        index: the search that decides which names are found by themselves.
        hits_shown: of a search.
        found_share: of the names of each file; names that are not found are left out, by chance, until that is so.
        seed: of the chance.
    """
    dealer = random.Random(f"{seed}/deal")
    categories = sorted({category(name.code) for name in codes.names})
    dealer.shuffle(categories)
    file_of: dict[str, str] = {}
    end = 0.0
    for split, share in SPLITS.items():
        start, end = end, end + share
        file_of |= dict.fromkeys(categories[round(start * len(categories)) : round(end * len(categories))], split)
    dealt: dict[str, list[Diagnosis]] = {}
    for split in SPLITS:
        names = [name for name in codes.names if file_of[category(name.code)] == split]
        dealer.shuffle(names)
        found: list[Diagnosis] = []
        missed: list[Diagnosis] = []
        for name in names:
            hits = index.search(name.term, hits_shown)
            (found if name.code in {hit.code for hit in hits} else missed).append(name)
        dealt[split] = found + missed[: round(len(found) * (1 / found_share - 1))]
    return dealt


def _that_stand_alone(names: Sequence[Diagnosis], hits: Sequence[Hit]) -> list[Diagnosis]:
    """The names that mean their code without the heading above them.

    The set lists "polyneuropathy" under Lyme disease; in a note that is another disease. So a name is left out whose
    words all stand in the description of a code of another category, and not in that of its own.
    """
    words_of = {hit.code: _words(hit.description) for hit in hits}
    codes_with: dict[str, set[str]] = {}
    for code, words in words_of.items():
        for word in words:
            codes_with.setdefault(word, set()).add(code)
    alone: list[Diagnosis] = []
    for name in names:
        words = _words(name.term)
        said_by = set[str].intersection(*(codes_with.get(word, set()) for word in words))
        elsewhere = {category(code) for code in said_by} - {category(name.code)}
        if words <= words_of[name.code] or not elsewhere:
            alone.append(name)
    return alone


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def _within(code: str, ranges: Collection[tuple[str, str]]) -> bool:
    return any(first <= category(code) <= last for first, last in ranges)
