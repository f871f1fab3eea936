"""The result of a job: the last step, unless an earlier one is better by more than chance."""

import random

from agentrft.report.best import FLOOR, Validated, best_validation, chosen_step

SAMPLES, STEPS, TRIALS = 20, (0, 10, 20, 30, 40), 400


def validation(step: int, rewards: dict[str, list[float]], failed: dict[str, int] | None = None) -> Validated:
    return Validated(step, rewards, failed or {}, None)


def noisy(step: int, source: random.Random, difficulties: list[float], gain: float = 0.0) -> Validated:
    """One rollout of each sample, right as often as the sample is easy."""
    rewards = {
        str(sample): [float(source.random() < min(1.0, share + gain))] for sample, share in enumerate(difficulties)
    }
    return validation(step, rewards)


def mean_of(one: Validated) -> float:
    return sum(map(sum, one.rewards.values())) / len(one.rewards)


def test_where_nothing_changes_the_last_step_is_the_result_and_promises_nothing() -> None:
    source, kept, promised = random.Random(0), 0, 0.0
    for _ in range(TRIALS):
        difficulties = [source.random() for _ in range(SAMPLES)]
        validations = [noisy(step, source, difficulties) for step in STEPS]
        kept += chosen_step(validations).step == STEPS[-1]
        rows = [{"step": one.step, "reward_mean": mean_of(one)} for one in validations]
        promised += best_validation(rows)["reward_mean"] - rows[0]["reward_mean"]
    assert kept / TRIALS > 0.93
    # What the highest mean promises, of policies that are all the same.
    assert promised / TRIALS > 0.06


def test_a_policy_that_broke_after_it_was_good_is_not_the_result() -> None:
    source, found = random.Random(1), 0
    for _ in range(50):
        difficulties = [0.2 + 0.4 * source.random() for _ in range(60)]
        good = [noisy(step, source, difficulties, gain=0.3) for step in (10, 20)]
        validations = [noisy(0, source, difficulties), *good, noisy(30, source, difficulties, gain=-0.1)]
        choice = chosen_step(validations)
        found += choice.step in (10, 20)
        assert choice.over_last is None or choice.over_last.low > 0
    assert found >= 45


def test_one_validation_is_the_result_whatever_it_says() -> None:
    assert chosen_step([validation(0, {"a": [0.0]})]).step == 0


def test_validations_without_a_sample_in_common_say_nothing_of_each_other() -> None:
    assert chosen_step([validation(0, {"a": [1.0]}), validation(5, {"b": [0.0]})]).step == 5


def test_failures_count_as_low_as_in_any_validation() -> None:
    # All failed beside a good answer, whose reward they got; later ones answered, and badly.
    samples = [str(number) for number in range(12)]
    failing = Validated(0, {sample: [-0.1] for sample in samples}, dict.fromkeys(samples, 1), -0.1)
    answering = Validated(4, {sample: [-0.2] for sample in samples}, {}, -0.3)
    assert chosen_step([failing, answering]).step == 4
    assert chosen_step([Validated(0, failing.rewards, {}, None), answering]).step == 0
    assert FLOOR == "model_failed_floor"
