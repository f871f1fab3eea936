"""Failing never pays: what a rollout gets in which the agent failed, in training, in validations, and after a kill."""

import signal
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agentrft.graders import Grade, GraderFailure
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.collect import Decisions
from agentrft.job.evaluation import Evaluation, on_one_footing
from agentrft.learner import TrainingGroup, TrainingRow
from agentrft.learner.algorithms import ALGORITHMS
from agentrft.learner.group import GroupView
from agentrft.report import summarise
from agentrft.report.best import best_validation
from agentrft.report.compare import compare
from agentrft.rollout import FailedReward, Rollout
from agentrft.spec import JobSpec, load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import rollouts_file
from tests.job.fork_server import ForkServer
from tests.job.scripted import CALL, LIMITS, WordGrader, Write, roll_out
from tests.job.tiny_job import serving, write_job
from tests.traffic.chaos_server import ChaosServer

CHECK = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
PYTHON = {"type": "python", "source": "def grade(sample, item): return 0.0"}
SCORE = {"type": "score_model", "model": "j", "base_url": "http://127.0.0.1:1/v1", "range": [1, 10]}
SCORE |= {"input": [{"role": "user", "content": "{{ sample.output_text }}"}]}
# The shorter the answer, the less it loses; nothing is ever above 0.
NEGATIVE = """
def grade(sample, item):
    return -0.5 - len(sample["output_text"]) / 20
"""
FAILED = None


def group(*rewards: float | None, sample: str = "a") -> list[Rollout]:
    """Graded rollouts with these rewards; None is a failure of the agent's."""
    return [
        Rollout(f"trace_{sample}{n}", 1, sample, 1, n, "graded", [], [], grade=Grade(reward), reward=reward)
        if reward is not None
        else Rollout(f"trace_{sample}{n}", 1, sample, 1, n, "model_failed", [], [], failure_kind="context", reward=0.0)
        for n, reward in enumerate(rewards)
    ]


def spec(grader: dict[str, Any], **fields: Any) -> JobSpec:
    return JobSpec.model_validate({"model": "m", "training_file": "t.jsonl", "grader": grader, **fields})


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
@pytest.mark.parametrize(
    "rewards",
    [
        [-0.3, -0.2, -0.2, -0.1, -0.3, FAILED, FAILED, -0.2],
        [-5.0, FAILED],
        [FAILED, -0.001, -1000.0, FAILED],
        [0.5, 0.9, FAILED],
        [0.0, FAILED, 1.0],
    ],
)
def test_no_failure_has_an_advantage_above_any_answer(algorithm: str, rewards: list[float | None]) -> None:
    rollouts = group(*rewards)
    FailedReward.of(spec(PYTHON)).settle(rollouts, by_group=True)
    rows = [TrainingRow([1, 2], [1], [-1.0], index) for index in range(len(rollouts))]
    rewarded = TrainingGroup(rows, [rollout.reward or 0.0 for rollout in rollouts])
    found = ALGORITHMS[algorithm].advantages(GroupView.of(rewarded)).tolist()
    failed = [one for one, rollout in zip(found, rollouts, strict=True) if rollout.outcome == "model_failed"]
    answered = [one for one, rollout in zip(found, rollouts, strict=True) if rollout.outcome == "graded"]
    assert max(failed) <= min(answered) + 1e-6


@pytest.mark.parametrize(
    ("grader", "fields", "fixed"),
    [
        (CHECK, {}, 0.0),
        (SCORE, {}, 1.0),
        (PYTHON, {}, None),
        (PYTHON, {"model_failed_reward": -2}, -2.0),
        (CHECK, {"model_failed_reward": 0.5}, 0.5),
        ({"type": "multi", "graders": {"a": CHECK, "b": CHECK}, "calculate_output": "a - 0.5 * b"}, {}, -0.5),
        ({"type": "multi", "graders": {"a": CHECK, "p": PYTHON}, "calculate_output": "a + p"}, {}, None),
    ],
)
def test_what_failing_gets_is_said_by_the_job_or_by_the_graders_range_or_by_the_group(
    grader: dict[str, Any], fields: dict[str, Any], fixed: float | None
) -> None:
    assert FailedReward.of(spec(grader, **fields)).fixed == fixed


