"""What the groups of a step teach: the advantage of each sampled token, where something is better than the rest."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agentrft.learner.algorithms import Algorithm
from agentrft.learner.group import SAME_REWARD, GroupView, TrainingGroup
from agentrft.learner.options import UpdateOptions
from agentrft.learner.plan import PlannedGroup

# Of what a rollout may sample, what a penalty for its length leaves free.
FREE_LENGTH = 0.75
# Of the tokens, those whose covariance of probability and advantage counts as high.
COVARIANT_SHARE = 0.1


def planned_groups(groups: Sequence[TrainingGroup], algorithm: Algorithm, options: UpdateOptions) -> list[PlannedGroup]:
    """The groups that teach something, numbered through."""
    used = [
        (place, *adjusted) for place, group in enumerate(groups) if (adjusted := _adjusted(group, options)) is not None
    ]
    found = [_advantages(group, algorithm, options) for _, group, _ in used]
    if options.reward_weights:
        found = _of_one_size(found)
    taught: list[PlannedGroup] = []
    for (place, group, members), advantages in zip(used, found, strict=True):
        if len(advantages) and float(advantages.abs().max()) > SAME_REWARD:
            # Narrowed last: rewards far from zero differ in digits that float32 does not keep.
            narrowed = advantages.to(torch.float32)
            number = len(taught)
            taught.append(PlannedGroup(number, group.rows, group.rollouts, narrowed, group.lessons, place, members))
    return taught


def without_covariant(advantages: Tensor, logprobs: Tensor, share: float, seed: int) -> Tensor:
    """No advantage for a share of the tokens, drawn from those with the tenth of covariances that is highest."""
    covariance = (logprobs - logprobs.mean()) * (advantages - advantages.mean())
    high = (covariance >= covariance.quantile(1 - COVARIANT_SHARE)).nonzero().squeeze(1).cpu()
    count = min(len(high), max(1, round(share * len(advantages))))
    drawn = high[torch.randperm(len(high), generator=torch.Generator().manual_seed(seed))[:count]]
    return advantages.index_fill(0, drawn.to(advantages.device), 0.0)


def _adjusted(group: TrainingGroup, options: UpdateOptions) -> tuple[TrainingGroup, list[int]] | None:
    """The group with what is to be made of long rollouts, and which of them are left; None where fewer than two are."""
    if options.length_penalty > 0:
        group = _with_length_penalty(group, options.length_penalty, options.most_tokens)
    if not options.masks_overlong or not any(group.truncated):
        return group, list(range(group.rollouts))
    kept = [rollout for rollout, cut in enumerate(group.truncated) if not cut]
    return (group.only(kept), kept) if len(kept) > 1 else None


def _with_length_penalty(group: TrainingGroup, penalty: float, most_tokens: int) -> TrainingGroup:
    sampled = [0] * group.rollouts
    for row in group.rows:
        sampled[row.rollout] += len(row.sampled_positions)
    free = most_tokens * FREE_LENGTH
    over = [min(1.0, max(0.0, (count - free) / (most_tokens - free))) for count in sampled]
    rewards = [reward - penalty * part for reward, part in zip(group.rewards, over, strict=True)]
    return replace(group, rewards=rewards)


def _advantages(group: TrainingGroup, algorithm: Algorithm, options: UpdateOptions) -> Tensor:
    view = GroupView.of(group, by=options.advantage_by, std_floor=options.std_floor)
    weights = options.reward_weights
    if not weights or not weights.keys() <= view.sub_scores.keys():
        return algorithm.advantages(view)
    parts = [weight * algorithm.advantages(view.rewarded_by(name)) for name, weight in weights.items()]
    return torch.stack(parts).sum(0)


def _of_one_size(advantages: list[Tensor]) -> list[Tensor]:
    """Scaled to a deviation of 1 over all groups, whatever their number of rewards (GDPO, arXiv:2601.05242)."""
    everything = torch.cat(advantages) if advantages else torch.zeros(0)
    deviation = everything.std() if len(everything) > 1 else torch.tensor(0.0)
    return [one / deviation for one in advantages] if float(deviation) > SAME_REWARD else advantages
