"""BM25 search over the sections of all filings. A hit says where to read; it shows no figures.

Hits stand in the order of the filing and not by score, so that the place of a hit says nothing about it.
"""

from collections.abc import Sequence

import bm25s
import numpy as np

from examples.finance.corpus import Filing, Section

LABELS_SHOWN = 2
NO_HITS = "no hits"


class SearchIndex:
    """Immutable once built; safe to search from many threads."""

    def __init__(self, filings: Sequence[Filing], hits: int) -> None:
        """Build the index.

        Args:
            hits: sections that a search shows at most.
        """
        self._hits = hits
        self._sections = [section for filing in filings for section in filing.sections]
        texts = [_searched(filing, section) for filing in filings for section in filing.sections]
        self._bm25 = bm25s.BM25()
        self._bm25.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        labels = sorted({label for section in self._sections for label in section.labels})
        self._words_of = dict(zip(labels, map(set, _words(labels)), strict=True))

    def search(self, query: str) -> list[Section]:
        """The best sections for the query, in the order of their filings; none where no word of it is known."""
        return self._best(_words([query])[0])

    def answer(self, query: str) -> str:
        """The tool's answer: a line for each hit, with its id, its title, and the labels that the query is about."""
        words = _words([query])[0]
        return "\n".join(self._line(section, set(words)) for section in self._best(words)) or NO_HITS

    def _best(self, words: list[str]) -> list[Section]:
        if not words:
            return []
        # Rounded, because the order in which float32 scores are summed must not decide between equal sections.
        scores = np.round(self._bm25.get_scores(words), 3)
        best = np.argsort(-scores, kind="stable")[: self._hits]
        return [self._sections[place] for place in sorted(best) if scores[place] > 0]

    def _line(self, section: Section, words: set[str]) -> str:
        about = [label for label in section.labels if words & self._words_of[label]]
        # Those with the most words of the query first; of equal ones in the order of the table.
        about.sort(key=lambda label: -len(words & self._words_of[label]))
        return f"{section.id} {section.title}" + (": " + "; ".join(about[:LABELS_SHOWN]) if about else "")


def _searched(filing: Filing, section: Section) -> str:
    return " ".join([filing.code, filing.company, section.title, *section.labels])


def _words(texts: list[str]) -> list[list[str]]:
    """The words of each text that a search knows: in lower case, of two letters at least, without the most common."""
    if not texts:
        return []
    # A list of words for each text; of ids only where they are asked for.
    found = list(bm25s.tokenize(texts, return_ids=False, show_progress=False))
    return [[str(word) for word in words] for words in found]