def test_in_training_failures_get_the_lowest_of_their_group_and_in_validations_of_all() -> None:
    rollouts = [*group(-0.1, FAILED), *group(-0.7, FAILED, sample="b"), *group(FAILED, FAILED, sample="c")]
    FailedReward().settle(rollouts, by_group=True)
    assert [rollout.reward for rollout in rollouts] == [-0.1, -0.1, -0.7, -0.7, -0.7, -0.7]
    FailedReward().settle(rollouts, by_group=False)
    assert [rollout.reward for rollout in rollouts] == [-0.1, -0.7, -0.7, -0.7, -0.7, -0.7]


def test_where_every_reward_is_above_zero_failing_gets_zero() -> None:
    rollouts = group(0.4, FAILED, 0.9)
    FailedReward().settle(rollouts, by_group=True)
    assert [rollout.reward for rollout in rollouts] == [0.4, 0.0, 0.9]


def test_broken_infrastructure_and_unfinished_rollouts_with_a_grade_keep_what_they_have() -> None:
    broken = Rollout("t1", 1, "a", 1, 0, "infra_failed", [], [], failure_kind="grader:exception")
    unfinished = Rollout("t2", 1, "a", 1, 1, "model_failed", [], [], grade=Grade(0.8), reward=0.8)
    rollouts = [broken, unfinished, *group(-0.5, FAILED)]
    FailedReward().settle(rollouts, by_group=True)
    assert [rollout.reward for rollout in rollouts] == [None, 0.8, -0.5, -0.5]


def test_a_group_is_decided_by_the_rewards_that_it_will_have() -> None:
    def decided(*rewards: float | None, threshold: float = 0.5) -> bool:
        return Decisions(3, threshold, FailedReward(), group(*rewards)).is_decided("a")

    assert decided(0.5, 0.5, 0.5)
    assert not decided(0.5, 0.5), "too few"
    assert not decided(0.5, 0.5, 0.7), "a difference to learn from"
    assert not decided(0.5, FAILED, 0.5)
    assert not decided(0.5, 0.5, 0.5, threshold=0.6), "none is right: more rollouts may find what is"
    assert not decided(FAILED, FAILED, FAILED)
    assert decided(-0.5, FAILED, -0.5, threshold=-1.0)


def validation(step: int, *rewards: float | None) -> dict[str, Any]:
    rollouts = [one for n, reward in enumerate(rewards) for one in group(reward, sample=str(n))]
    rule = FailedReward()
    rule.settle(rollouts, by_group=False)
    return {**summarise(rollouts).as_dict(), "step": step, "model_failed_floor": rule.beside(rollouts)}


def test_a_policy_that_failed_beside_one_good_answer_is_not_the_best_step() -> None:
    failing, answering = validation(0, -0.1, FAILED, FAILED, FAILED), validation(4, -0.2, -0.2, -0.2, -0.3)
    assert failing["reward_mean"] > answering["reward_mean"]
    assert best_validation([failing, answering])["step"] == 4
    assert best_validation([validation(0, 0.2), validation(4, 0.2)])["step"] == 0
    older = [{"step": 0, "reward_mean": 0.1}, {"step": 4, "reward_mean": 0.3}]
    assert best_validation(older)["step"] == 4


def test_two_models_are_compared_with_the_same_reward_for_failing() -> None:
    sides = []
    for rewards in ([-0.1, FAILED, FAILED], [-0.2, -0.2, -0.3]):
        rollouts = [one for n, reward in enumerate(rewards) for one in group(reward, sample=str(n))]
        FailedReward().settle(rollouts, by_group=False)
        sides.append(Evaluation("x", 1.0, rollouts, summarise(rollouts), 1.0))
    a, b = on_one_footing(sides, spec(PYTHON))
    assert (a.summary.reward_mean, b.summary.reward_mean) == (pytest.approx(-0.7 / 3), pytest.approx(-0.7 / 3))
    assert compare(a.rollouts, b.rollouts).measures[0].difference == pytest.approx(0.0)


