"""Whether a baseline can be trained on, in words, and what to change."""

from dataclasses import dataclass

from agentrft.report.summary import Summary
from agentrft.report.ways import Ways

MOSTLY = 0.8
LOW_SPREAD = 0.02


@dataclass(frozen=True)
class Verdict:
    """`trainable` is False only where reinforcement has nothing at all to work with.

    Attributes:
        remedy: what to do, where `{read}` and the other fields of `Ways` stand for the reader's own means.
    """

    trainable: bool
    text: str
    remedy: str

    def remedy_by(self, ways: Ways) -> str:
        """What to do, in the reader's words."""
        return ways.filled_in(self.remedy)


def verdict(summary: Summary) -> Verdict:
    """Judge a baseline of rollouts sampled at the training temperature."""
    infra = summary.outcomes.get("infra_failed", 0)
    if summary.rollouts and infra == summary.rollouts:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in summary.failures.items())
        return Verdict(
            False,
            f"every rollout broke on infrastructure ({kinds}); there is no reward at all.",
            "{read} Mend the tool server or the grader.",
        )
    if summary.reward_mean == 0 and summary.reward_std == 0:
        return Verdict(
            False,
            "every reward is 0: the agent never does anything that the grader rewards.",
            "{read} Then {warm_start}, give partial credit in the grader, or take a stronger model. To train whatever "
            "the baseline: {skip_baseline}.",
        )
    if summary.reward_std <= LOW_SPREAD * abs(summary.reward_mean) and summary.rollouts > 1:
        return Verdict(
            False,
            f"all rewards are about {summary.reward_mean:.2f}: there is no difference to learn from.",
            "{read} Give the grader more than one level of credit, use harder samples, or raise the temperature. If "
            "the training samples are known to differ: {skip_baseline}.",
        )
    if summary.k > 1 and summary.zero_variance_share > MOSTLY:
        return Verdict(
            True,
            f"trainable, but {summary.zero_variance_share:.0%} of the samples give the same reward every time and "
            "teach nothing.",
            "Use samples of middling difficulty, more levels of credit, a higher temperature or compute_multiplier.",
        )
    return Verdict(
        True,
        f"trainable: mean reward {summary.reward_mean:.2f}, spread {summary.reward_std:.2f}.",
        "Nothing needs changing.",
    )
