"""Comparing two models on the same samples, with paired intervals.

Samples are drawn with replacement, each with all its rollouts by both models, so that what makes a sample hard counts
for both alike (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentile intervals). Of fewer
than thirty samples such intervals are too narrow, and means have Student's.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from agentrft.report.averages import mean
from agentrft.report.intervals import CONFIDENCE, FEW, mean_interval
from agentrft.report.summary import SAME_REWARD, lacks_what_is_read
from agentrft.rollout.group import by_sample
from agentrft.rollout.record import Rollout

RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 500
CHANGES_SHOWN = 5


@dataclass(frozen=True)
class Measure:
    """One quantity for both models. `low` and `high` bound the 95 % interval of the difference `b - a`."""

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    is_share: bool = False

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Change:
    """A sample's mean reward by both models."""

    sample_id: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. Samples without a reward from both models are `left_out`.

    `rose` and `fell` are the samples that changed most, the largest change first.
    """

    samples: int
    left_out: int
    measures: list[Measure]
    rose: list[Change]
    fell: list[Change]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: Sequence[Rollout],
    b: Sequence[Rollout],
    *,
    pass_threshold: float = 1.0,
    latency_threshold_s: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two models by their rollouts of the same samples.

    Args:
        pass_threshold: the reward from which a rollout has passed.
        latency_threshold_s: also compare the share of rollouts that took longer.
        seed: of the resampling.
    """
    rewarded = [by_sample(one for one in side if one.reward is not None) for side in (a, b)]
    sample_ids = sorted(rewarded[0].keys() & rewarded[1].keys())
    everything = {rollout.sample_id for rollout in (*a, *b)}
    groups = [[rewarded[side][sample_id] for sample_id in sample_ids] for side in (0, 1)]
    quantities: list[tuple[str, Callable[[Rollout], float], bool]] = [
        ("reward", _reward, False),
        ("pass share", lambda rollout: _reward(rollout) >= pass_threshold - SAME_REWARD, True),
        ("tool calls", lambda rollout: len(rollout.tool_calls), False),
        ("sampled tokens", lambda rollout: rollout.sampled_tokens, False),
    ]
    if any(lacks_what_is_read(rollout) for side in groups for group in side for rollout in group):
        quantities.append(("without what the grader reads", lacks_what_is_read, True))
    if latency_threshold_s is not None:
        name = f"share over {latency_threshold_s:g} s"
        quantities.append((name, lambda rollout: rollout.latency_s > latency_threshold_s, True))
    measures = []
    if sample_ids:
        draws = _draws(len(sample_ids), resamples, seed)
        measures = [_mean_measure(name, groups, of, draws, is_share) for name, of, is_share in quantities]
        measures += [_quantile_measure(f"latency p{share * 100:.0f}, s", groups, share, draws) for share in (0.5, 0.95)]
        measures += _holdout_measures(groups, resamples, seed)
    changes = [
        Change(sample_id, mean(map(_reward, rewarded[0][sample_id])), mean(map(_reward, rewarded[1][sample_id])))
        for sample_id in sample_ids
    ]
    rose = sorted((change for change in changes if change.b - change.a > SAME_REWARD), key=lambda c: c.a - c.b)
    fell = sorted((change for change in changes if change.a - change.b > SAME_REWARD), key=lambda c: c.b - c.a)
    return Comparison(
        len(sample_ids), len(everything) - len(sample_ids), measures, rose[:CHANGES_SHOWN], fell[:CHANGES_SHOWN]
    )


def _draws(samples: int, resamples: int, seed: int) -> Tensor:
    return torch.randint(samples, (resamples, samples), generator=torch.Generator().manual_seed(seed))


def _holdout_measures(groups: Sequence[Sequence[list[Rollout]]], resamples: int, seed: int) -> list[Measure]:
    """Of each holdout grader, over the samples that have its score from both models."""
    names = dict.fromkeys(name for side in groups for group in side for one in group for name in one.holdout_scores)
    measures = []
    for name in names:
        scored = [[[one for one in group if name in one.holdout_scores] for group in side] for side in groups]
        pairs = [(a, b) for a, b in zip(*scored, strict=True) if a and b]
        if pairs:
            sides = [[pair[side] for pair in pairs] for side in (0, 1)]
            draws = _draws(len(pairs), resamples, seed)
            measures.append(
                _mean_measure(f"holdout {name}", sides, lambda one, name=name: one.holdout_scores[name], draws, False)
            )
    return measures


def _reward(rollout: Rollout) -> float:
    return 0.0 if rollout.reward is None else rollout.reward


def _mean_measure(
    name: str, groups: Sequence[Sequence[list[Rollout]]], of: Callable[[Rollout], float], draws: Tensor, is_share: bool
) -> Measure:
    """Of the mean over samples of each sample's mean, so that a sample with fewer rollouts left counts as much."""
    a, b = (torch.tensor([mean(map(of, group)) for group in side], dtype=torch.float64) for side in groups)
    if len(a) < FEW:
        found = mean_interval((b - a).tolist())
        return Measure(name, a.mean().item(), b.mean().item(), found.mean, found.low, found.high, is_share)
    differences = torch.cat([(b - a)[part].mean(dim=1) for part in draws.split(RESAMPLES_AT_ONCE)])
    return _measure(name, a.mean().item(), b.mean().item(), differences, is_share)


def _quantile_measure(name: str, groups: Sequence[Sequence[list[Rollout]]], share: float, draws: Tensor) -> Measure:
    """Of the latencies of all rollouts, by nearest rank."""
    a, b = (_padded([[rollout.latency_s for rollout in group] for group in side]) for side in groups)
    all_samples = torch.arange(len(a)).unsqueeze(0)
    differences = torch.cat(
        [_quantile(b[part], share) - _quantile(a[part], share) for part in draws.split(RESAMPLES_AT_ONCE)]
    )
    return _measure(
        name, _quantile(a[all_samples], share).item(), _quantile(b[all_samples], share).item(), differences, False
    )


def _padded(values: Sequence[Sequence[float]]) -> Tensor:
    """[samples, rollouts] with infinity where a sample has fewer rollouts."""
    longest = max(map(len, values))
    return torch.tensor([[*row, *[torch.inf] * (longest - len(row))] for row in values], dtype=torch.float64)


def _quantile(values: Tensor, share: float) -> Tensor:
    """Nearest-rank quantile of each [samples, rollouts] in [resamples, samples, rollouts], infinities left out."""
    flat = values.flatten(start_dim=1).sort(dim=1).values
    counts = flat.isfinite().sum(dim=1, keepdim=True)
    rank = ((counts * share).ceil().long() - 1).clamp(min=0)
    return flat.gather(1, rank).squeeze(1)


def _measure(name: str, a: float, b: float, differences: Tensor, is_share: bool) -> Measure:
    tail = (1 - CONFIDENCE) / 2
    ordered = differences.sort().values
    low = ordered[int(tail * (len(ordered) - 1))].item()
    high = ordered[-1 - int(tail * (len(ordered) - 1))].item()
    return Measure(name, a, b, b - a, low, high, is_share)
