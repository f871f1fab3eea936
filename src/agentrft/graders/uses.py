"""What each grader took for a score: the graders inside a `multi` one by one, not only their sum."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GraderUse:
    """What one grader took.

    Attributes:
        faults: what broke on the way, repeated with success or not, by the kinds of `GraderFailure`.
        usage: tokens of a judge, by the names of Chat Completions.
        latency_s: seconds until its score; None where it gave none.
    """

    faults: dict[str, int] = field(default_factory=dict[str, int])
    usage: dict[str, int] = field(default_factory=dict[str, int])
    latency_s: float | None = None


def added_uses(several: Iterable[Mapping[str, GraderUse]]) -> dict[str, GraderUse]:
    """By grader: faults and usage summed, and the last latency that there is."""
    added: dict[str, GraderUse] = {}
    for uses in several:
        for name, use in uses.items():
            known = added.get(name, GraderUse())
            added[name] = GraderUse(
                added_counts((known.faults, use.faults)),
                added_counts((known.usage, use.usage)),
                known.latency_s if use.latency_s is None else use.latency_s,
            )
    return added


def added_counts(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for counts in several:
        sums.update(counts)
    return dict(sorted(sums.items()))
