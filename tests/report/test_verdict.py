"""The verdict on a baseline names what failed, and how often, before it speaks of the model."""

import pytest

from agentrft.graders import Grade
from agentrft.report import Verdict, cli_ways, summarise, verdict
from agentrft.rollout import Rollout

WAYS = cli_ways()
MISSING = "grader 'python': exception: while loading: ModuleNotFoundError: No module named 'deepdiff'"

TEACHES = ", 100% of the samples can teach: their rollouts differ."


def graded(reward: float, n: int = 1, *, missing: list[str] | None = None) -> list[Rollout]:
    return [
        Rollout("t", 1, f"s{number}", 0, 0, "graded", [], [], reward=reward, grade=Grade(reward, missing=missing or []))
        for number in range(n)
    ]


def failed(kind: str, n: int, message: str | None = None, reward: float | None = 0.0) -> list[Rollout]:
    outcome = "infra_failed" if reward is None else "model_failed"
    return [
        Rollout("t", 1, f"f{number}", 0, 0, outcome, [], [], failure_kind=kind, failure_message=message, reward=reward)
        for number in range(n)
    ]


def judged(*rollouts: list[Rollout]) -> Verdict:
    return verdict(summarise([one for some in rollouts for one in some]))


def test_a_grader_that_fails_on_every_answer_is_at_fault_and_not_the_model() -> None:
    found = judged(failed("grader:exception", 6, MISSING, None), failed("max_tokens", 10))
    assert not found.trainable
    assert found.text.startswith(
        f"the grader failed on 6 of the 6 answers that came to it (6 x grader:exception): {MISSING}; "
    )
    assert found.text.endswith("the other 10 got 0.")
    assert "Mend the grader" in found.remedy and "stronger model" not in found.remedy


def test_a_grader_that_fails_on_everything_says_what_it_said() -> None:
    found = judged(failed("grader:bad_answer", 4, "grader 'python': bad_answer: it returned a str", None))
    assert not found.trainable
    assert "it returned a str; there is no reward at all." in found.text


def test_a_grader_that_fails_on_most_answers_is_named_also_where_the_rest_can_be_trained_on() -> None:
    broken = failed("grader:timeout", 5, "grader 'mine': timeout: late", None)
    found = judged(broken, graded(0.0, 2), graded(1.0, 2))
    assert found.trainable
    assert "the grader failed on 5 of the 9 answers" in found.text
    alike = judged(broken, graded(0.5, 4))
    assert not alike.trainable
    assert alike.text.endswith("the other 4 all got about 0.50.")


def test_a_grader_that_fails_on_a_few_answers_does_not_change_the_verdict() -> None:
    found = judged(failed("grader:timeout", 1, "late", None), graded(0.0, 2), graded(1.0, 2))
    assert found == Verdict(True, "trainable: mean reward 0.50, spread 0.50" + TEACHES, "Nothing needs changing.")


def test_a_tool_that_breaks_in_most_rollouts_is_named() -> None:
    found = judged(failed("tool:connection", 6, "tool 'search': connection: refused", None), graded(0.0, 2))
    assert not found.trainable
    assert found.text.startswith("a tool broke in 6 of the 8 rollouts (6 x tool:connection): tool 'search': connection")
    assert "Mend the tool server" in found.remedy


@pytest.mark.parametrize(
    ("kind", "cause", "remedy"),
    [
        ("response_format", "does not fit `response_format`", "which form the answer has"),
        ("max_tokens", "were cut off before the answer", "max_tokens_per_turn"),
        ("context", "were cut off before the answer", "max_context_tokens"),
        ("max_turns", "used all their turns", "max_episode_steps"),
        ("no_answer", "without any text", "what to answer"),
        ("no_tool_call", "without the tool call", "call the tool"),
    ],
)
@pytest.mark.parametrize("reward", [0.0, -1.0])
def test_what_most_rollouts_failed_of_is_said_first(kind: str, cause: str, remedy: str, reward: float) -> None:
    found = judged(failed(kind, 7, reward=reward), graded(reward, 3))
    assert not found.trainable
    assert found.text.startswith("7 of 10 rollouts ") and cause in found.text
    assert remedy in found.remedy and "stronger model" not in found.remedy
    assert WAYS.skip_baseline in found.remedy_by(WAYS)


def test_answers_that_lack_what_the_grader_reads_are_said_first() -> None:
    found = judged(graded(0.0, 6, missing=["sample.output_json.k"]), graded(0.0, 2))
    assert found.text.startswith("6 of 8 rollouts lack what the grader reads of them")


def test_failures_that_explain_less_than_half_are_counted_before_the_rest_is_said() -> None:
    found = judged(failed("max_tokens", 2), failed("response_format", 1), graded(0.0, 7))
    assert found.text.startswith("2 x max_tokens, 1 x response_format; every reward is 0: the agent never does")
    assert "stronger model" in found.remedy
    assert judged(graded(0.0, 2)).text.startswith("every reward is 0")


def test_an_example_of_each_kind_of_failure_is_kept_short() -> None:
    summary = summarise([*failed("grader:exception", 1, "x" * 5000, None), *failed("max_tokens", 1)])
    assert {kind: len(text) for kind, text in summary.failure_examples.items()} == {"grader:exception": 400}


def group(sample: str, *rewards: float) -> list[Rollout]:
    return [
        Rollout("t", 1, sample, 0, index, "graded", [], [], reward=reward, grade=Grade(reward))
        for index, reward in enumerate(rewards)
    ]


def test_a_baseline_names_the_share_of_samples_that_can_teach() -> None:
    mixed = [*group("a", 1, 1, 1, 1), *group("b", 0, 0, 0, 0), *group("c", 0, 1, 0, 0), *group("d", 1, 0, 1, 1)]
    found = verdict(summarise(mixed))
    assert found.trainable
    assert "50% of the samples can teach: their rollouts differ (25% always right, 25% always wrong)" in found.text
    alone = verdict(summarise([*group("a", 1), *group("b", 0)]))
    assert "can teach" not in alone.text, "one rollout of each says nothing of it"


def test_a_model_that_gets_everything_right_is_told_apart_from_rewards_that_are_alike() -> None:
    done = judged(group("a", 1, 1), group("b", 1, 1))
    assert not done.trainable
    assert "does this task already" in done.text
    assert "exported or served" in done.remedy
    assert "no difference to learn from" in judged(group("a", 0.4, 0.4), group("b", 0.4, 0.4)).text
