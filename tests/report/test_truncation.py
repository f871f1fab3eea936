"""Rollouts that were cut off are counted by their limit, and what mends it is said."""

from agentrft.report import Verdict, summarise, verdict
from agentrft.report.truncation import CutOff, cut_off
from agentrft.rollout import Rollout, Turn

THOUGHT = {"role": "assistant", "content": "", "reasoning_content": "Hm, let me"}
TEXT = {"role": "assistant", "content": "It is on sh"}

TEACHES = ", 100% of the samples can teach: their rollouts differ."


def rollouts(n: int, kind: str | None = None, last: dict[str, str] = TEXT, reward: float = 0.0) -> list[Rollout]:
    turn = Turn([1], [2], [0.0], "stop" if kind is None else "length", 0)
    outcome = "graded" if kind is None else "model_failed"
    return [
        Rollout("t", 1, f"{kind}{one}", 0, 0, outcome, [turn], [last], failure_kind=kind, reward=reward)
        for one in range(n)
    ]


def found(*some: list[Rollout]) -> CutOff:
    cut = cut_off(summarise([one for group in some for one in group]))
    assert cut is not None
    return cut


def test_what_was_cut_off_is_counted_by_its_limit() -> None:
    cut = found(rollouts(3, "max_tokens"), rollouts(1, "context"), rollouts(16))
    assert cut.text == (
        "4 rollouts were cut off before the answer (20%): 3 by max_tokens_per_turn, 1 by max_context_tokens"
    )
    assert cut.matters and cut.share == 0.2
    assert cut.remedy.startswith("Raise hyperparameters.max_tokens_per_turn; or ask for shorter answers")


def test_a_full_context_is_mended_by_a_longer_one_or_shorter_tool_answers() -> None:
    remedy = found(rollouts(2, "context"), rollouts(2)).remedy
    assert "max_context_tokens" in remedy and "max_output_characters" in remedy and "per_turn" not in remedy


def test_where_thoughts_were_cut_off_the_switch_is_named() -> None:
    cut = found(rollouts(3, "max_tokens", THOUGHT), rollouts(1, "max_tokens"))
    assert cut.text.endswith("4 by max_tokens_per_turn, 3 in mid-thought")
    assert "chat_template_kwargs: {enable_thinking: false}" in cut.remedy
    assert "enable_thinking" not in found(rollouts(1, "max_tokens", THOUGHT), rollouts(3, "max_tokens")).remedy


def test_a_few_are_counted_and_do_not_matter() -> None:
    cut = found(rollouts(1, "max_tokens"), rollouts(19))
    assert cut.text.startswith("1 rollout was cut off") and not cut.matters
    assert cut_off(summarise(rollouts(3))) is None


def test_a_baseline_that_can_be_trained_on_says_what_was_cut_off() -> None:
    judged = verdict(summarise([*rollouts(2, "max_tokens", THOUGHT), *rollouts(4), *rollouts(4, reward=1.0)]))
    assert judged.trainable and "; but 2 rollouts were cut off before the answer (20%)" in judged.text
    assert "enable_thinking" in judged.remedy
    fine = verdict(summarise([*rollouts(1, "max_tokens"), *rollouts(10), *rollouts(9, reward=1.0)]))
    assert fine == Verdict(True, "trainable: mean reward 0.45, spread 0.50" + TEACHES, "Nothing needs changing.")


def test_a_baseline_of_nothing_but_cut_off_thoughts_names_limit_and_switch() -> None:
    judged = verdict(summarise(rollouts(8, "max_tokens", THOUGHT)))
    assert not judged.trainable
    assert judged.text.startswith("8 of 8 rollouts were cut off before the answer: 8 by max_tokens_per_turn, 8 in mid")
    assert "max_tokens_per_turn" in judged.remedy and "enable_thinking: false" in judged.remedy


def test_a_summary_has_the_share_of_turns_whose_tokens_ran_out() -> None:
    summary = summarise([*rollouts(1, "max_tokens", THOUGHT), *rollouts(3)])
    assert (summary.truncated_turn_share, summary.truncated_in_thought, summary.truncation_share) == (0.25, 1, 0.25)