def test_a_reward_for_failing_and_grading_it_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="no effect with grade_unfinished"):
        spec(CHECK, grade_unfinished=True, model_failed_reward=0)
    for nonsense in ("lowest", float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            spec(CHECK, model_failed_reward=nonsense)


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


class StateGrader(WordGrader):
    """Looks at what was done: 0.5 for each call."""

    async def grade(self, sample: Any, *, item: dict[str, Any], trace_id: str) -> Grade:
        self.samples.append(sample)
        if self.broken:
            raise GraderFailure(self.name, "exception", "division by zero")
        return Grade(0.5 * len(sample.output_tools))


@pytest.mark.parametrize(
    ("turns", "kind", "reward"),
    [([CALL] * 4, "max_turns", 2.0), ([CALL, ""], "no_answer", 0.5), ([CALL, "word " * 150], "max_tokens", 0.5)],
)
async def test_an_unfinished_rollout_may_be_graded_as_far_as_it_got(
    write: Write, turns: list[str], kind: str, reward: float
) -> None:
    grader = StateGrader()
    limits = replace(LIMITS, grade_unfinished=True, max_tokens_per_turn=100)
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, turns, server, grader=grader, limits=limits)
    assert (rollout.outcome, rollout.failure_kind, rollout.reward) == ("model_failed", kind, reward)
    assert rollout.grade is not None
    (seen,) = grader.samples
    assert (seen.output_text, len(seen.output_tools)) == ("", int(2 * reward))
    assert summarise([rollout]).failures == {kind: 1}
    assert Rollout.from_dict(rollout.as_dict()) == rollout


async def test_a_grader_that_breaks_on_an_unfinished_rollout_is_infrastructure_all_the_same(write: Write) -> None:
    limits = replace(LIMITS, grade_unfinished=True)
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [""] * 2, server, grader=StateGrader(broken=True), limits=limits)
    assert (rollout.outcome, rollout.failure_kind, rollout.reward) == ("infra_failed", "grader:exception", None)


def negative_job(folder: Path, model: Path, url: str, **changes: Any) -> Path:
    """About half of its rollouts run out of tokens, and every answer costs something."""
    grader = {"type": "python", "trusted": True, "name": "negative", "source": NEGATIVE}
    hyperparameters = {"max_tokens_per_turn": 20, "compute_multiplier": 1, "temperature": 1.0}
    # With a single rollout of each sample all of a baseline may be cut off: what random weights say differs by machine.
    changes = {"baseline": {"rollouts_per_sample": 4}, **changes}
    return write_job(folder, model, url, grader=grader, hyperparameters=hyperparameters, **changes)


def check_that_failing_never_pays(rows: list[dict[str, Any]], *, by_group: bool) -> int:
    """The failures among stored rollouts of a step."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["sample_id"] if by_group else ""].append(row["record"])
    failures = 0
    for members in groups.values():
        failed = {one["reward"] for one in members if one["outcome"] == "model_failed"}
        graded = [one["reward"] for one in members if one["outcome"] == "graded"]
        failures += sum(one["outcome"] == "model_failed" for one in members)
        if failed and graded:
            assert failed == {min(graded)}
    return failures


async def test_in_a_whole_job_no_stored_failure_has_more_than_the_worst_answer_beside_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer() as server:
        job = load_job(negative_job(tmp_path, tiny_model, server.url))
        store, job_id = create_job(job)
        await run_job(job, store, job_id, progress=NoProgress(), stop=Stop())
    failures = 0
    for row in store.metrics(job_id):
        if row["phase"] in ("train", "validation"):
            rows = read_rollouts(rollouts_file(store.job_folder(job_id), row["phase"], row["step"]))
            failures += check_that_failing_never_pays(rows, by_group=row["phase"] == "train")
            assert row["reward_mean"] == pytest.approx(sum(one["record"]["reward"] for one in rows) / len(rows))
    assert failures > 0
    validations = [row for row in store.metrics(job_id) if row["phase"] == "validation"]
    assert store.get_job(job_id).best_step in {row["step"] for row in validations}


@pytest.mark.slow
def test_rollouts_that_were_graded_before_a_kill_are_priced_with_those_after_it(
    tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    with serving(ChaosServer()) as server:
        job_file = negative_job(tmp_path, tiny_model, server.url)
        assert fork_server.run(job_file, kill_at="during rollouts") == -signal.SIGKILL
        with JobStore(tmp_path / "runs", create=False) as store:
            job_id = store.find_job("latest").job_id
            folder = store.job_folder(job_id)
        assert fork_server.run(job_file, job_id=job_id) == 0, (tmp_path / "log.txt").read_text()
    for step in (1, 2, 3):
        rows = read_rollouts(rollouts_file(folder, "train", step))
        assert len(rows) == 16
        check_that_failing_never_pays(rows, by_group=True)
