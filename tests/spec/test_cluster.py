"""What a job may say of the processes that its work is spread over."""

import copy
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import JobSpec, parse_any_job

HERE = Path("/")
JOB: dict[str, Any] = {
    "model": "smollm2-135m",
    "training_file": "train.jsonl",
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {
                "type": "string_check",
                "name": "g",
                "input": "{{ sample.output_text }}",
                "reference": "x",
                "operation": "eq",
            }
        },
    },
}
SUPERVISED = {**JOB, "method": {"type": "supervised", "supervised": {}}}


def of_all_weights() -> dict[str, Any]:
    job = copy.deepcopy(JOB)
    job["method"]["reinforcement"]["hyperparameters"] = {"lora_rank": "full"}
    return job


def test_a_job_has_one_learner_unless_it_says_otherwise() -> None:
    spec = parse_any_job(JOB, folder=HERE)
    assert isinstance(spec, JobSpec)
    assert spec.cluster.learner_workers == 1
    more = parse_any_job({**JOB, "cluster": {"learner_workers": 4}}, folder=HERE)
    assert isinstance(more, JobSpec)
    assert more.cluster.learner_workers == 4


@pytest.mark.parametrize(
    ("job", "cluster", "named"),
    [
        (JOB, {"learner_workers": 0}, "learner_workers"),
        (JOB, {"learner_workers": 65}, "learner_workers"),
        (JOB, {"rank_timeout_s": 0}, "rank_timeout_s"),
        (JOB, {"address": "auto"}, "address"),
        (JOB, {"shard_base": True}, "shard_base"),
        (of_all_weights(), {"learner_workers": 2, "shard_base": True}, "shard_base"),
        (SUPERVISED, {"learner_workers": 2}, "cluster"),
    ],
)
def test_what_has_no_effect_is_refused_by_its_name(job: dict[str, Any], cluster: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_any_job({**job, "cluster": cluster}, folder=HERE)
