"""How many rollouts of a sample a validation needs, by how much attempts at the same sample differ."""

from collections.abc import Mapping, Sequence

from agentrft.report.averages import mean

# What two validations of the same samples should be able to tell apart, as a share of the rewards' standard deviation:
# the standard error of their difference.
TOLD_APART = 0.1


def noise_share(rewards: Mapping[str, Sequence[float]]) -> float:
    """Of the variance of rewards, the part that is between attempts at the same sample; 0 where all are alike.

    Args:
        rewards: by sample; those with a single one say nothing of it.
    """
    several = [list(some) for some in rewards.values() if len(some) > 1]
    if not several:
        return 1.0
    # Unbiased, of a few attempts each.
    within = mean([sum((one - mean(some)) ** 2 for one in some) / (len(some) - 1) for some in several])
    everything = [one for some in several for one in some]
    total = mean([(one - mean(everything)) ** 2 for one in everything])
    return 0.0 if total <= 0 else min(1.0, within / total)


def samples_needed(rewards: Mapping[str, Sequence[float]], *, rows: int) -> int:
    """Rollouts of each of `rows` samples in a validation, so that the same samples tell another one apart from it.

    What differs between samples is the same in both, and does not count.
    """
    wanted = 2 * noise_share(rewards) / TOLD_APART**2
    return max(1, -(-round(wanted) // max(1, rows)))
