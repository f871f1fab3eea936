"""Phrases that many rollouts have in common, and that are not the task's own words.

What is common in any step is looked for in all of them: `candidates` of each step, one `vocabulary` of a job, and then
`shown` for each rollout, which needs no more of it than `said`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

MOST_WORDS = 5
# Of a text so many words at its beginning and end are looked at.
BEGINNING, END = 150, 100
# Of the rollouts of a step, and in number, those that a phrase is in at least.
LEAST_SHARE, LEAST = 0.03, 4
# A phrase that stands in what most of its rollouts were given is the task's.
GIVEN = 0.5
MOST_PHRASES = 60
# Of all steps together, so many of each place are looked for.
MOST_KNOWN = 300
LEAST_SAMPLES = 3
# A phrase is dropped for a longer one that has nearly all of its rollouts.
SAME = 0.98
TOKEN = re.compile(r"\w+(?:[-'.]\w+)*|[^\w\s]+")
SHORTEST_WORD = 4
# Phrases by where they are said: "" for the answer, else a tool's argument. Candidates have a weight, up to 1/4: how
# far the rollouts of a step differ in it.
Vocabulary = dict[str, list[str]]
Candidates = dict[str, dict[str, float]]


def said(text: str) -> str:
    """What of a text is looked at for phrases: its words, with spaces around; the end of a long one on its own line."""
    words = TOKEN.findall(text.lower())
    parts = [words] if len(words) <= BEGINNING + END else [words[:BEGINNING], words[-END:]]
    return "\n".join(f" {' '.join(part)} " for part in parts)


def candidates(texts: Sequence[str], given: Sequence[str], samples: Sequence[str]) -> dict[str, float]:
    """The phrases of at most five words that many texts of a step share, with their weights.

    Args:
        texts: what each rollout says, as `said` has it, in one order.
        given: what each was told before it: its prompt and the results that it read.
        samples: of each: what rollouts of one or two samples alone have in common is those samples' own.
    """
    of_each = [set(_phrases(text)) for text in texts]
    counts = Counter(phrase for phrases in of_each for phrase in phrases)
    least = max(LEAST, LEAST_SHARE * len(texts))
    often = {phrase for phrase, count in counts.items() if count >= least and _is_telling(phrase)}
    often = _longest(_of_several(often, of_each, samples), counts)
    told = Counter[str]()
    plain = [" ".join(TOKEN.findall(text.lower())) for text in given]
    for phrases, before in zip(of_each, plain, strict=True):
        told.update(phrase for phrase in often & phrases if f" {phrase} " in f" {before} ")
    total = max(1, len(texts))
    weights = {
        phrase: counts[phrase] * (total - counts[phrase]) / total**2
        for phrase in often
        if told[phrase] < GIVEN * counts[phrase]
    }
    return _heaviest(weights, MOST_PHRASES)


def vocabulary(steps: Iterable[Candidates]) -> Vocabulary:
    """The phrases that are looked for in all steps: of their candidates, those that rollouts ever differed in most."""
    found: Candidates = {}
    for step in steps:
        for place, weights in step.items():
            kept = found.setdefault(place, {})
            for phrase, weight in weights.items():
                kept[phrase] = max(weight, kept.get(phrase, 0.0))
    return {place: sorted(_heaviest(weights, MOST_KNOWN)) for place, weights in sorted(found.items())}


def shown(text: str, phrases: Iterable[str]) -> list[str]:
    """Which of some phrases a text has, as `said` has it."""
    return [phrase for phrase in phrases if f" {phrase} " in text]


def _heaviest(weights: Mapping[str, float], most: int) -> dict[str, float]:
    kept = sorted(weights, key=lambda phrase: (-weights[phrase], phrase))[:most]
    return {phrase: weights[phrase] for phrase in kept}


def _phrases(text: str) -> Iterator[str]:
    for part in text.split("\n"):
        words = part.split()
        for size in range(1, MOST_WORDS + 1):
            yield from (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))


def _is_telling(phrase: str) -> bool:
    """Whether it is more than punctuation or one short word."""
    words = [word for word in phrase.split() if word[0].isalnum()]
    return len(words) > 1 or (len(words) == 1 and len(words[0]) >= SHORTEST_WORD)


def _of_several(phrases: set[str], of_each: Sequence[set[str]], samples: Sequence[str]) -> set[str]:
    """Those that rollouts of several samples have."""
    said_of: dict[str, set[str]] = {}
    for own, sample in zip(of_each, samples, strict=True):
        for phrase in own & phrases:
            said_of.setdefault(phrase, set()).add(sample)
    least = min(LEAST_SAMPLES, len(set(samples)))
    return {phrase for phrase in phrases if len(said_of[phrase]) >= least}


def _longest(phrases: set[str], counts: Counter[str]) -> set[str]:
    """Without those that nearly always stand in a longer one."""
    part_of: dict[str, int] = {}
    for phrase in phrases:
        words = phrase.split()
        for size in range(1, len(words)):
            for start in range(len(words) - size + 1):
                part = " ".join(words[start : start + size])
                part_of[part] = max(part_of.get(part, 0), counts[phrase])
    return {phrase for phrase in phrases if part_of.get(phrase, 0) < SAME * counts[phrase]}
