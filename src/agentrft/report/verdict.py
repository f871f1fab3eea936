"""Whether a baseline can be trained on, in words, and what to change: first what broke, then what the agent did."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from agentrft.report.summary import Summary
from agentrft.report.truncation import cut_off
from agentrft.report.ways import Ways

MOSTLY = 0.8
# Of the rollouts that had a chance to fail of something, so many make it the reason.
HALF = 0.5
LOW_SPREAD = 0.02
FINE = "Nothing needs changing."


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
    broken = _infrastructure(summary)
    has_spread = summary.reward_std > LOW_SPREAD * abs(summary.reward_mean) or 0 < summary.rollouts < 2
    is_zero = summary.reward_mean == 0 and summary.reward_std == 0
    rewarded = summary.rollouts - summary.outcomes.get("infra_failed", 0)
    if broken is not None and rewarded > 0 and has_spread and not is_zero:
        cause, remedy = broken
        return Verdict(True, f"trainable on what is left, but {cause}.", remedy)
    if broken is not None or (summary.rollouts and not rewarded):
        cause, remedy = broken or (f"every rollout broke on infrastructure ({_counted(summary)})", _MEND_BOTH)
        return Verdict(False, f"{cause}; {_rest(summary, rewarded)}.", remedy)
    if is_zero or not has_spread:
        return _without_spread(summary, is_zero=is_zero)
    if summary.k > 1 and summary.zero_variance_share > MOSTLY:
        return Verdict(
            True,
            f"trainable, but {summary.zero_variance_share:.0%} of the samples give the same reward every time and "
            "teach nothing.",
            "Use samples of middling difficulty, more levels of credit, a higher temperature or compute_multiplier.",
        )
    spread = f"spread {summary.reward_std:.2f}{_share_that_teaches(summary)}"
    trainable = f"trainable: mean reward {summary.reward_mean:.2f}, {spread}"
    cut = cut_off(summary)
    if cut is not None and cut.matters:
        return Verdict(True, f"{trainable}; but {cut.text}.", cut.remedy)
    return Verdict(True, f"{trainable}.", FINE)


def _share_that_teaches(summary: Summary) -> str:
    """Of samples with several rollouts, how many have some that are better than others."""
    if summary.k < 2:
        return ""
    flat = [
        f"{share:.0%} always {what}"
        for share, what in ((summary.all_right_share, "right"), (summary.all_wrong_share, "wrong"))
        if share > 0
    ]
    rest = f" ({', '.join(flat)})" if flat else ""
    return f", {1 - summary.zero_variance_share:.0%} of the samples can teach: their rollouts differ{rest}"


_MEND_BOTH = "{read} Mend the tool server or the grader."


def _infrastructure(summary: Summary) -> tuple[str, str] | None:
    """The part of the infrastructure that broke in most of the rollouts that came to it, and what to do; else None."""
    by_part: dict[str, dict[str, int]] = {}
    for kind, count in summary.failures.items():
        part, _, what = kind.partition(":")
        if what:
            by_part.setdefault(part, {})[kind] = count
    graded = summary.outcomes.get("graded", 0)
    for part, reached in (("grader", graded + _sum(by_part.get("grader"))), ("tool", summary.rollouts)):
        failed = _sum(by_part.get(part))
        if not failed or failed < HALF * reached:
            continue
        kinds = by_part[part]
        example = next((text for kind in kinds if (text := summary.failure_examples.get(kind))), "")
        shown = f": {example}" if example else ""
        if part == "grader":
            cause = f"the grader failed on {failed} of the {reached} answers that came to it ({_listed(kinds)}){shown}"
            return cause, "{read} Mend the grader: such rollouts have no reward, and it is no fault of the model's."
        cause = f"a tool broke in {failed} of the {reached} rollouts ({_listed(kinds)}){shown}"
        return cause, "{read} Mend the tool server: such rollouts have no reward, and it is no fault of the model's."
    return None


def _without_spread(summary: Summary, *, is_zero: bool) -> Verdict:
    """Rewards that are all alike: of one reason that most rollouts share, or of the task."""
    alike = "every reward is 0" if is_zero else f"all rewards are about {summary.reward_mean:.2f}"
    rewarded = summary.rollouts - summary.outcomes.get("infra_failed", 0)
    for failed, cause, remedy in _agents_reasons(summary):
        if failed and failed >= HALF * rewarded:
            return Verdict(
                False,
                f"{failed} of {rewarded} rollouts {cause}, and {alike}.",
                f"{remedy} To see them: {{read}} To train whatever the baseline: {{skip_baseline}}.",
            )
    counted = f"{_counted(summary)}; " if summary.failures else ""
    if is_zero:
        return Verdict(
            False,
            f"{counted}every reward is 0: the agent never does anything that the grader rewards.",
            "{read} Then {warm_start}, give partial credit in the grader, or take a stronger model. To train whatever "
            "the baseline: {skip_baseline}.",
        )
    if summary.all_right_share == 1:
        return Verdict(
            False,
            f"{counted}{alike} and reach the pass threshold: the model does this task already, and nothing is left to "
            "learn from these samples.",
            "{read} It can be exported or served as it is. To train further, use harder samples, or a grader that also "
            "scores what an answer costs, such as its turns. To train whatever the baseline: {skip_baseline}.",
        )
    return Verdict(
        False,
        f"{counted}{alike}: there is no difference to learn from.",
        "{read} Give the grader more than one level of credit, use harder samples, or raise the temperature. If "
        "the training samples are known to differ: {skip_baseline}.",
    )


def _agents_reasons(summary: Summary) -> list[tuple[int, str, str]]:
    """What rollouts failed of that is not the task's difficulty: how many, in words, and what to do."""
    failures = Counter(summary.failures)
    graded = summary.outcomes.get("graded", 0)
    cut = cut_off(summary)
    return [
        (
            failures["response_format"],
            "ended in an answer that does not fit `response_format`",
            "Say in the prompt which form the answer has, with an example; then {warm_start}.",
        ),
        (0, "", "") if cut is None else (cut.rollouts, f"were cut off before the answer{cut.parts}", cut.remedy),
        (
            failures["max_turns"],
            "used all their turns and did not answer",
            "Raise hyperparameters.max_episode_steps, or say in the prompt when to stop calling tools.",
        ),
        (failures["no_answer"], "ended without any text", "Say in the prompt what to answer; then {warm_start}."),
        (
            failures["no_tool_call"],
            "answered without the tool call that `tool_choice` asks for",
            "Say in the prompt to call the tool; then {warm_start}.",
        ),
        (
            round(summary.missing_sample_key_share * graded),
            "lack what the grader reads of them, such as `sample.output_json` where the answer is no JSON",
            "Say in the prompt in which form to answer, or let the grader read the answer's text.",
        ),
    ]


def _rest(summary: Summary, rewarded: int) -> str:
    if not rewarded:
        return "there is no reward at all"
    if summary.reward_mean == 0 and summary.reward_std == 0:
        return f"the other {rewarded} got 0"
    return f"the other {rewarded} all got about {summary.reward_mean:.2f}"


def _counted(summary: Summary) -> str:
    """Failures of all kinds, by number."""
    return _listed(summary.failures)


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items(), key=lambda one: -one[1]))


def _sum(kinds: Mapping[str, int] | None) -> int:
    return sum((kinds or {}).values())
