"""BM25 search over the official descriptions of all billable ICD-10-CM codes, in memory.

The tool server answers from this index, and the generator writes demonstrations from it, so that a demonstration
shows exactly what the server would have said.
"""

from dataclasses import dataclass

import bm25s
import numpy as np
import simple_icd_10_cm as icd

HITS_SHOWN = 4
DESCRIPTION_WORDS = 10
DESCRIPTION_CHARACTERS = 52
NO_HITS = "no hits"


@dataclass(frozen=True)
class Hit:
    """One code of an answer, with its official description in full."""

    code: str
    description: str


class SearchIndex:
    """Immutable once built; safe to search from many threads."""

    def __init__(self, hits: list[Hit]) -> None:
        """Build the index; about a second for the whole code set."""
        self._hits = hits
        tokens = bm25s.tokenize([hit.description for hit in hits], show_progress=False)
        self._bm25 = bm25s.BM25()
        self._bm25.index(tokens, show_progress=False)

    def search(self, query: str, limit: int = HITS_SHOWN) -> list[Hit]:
        """The best `limit` codes, best first; codes of equal score stand in the order of the code set.

        Codes that share no word with the query are never returned, so there may be fewer, or none.
        """
        words = bm25s.tokenize(query, return_ids=False, show_progress=False)[0]
        if not words:
            return []
        # Rounded, because the order in which float32 scores are summed must not decide between equal codes.
        scores = np.round(self._bm25.get_scores(words), 3)
        cut = max(np.partition(scores, -limit)[-limit], 0.001)
        candidates = np.flatnonzero(scores >= cut)
        best = candidates[np.argsort(-scores[candidates], kind="stable")][:limit]
        return [self._hits[position] for position in best]


def load_index() -> SearchIndex:
    """Index every billable code (about 74,000) of the installed code set."""
    codes = [code for code in icd.get_all_codes(with_dots=True) if icd.is_leaf(code)]
    return SearchIndex([Hit(code, icd.get_description(code)) for code in codes])


def format_hits(hits: list[Hit]) -> str:
    """The tool's answer: one `CODE description` line per hit, cut short, because every token costs the agent time."""
    return "\n".join(f"{hit.code} {_shortened(hit.description)}" for hit in hits) or NO_HITS


def _shortened(description: str) -> str:
    short = " ".join(description.split()[:DESCRIPTION_WORDS])
    if len(short) > DESCRIPTION_CHARACTERS:
        short = short[:DESCRIPTION_CHARACTERS].rsplit(" ", 1)[0]
    return short.rstrip(" ,;")
