"""A habit that takes the place of what was better where it fails is told from a better habit, by luck and by skill."""

import json

import numpy as np
import pytest

from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.chance import z_of_mean
from agentrft.report.why.crowding import crowding
from agentrft.report.why.evidence import Evidence, Floats
from agentrft.report.why.finding import Finding, Findings
from agentrft.report.why.findings import find
from agentrft.report.why.words import sentence

SIZE, STEPS, SAMPLES = 8, 24, 16
GROUPS = STEPS * SAMPLES
HABIT, OTHER = "has the habit", "does the other"
SEEDS = range(10)
# By group, from 0 to 1.
COURSE = np.repeat(np.arange(STEPS) / (STEPS - 1), SAMPLES)


def spread(found: Findings) -> Finding:
    """What was found of the habit."""
    return next(one for one in found.all if HABIT in (one.name, *one.also))


def found_in(seed: int, habit: Floats, other: Floats, share: Floats | None = None) -> Findings:
    """Of a run whose rollouts are paid 1 or 0.

    Args:
        habit, other: by group, how often a rollout that shows it is paid.
        share: by group, how many show the habit; from half to nearly all without it.
    """
    random = np.random.default_rng(seed)
    shows = random.random((GROUPS, SIZE)) < (0.5 + 0.49 * COURSE if share is None else share)[:, None]
    reward = (random.random((GROUPS, SIZE)) < np.where(shows, habit[:, None], other[:, None])).astype(np.float64)
    return find(evidence(shows, reward))


def evidence(shows: np.ndarray, reward: Floats) -> Evidence:
    count = GROUPS * SIZE
    return Evidence.of_columns(
        step=np.repeat(np.arange(GROUPS) // SAMPLES + 1, SIZE),
        sample=[f"s{number // SIZE}" for number in range(count)],
        reward=reward.ravel(),
        advantage=(reward - reward.mean(axis=1, keepdims=True)).ravel(),
        holdouts={},
        amounts={name: np.zeros(count) for name in ("answer_words", "sampled_tokens", "reasoning_tokens", "calls")},
        members={
            Behaviour(HABIT, "source"): np.flatnonzero(shows.ravel()),
            Behaviour(OTHER, "source"): np.flatnonzero(~shows.ravel()),
        },
        ids=[str(number) for number in range(count)],
    )


def cases(seed: int, share: float) -> np.ndarray:
    """The groups whose sample is one of so many that are unlike the others."""
    return np.random.default_rng(1000 + seed).random(GROUPS) < share


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_better_where_the_habit_fails_and_is_gone_makes_it_a_suspect_with_its_numbers(seed: int) -> None:
    case = cases(seed, 0.25)
    found = found_in(seed, np.where(case, 0.0, 0.8), np.where(case, 0.6, 0.3))

    (one,) = found.suspects
    assert (one.name, one.suspicion) == (HABIT, f"it crowded out what was better where it fails: “{OTHER}”")
    other = one.crowding
    assert other is not None and other.share[0] > 0.3 and other.share[1] < 0.1
    assert 0.1 < other.better / other.samples < 0.4 and other.other_there > other.habit_there + 0.1
    assert other.best[0] > other.best[1] + 0.1
    text = sentence(one, found)
    assert f"which earned more in {other.better} of the {other.samples} groups that have both" in text
    assert f"The best rollout of a group earned {other.best[0]:.2f} → {other.best[1]:.2f}" in text
    assert found.unproven == []
    assert Findings.from_dict(json.loads(json.dumps(found.as_dict()))).suspects == [one]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_worse_on_every_sample_is_rightly_replaced_though_luck_had_it_win_some(seed: int) -> None:
    # Some samples are easy for both, and some hard.
    easy = np.random.default_rng(seed).random(GROUPS)
    found = found_in(seed, 0.2 + 0.7 * easy, 0.5 * easy)

    other = spread(found).crowding
    assert found.suspects == [] and found.unproven == []
    assert other is not None and other.better > 10 and not other.is_better


@pytest.mark.parametrize("seed", SEEDS)
def test_a_habit_that_learns_what_only_the_other_could_is_no_suspect(seed: int) -> None:
    case = cases(seed, 0.25)
    found = found_in(seed, np.where(case, COURSE, 0.8), np.where(case, 0.6, 0.2))

    assert found.suspects == []


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_that_grow_hopeless_for_both_are_no_sign_of_crowding_out(seed: int) -> None:
    hopeless = np.random.default_rng(seed).random(GROUPS) < 0.6 * COURSE
    found = found_in(seed, np.where(hopeless, 0.0, 0.5 + 0.4 * COURSE), np.where(hopeless, 0.0, 0.3))

    one = spread(found)
    assert one.crowding is not None and one.crowding.best_z < -2
    assert not one.crowding.is_better and "crowded out" not in one.suspicion


@pytest.mark.parametrize("seed", SEEDS)
def test_a_policy_that_grows_sure_of_itself_is_not_taken_for_a_habit_that_crowds_out(seed: int) -> None:
    # On each sample it ends with what is always right or always wrong, whatever else it does.
    right = np.random.default_rng(seed).random(GROUPS) < 0.6
    chance = np.where(right, 0.5 + 0.5 * COURSE, 0.5 - 0.5 * COURSE)
    found = found_in(seed, chance, 0.7 * chance)

    one = spread(found)
    assert one.crowding is not None and one.crowding.best_z < -2
    assert found.suspects == []


def test_what_is_alike_on_every_sample_is_seldom_further_out_than_chance_says() -> None:
    # Of few groups and of rewards that are rare, the worst there is for a test of means.
    trials = [_z_of_alike(seed) for seed in range(300)]
    far = sum(z > 1.645 for z in trials) / len(trials)
    assert far < 0.075 and sum(z > 3 for z in trials) <= 2


def _z_of_alike(seed: int) -> float:
    random = np.random.default_rng(seed)
    shows = np.zeros((GROUPS, SIZE), dtype=bool)
    shows[:] = True
    shows[:30] = random.random((30, SIZE)) < 0.7
    reward = (random.random((GROUPS, SIZE)) < random.random(GROUPS)[:, None] ** 2).astype(np.float64)
    one = evidence(shows, reward)
    habit, other = (unmeasured(behaviour) for behaviour in one.members)
    found = crowding(one, habit, other)
    assert found is not None
    return found.z


def unmeasured(behaviour: Behaviour) -> Finding:
    """Of which only the rollouts are looked at."""
    return Finding(
        behaviour,
        shown=0,
        possible=0,
        share_early=0.0,
        share_late=0.0,
        credit=0.0,
        credit_z=0.0,
        share_z=0.0,
        advantage=0.0,
        update_share=0.0,
        reward_with=(None, None),
        reward_without=(None, None),
        by_step=[],
    )


def test_a_mean_of_few_is_as_rare_as_students_distribution_says() -> None:
    draw = np.random.default_rng(0)
    far = [abs(z_of_mean(draw.normal(size=6))) > 1.96 for _ in range(4000)]
    assert sum(far) / 4000 == pytest.approx(0.05, abs=0.012)
    assert z_of_mean(np.ones(3)) == z_of_mean(np.zeros(9)) == 0.0
