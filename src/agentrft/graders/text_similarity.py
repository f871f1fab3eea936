"""Text similarity: how close the agent's text is to a reference, in [0, 1]."""

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from agentrft.data.templates import MissingSampleValue
from agentrft.errors import UserError
from agentrft.graders.base import Grade, GraderSample
from agentrft.graders.scores import check_template, finite_score, lowest_grade, render_all
from agentrft.spec.graders import TextSimilarityGraderSpec

Metric = Callable[[str, str], float]

MOST_CHARACTERS = 50_000
# NLTK's alignment of words is in Python, and quadratic.
MOST_CHARACTERS_OF_METEOR = 10_000
CUT_TEXT = "cut_text"
WORD = re.compile(r"[^\W_]+")
WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


class TextSimilarityGrader:
    """Scores `input` against `reference` by one metric. `pass_threshold` is recorded and changes no score.

    | metric | value |
    |---|---|
    | `fuzzy_match` | rapidfuzz's normalised indel similarity of the characters |
    | `bleu` | sacrebleu's sentence BLEU (13a tokens, exponential smoothing) / 100 |
    | `gleu` | Google's sentence GLEU over words and punctuation marks, case kept |
    | `meteor` | NLTK's METEOR over lower-case words; needs NLTK's WordNet data, for synonyms |
    | `cosine` | cosine of the word counts, lower case |
    | `rouge_1` ... `rouge_5`, `rouge_l` | ROUGE F1 over lower-case words, without stemming |

    Of longer texts the first `MOST_CHARACTERS` are compared, and the grade counts a `cut_text`: the time of some
    metrics grows with the square of the length.

    Raises:
        UserError: a template is malformed, or the metric's package (for `meteor` also WordNet) is not installed.
    """

    def __init__(self, spec: TextSimilarityGraderSpec) -> None:
        self.name = spec.name
        self.pass_threshold = spec.pass_threshold
        self._spec = spec
        # Of its own: asyncio's threads may be held by whatever else waits in them.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="agentrft-similarity")
        check_template(spec.input, grader=spec.name, field="input")
        check_template(spec.reference, grader=spec.name, field="reference")
        try:
            self._similarity = _metric(spec.evaluation_metric, spec.name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"grader '{spec.name}': evaluation_metric: {spec.evaluation_metric} needs the package '{error.name}'.",
                "Run `pip install 'agentrft[graders]'`.",
            ) from error

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout: 0 where it lacks what a template reads of it.

        Raises:
            GraderFailure: "missing_key", the row lacks what a template reads of it.
        """
        started = time.perf_counter()
        templates = [self._spec.input, self._spec.reference]
        try:
            text, reference = render_all(templates, grader=self.name, sample=sample, item=item)
        except MissingSampleValue as missing:
            return lowest_grade(0.0, missing, started=started)
        most = MOST_CHARACTERS_OF_METEOR if self._spec.evaluation_metric == "meteor" else MOST_CHARACTERS
        is_cut = max(len(text), len(reference)) > most
        # In a thread: METEOR takes seconds on long texts, and the rollouts share this event loop.
        compare = partial(self._similarity, text[:most], reference[:most])
        value = await asyncio.get_running_loop().run_in_executor(self._threads, compare)
        score = finite_score(value, grader=self.name, what=self._spec.evaluation_metric)
        return Grade(
            score=score,
            errors=[f"only the first {most} characters were compared"] if is_cut else [],
            faults={CUT_TEXT: 1} if is_cut else {},
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        """It has no server."""

    async def close(self) -> None:
        self._threads.shutdown(wait=False)


def cosine(text: str, reference: str) -> float:
    """Cosine of the two texts' word counts; 0.0 where one of them has no words."""
    left, right = Counter(_words(text)), Counter(_words(reference))
    norms = math.sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return min(1.0, sum(n * right[word] for word, n in left.items()) / norms) if norms else 0.0


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


# The libraries are imported where a job asks for them: NLTK alone takes longer to import than most commands run.
def _metric(name: str, grader: str) -> Metric:
    if name == "fuzzy_match":
        return _fuzzy_match()
    if name == "bleu":
        return _bleu()
    if name == "gleu":
        return _gleu()
    if name == "meteor":
        return _meteor(grader)
    if name == "cosine":
        return cosine
    if name == "rouge_l":
        return _rouge_l()
    return _rouge(name)


def _fuzzy_match() -> Metric:
    from rapidfuzz import fuzz

    return lambda text, reference: fuzz.ratio(text, reference) / 100.0


def _bleu() -> Metric:
    from sacrebleu import sentence_bleu

    # sacrebleu returns 100.00000000000004 for equal texts.
    return lambda text, reference: min(1.0, sentence_bleu(text, [reference]).score / 100.0)


def _gleu() -> Metric:
    from nltk.translate.gleu_score import sentence_gleu

    def gleu(text: str, reference: str) -> float:
        return float(sentence_gleu([WORD_OR_MARK.findall(reference)], WORD_OR_MARK.findall(text)))

    return gleu


def _meteor(grader: str) -> Metric:
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import single_meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        # Without synonyms the number would be another one than METEOR, and nobody would notice.
        raise UserError(
            f"grader '{grader}': evaluation_metric: 'meteor' needs NLTK's WordNet data, which is not installed.",
            "Run `python -m nltk.downloader wordnet`, or choose another metric such as 'rouge_l'.",
        ) from error
    return lambda text, reference: float(single_meteor_score(_words(reference), _words(text)))


def _rouge_l() -> Metric:
    """As rouge_score's, whose table of all pairs of words takes seconds and gigabytes where this takes milliseconds."""
    from rapidfuzz.distance import LCSseq

    def rouge_l(text: str, reference: str) -> float:
        found, wanted = _words(text), _words(reference)
        if not found or not wanted:
            return 0.0
        numbers: dict[str, int] = {}
        left, right = ([numbers.setdefault(word, len(numbers)) for word in words] for words in (found, wanted))
        common = LCSseq.similarity(left, right)
        precision, recall = common / len(found), common / len(wanted)
        return 2 * precision * recall / (precision + recall) if common else 0.0

    return rouge_l


def _rouge(name: str) -> Metric:
    from rouge_score.rouge_scorer import RougeScorer

    rouge_type = name.replace("rouge_", "rouge")
    # rouge_score's own tokenizer drops every letter outside a-z.
    scorer = RougeScorer([rouge_type], tokenizer=_WordTokenizer())
    return lambda text, reference: float(scorer.score(reference, text)[rouge_type].fmeasure)


class _WordTokenizer:
    """rouge_score's tokenizer protocol."""

    def tokenize(self, text: str) -> list[str]:
        return _words(text)
