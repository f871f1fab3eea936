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


def with_tool(**fields: Any) -> dict[str, Any]:
    job = copy.deepcopy(JOB)
    job["method"]["reinforcement"]["tools"] = [{"name": "search", "server_url": "http://tools:1", **fields}]
    return job


def with_mcp_server() -> dict[str, Any]:
    job = copy.deepcopy(JOB)
    server = {"type": "mcp", "server_label": "shop", "server_url": "http://tools:1"}
    job["method"]["reinforcement"]["tools"] = [server]
    return job


def test_a_job_has_one_learner_unless_it_says_otherwise() -> None:
    spec = parse_any_job(JOB, folder=HERE)
    assert isinstance(spec, JobSpec)
    assert spec.cluster.learner_workers == 1
    more = parse_any_job({**JOB, "cluster": {"learner_workers": 4}}, folder=HERE)
    assert isinstance(more, JobSpec)
    assert more.cluster.learner_workers == 4
    assert more.cluster.rollout_workers == 0


@pytest.mark.parametrize("address", ["local", "auto", "head.example:6379", "10.0.0.1:6379", "[fd00::1]:6379"])
def test_rollout_workers_run_in_a_cluster_of_ray(address: str) -> None:
    cluster = {"rollout_workers": 2, "address": address, "max_restarts": 0, "worker_timeout_s": 30}
    spec = parse_any_job({**with_tool(replay="kept"), "cluster": cluster}, folder=HERE)
    assert isinstance(spec, JobSpec)
    assert spec.cluster.model_dump().items() >= cluster.items()


@pytest.mark.parametrize(
    ("job", "cluster", "named"),
    [
        (JOB, {"learner_workers": 0}, "learner_workers"),
        (JOB, {"learner_workers": 65}, "learner_workers"),
        (JOB, {"rank_timeout_s": 0}, "rank_timeout_s"),
        (JOB, {"address": "auto"}, "address"),
        (JOB, {"shard_base": True}, "shard_base"),
        (JOB, {"spread_learner": True, "address": "auto"}, "spread_learner: has an effect with several"),
        (JOB, {"learner_workers": 2, "spread_learner": True}, "spread_learner: needs the address"),
        (JOB, {"learner_workers": 2, "address": "auto"}, "address: has an effect with"),
        (of_all_weights(), {"learner_workers": 2, "shard_base": True}, "shard_base"),
        (SUPERVISED, {"learner_workers": 2}, "cluster"),
        (JOB, {"max_restarts": 1}, "max_restarts: has an effect with rollout_workers alone"),
        (JOB, {"worker_timeout_s": 5}, "worker_timeout_s: has an effect with rollout_workers alone"),
        (JOB, {"min_rollout_workers": 1}, "min_rollout_workers: has an effect with rollout_workers alone"),
        (JOB, {"rollout_workers": 2, "min_rollout_workers": 1}, "min_rollout_workers: has an effect with an address"),
        (
            JOB,
            {"rollout_workers": 2, "min_rollout_workers": 3, "address": "auto"},
            "min_rollout_workers: must be at most rollout_workers",
        ),
        (JOB, {"rollout_workers": 65}, "rollout_workers"),
        (JOB, {"rollout_workers": 2, "address": "http://head:6379"}, "address"),
        (JOB, {"rollout_workers": 2, "address": "head:6379\n"}, "address"),
        ({**JOB, "deterministic": True}, {"rollout_workers": 2}, "deterministic"),
        (with_tool(cache=True), {"rollout_workers": 2}, "tool 'search' has `cache`"),
        (with_tool(record="kept"), {"rollout_workers": 2}, "tool 'search' has `record`"),
        (with_mcp_server(), {"rollout_workers": 2}, "tool 'shop' is of type 'mcp'"),
    ],
)
def test_what_has_no_effect_is_refused_by_its_name(job: dict[str, Any], cluster: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_any_job({**job, "cluster": cluster}, folder=HERE)
