"""Which diagnoses are asked for: everyday names that the code set lists as synonyms of exactly one code."""

import random
import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import simple_icd_10_cm as icd

if TYPE_CHECKING:
    from search_index import SearchIndex

# Diseases and symptoms. Pregnancy and newborn codes (O, P) would contradict the ages in the transcripts; injuries,
# external causes and visits (S to Z) have no everyday synonyms.
CHAPTERS = frozenset("ABCDEFGHIJKLMNQR")
MAX_WORDS = 6
MIN_CHARACTERS, MAX_CHARACTERS = 8, 42
VAGUE = re.compile(
    r"\b(any|condition|classifi\w+|conditions|specified|unspecified|elsewhere|codes?|type|stage)\b", re.I
)
PLAIN = re.compile(r"[A-Za-z][A-Za-z' -]*")
BRACKETS = re.compile(r"\s*[\[(][^\])]*[\])]")
NOT_OTHERWISE_SPECIFIED = re.compile(r"\s+NOS\b")


@dataclass(frozen=True)
class Diagnosis:
    """A code and the everyday name under which the visit's transcript mentions it."""

    code: str
    term: str


def all_diagnoses() -> list[Diagnosis]:
    """One diagnosis per code, in the order of the code set."""
    return [Diagnosis(code, terms[0]) for code, terms in all_terms().items()]


def all_terms() -> dict[str, list[str]]:
    """The everyday names of each code that has any, in the order of the code set.

    A name that two codes share is left out.
    """
    codes = [code for code in icd.get_all_codes(with_dots=True) if code[0] in CHAPTERS and icd.is_leaf(code)]
    texts = [text for code in codes for text in (icd.get_description(code), *icd.get_inclusion_term(code))]
    ordinary_words = {word for text in texts for word in text.split()[1:] if word.islower()}
    terms = {code: _usable_terms(code, ordinary_words) for code in codes}
    uses = Counter(term.lower() for found in terms.values() for term in found)
    unique = {code: [term for term in found if uses[term.lower()] == 1] for code, found in terms.items()}
    return {code: found for code, found in unique.items() if found}


def choose(
    index: "SearchIndex",
    n_rows: int,
    *,
    found_share: float,
    chooser: random.Random,
    without: Set[str] = frozenset(),
) -> list[Diagnosis]:
    """Draw rows of which `found_share` are found when the bare term is searched; the rest nobody finds that way.

    Codes in `without` are not drawn.

    The share is the ceiling of what a perfect agent can reach by copying the right words.
    """
    diagnoses = [diagnosis for diagnosis in all_diagnoses() if diagnosis.code not in without]
    chooser.shuffle(diagnoses)
    n_found = round(n_rows * found_share)
    n_missed = n_rows - n_found
    found: list[Diagnosis] = []
    missed: list[Diagnosis] = []
    for diagnosis in diagnoses:
        if len(found) >= n_found and len(missed) >= n_missed:
            break
        hit = any(hit.code == diagnosis.code for hit in index.search(diagnosis.term))
        (found if hit else missed).append(diagnosis)
    if len(found) < n_found or len(missed) < n_missed:
        raise ValueError(f"the code set has {len(found)} found and {len(missed)} missed terms, too few for {n_rows}")
    rows = found[:n_found] + missed[:n_missed]
    chooser.shuffle(rows)
    return rows


def _usable_terms(code: str, ordinary_words: set[str]) -> list[str]:
    official = icd.get_description(code).lower()
    cleaned = [_cleaned(term, ordinary_words) for term in icd.get_inclusion_term(code)]
    return [term for term in dict.fromkeys(cleaned) if _is_usable(term) and term.lower() != official]


def _cleaned(term: str, ordinary_words: set[str]) -> str:
    term = NOT_OTHERWISE_SPECIFIED.sub("", BRACKETS.sub("", term)).strip()
    first, _, rest = term.partition(" ")
    if first.lower() in ordinary_words:
        term = f"{first.lower()} {rest}".strip()
    return term


def _is_usable(term: str) -> bool:
    fits = MIN_CHARACTERS <= len(term) <= MAX_CHARACTERS and len(term.split()) <= MAX_WORDS
    return fits and PLAIN.fullmatch(term) is not None and VAGUE.search(term) is None
