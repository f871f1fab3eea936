"""Phrases that many rollouts of a step have in common, and that are not the task's own words."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

MOST_WORDS = 5
# Of a text so many words at its beginning and end are looked at.
BEGINNING, END = 150, 100
# Of the rollouts of a step, and in number, those that a phrase is in at least.
LEAST_SHARE, LEAST = 0.03, 4
# A phrase that stands in what most of its rollouts were given is the task's.
GIVEN = 0.5
MOST_PHRASES = 60
LEAST_SAMPLES = 3
# A phrase is dropped for a longer one that has nearly all of its rollouts.
SAME = 0.98
TOKEN = re.compile(r"\w+(?:[-'.]\w+)*|[^\w\s]+")
SHORTEST_WORD = 4


def common_phrases(
    texts: Sequence[str], given: Sequence[str], samples: Sequence[str], known: Collection[str] = ()
) -> list[list[str]]:
    """Of each text the phrases of at most five words that it shares with many others.

    Args:
        texts: what each rollout says, in one order.
        given: what each was told before it: its prompt and the results that it read.
        samples: of each: what rollouts of one or two samples alone have in common is those samples' own.
        known: phrases of earlier steps, which are looked for also where they are rare or in all.
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
    own = {phrase for phrase in often if told[phrase] < GIVEN * counts[phrase]}
    total = max(1, len(texts))
    kept = sorted(own, key=lambda phrase: (-counts[phrase] * (total - counts[phrase]), phrase))[:MOST_PHRASES]
    chosen = {*kept, *known}
    return [sorted(chosen & phrases) for phrases in of_each]


def _phrases(text: str) -> Iterator[str]:
    words = TOKEN.findall(text.lower())
    parts = [words] if len(words) <= BEGINNING + END else [words[:BEGINNING], words[-END:]]
    for part in parts:
        for size in range(1, MOST_WORDS + 1):
            yield from (" ".join(part[start : start + size]) for start in range(len(part) - size + 1))


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
