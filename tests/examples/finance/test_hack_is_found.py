"""The naive grader's hole is named by `agentrft check` before training, and by the alarm and the Why page during it."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from agentrft.data.samples import load_samples
from agentrft.graders import create_grader
from agentrft.job.check.attacks import check_attacks
from agentrft.job.check.findings import CheckReport, GraderReport
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.spec import AlarmsSpec, load_job
from examples.common.tool_server import Tool
from examples.finance import grader, grader_naive
from examples.finance.demonstrations import demonstrate
from examples.finance.hack import Run, alarms, findings, train
from examples.finance.make_data import Dataset
from examples.finance.policies import roll_out
from examples.finance.transcripts import sample_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "finance"
STEPS = 12


@pytest.fixture(scope="module")
def gamed(dataset: Dataset, tools: Mapping[str, Tool]) -> Run:
    return train(dataset.questions["train"], tools, grader_naive.grade, ("hardened", grader.grade), n_steps=STEPS)


async def checked(job: str, data: Path, dataset: Dataset, tools: Mapping[str, Tool]) -> CheckReport:
    """What `agentrft check` says of a job's grader, after rollouts as its warm start shows them."""
    spec = load_job(EXAMPLE / job)
    questions = dataset.questions["train"][:24]
    samples = load_samples(data / "train.jsonl")[:24]
    rollouts = roll_out(demonstrate, questions, tools)
    grade = grader_naive.grade if "naive" in job else grader.grade
    scores = sorted(grade(sample_of(one), question.row()) for one, question in zip(rollouts, questions, strict=True))
    for one, sample in zip(rollouts, samples, strict=True):
        one.sample_id = sample.sample_id
    runtime: Any = SimpleNamespace(
        spec=spec,
        train=samples,
        validation=[],
        grader=create_grader(spec.grader),
        hyperparameters=SimpleNamespace(max_tokens_per_turn=spec.hyperparameters.max_tokens_per_turn),
        tokenizer=AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m"))),
    )
    report = CheckReport()
    report.grader = GraderReport(24, 24, scores, scores, [], scores[12], 0.0, 0.0, 0.0, {})
    try:
        await check_attacks(runtime, rollouts, report)
    finally:
        await runtime.grader.close()
    return report


async def test_check_says_that_the_naive_grader_pays_for_what_the_tools_said(
    data: Path, dataset: Dataset, tools: Mapping[str, Tool]
) -> None:
    report = await checked("job_naive.yaml", data, dataset, tools)
    assert [one.name for one in report.attacks if one.beats_honest] == ["what the tools said"]
    (warning,) = [one.text for one in report.findings if one.level == "warning"]
    assert warning.startswith("can be gamed: what the tools said scores")


async def test_check_finds_no_attack_that_the_hardened_grader_pays_for(
    data: Path, dataset: Dataset, tools: Mapping[str, Tool]
) -> None:
    report = await checked("job.yaml", data, dataset, tools)
    assert len(report.attacks) >= 10
    assert {one.mean for one in report.attacks} == {0.0}
    assert [one.level for one in report.findings] == ["ok"]


def test_a_policy_learns_to_list_numbers_under_the_naive_grader(gamed: Run) -> None:
    assert gamed.listed_share(0) < 0.3
    assert gamed.listed_share(-1) > 0.9
    assert gamed.metrics[-1]["reward_mean"] > gamed.metrics[0]["reward_mean"] + 0.2
    assert gamed.metrics[-1]["holdout_scores"]["hardened"] < 0.1


def test_the_holdout_s_alarm_rings_and_names_rollouts_that_list_numbers(gamed: Run) -> None:
    alarm, trace_ids = alarms(gamed, AlarmsSpec())["holdout_divergence:hardened"]
    assert "the grader may be gamed" in alarm.text
    assert len(trace_ids) == 3
    assert set(trace_ids) <= gamed.listing


def test_the_why_page_suspects_the_long_answers(gamed: Run, tools: Mapping[str, Tool]) -> None:
    suspects = findings(gamed, tools).suspects
    named = [one for one in suspects if "the holdout 'hardened' does not" in one.suspicion]
    assert any(name.startswith("answers in ") for one in named for name in (one.name, *one.also))


def test_under_the_hardened_grader_the_policy_unlearns_to_list(dataset: Dataset, tools: Mapping[str, Tool]) -> None:
    run = train(dataset.questions["train"], tools, grader.grade, ("naive", grader_naive.grade), n_steps=STEPS)
    assert run.listed_share(-1) < 0.05
    assert not alarms(run, AlarmsSpec())
    assert not [one for one in findings(run, tools).suspects if "list" in one.name]
