"""The result file, read as programs read the hosted one."""

import csv
import io
from typing import Any

from agentrft.report.summary import summarise
from agentrft.rollout import Rollout, ToolCallRecord, Turn
from agentrft.server.objects.grader_panels import GraderName
from agentrft.server.objects.result_csv import result_csv

GRADERS = [GraderName("right, or not", "python")]
# What dashboards of the hosted file read without a look at whether there is anything.
ALWAYS = (
    "step",
    "train_mean_reward",
    "completion_tokens_mean",
    "reasoning_tokens_mean",
    "mean_unresponsive_rewards",
    "sampling_duration",
    "training_duration",
    "total_duration",
    "train_error_count_search",
    "scores/graders/python/right, or not/train_reward_mean",
    "errors/graders/python/right, or not/errors/train_sample_parse_error_mean",
    "errors/graders/python/right, or not/errors/train_other_error_count",
)
OF_VALIDATION = (
    "full_valid_mean_reward",
    "full_valid_mean_parse_error",
    "eval_duration",
    "valid_error_count_search",
    "scores/graders/python/right, or not/valid_reward_mean",
    "errors/graders/python/right, or not/errors/valid_sample_parse_error_count",
)


def called(name: str, status: str) -> Rollout:
    call = ToolCallRecord("c", name, "{}", "", status, 0.1, 1)
    turn = Turn([1], [2], [0.0], "stop", 0, tool_calls=[call])
    return Rollout("t", 1, "s", 1, 0, "graded", [turn], [], reward=0.5)


def step(*rollouts: Rollout, **more: float) -> dict[str, Any]:
    return {"phase": "train", "step": 1, **summarise(rollouts).as_dict(), "step_s": 2.0, **more}


def rows(told: list[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result_csv(told, GRADERS))))


TRAIN = step(called("search", "ok"), called("search", "error"), rollout_s=1.0, update_s=0.5)
VALID = step(called("search", "ok"))
QUIET = step(called("other", "ok"), rollout_s=1.0, update_s=0.5)
TOLD = [
    {"step": 0, "train": None, "validation": VALID},
    {"step": 1, "train": TRAIN, "validation": None},
    {"step": 2, "train": QUIET, "validation": VALID},
]


def test_each_row_has_a_number_in_every_cell_that_dashboards_read_and_the_baseline_is_none() -> None:
    found = rows(TOLD)
    assert [int(row["step"]) for row in found] == [1, 2]
    for row in found:
        assert all(float(row[name]) >= 0 for name in ALWAYS)
    assert [float(row["train_error_count_search"]) for row in found] == [0.5, 0.0]
    assert [float(row["train_mean_reward"]) for row in found] == [0.5, 0.5]
    assert {found[0][name] for name in OF_VALIDATION} == {""}
    assert all(float(found[1][name]) >= 0 for name in OF_VALIDATION)


def test_ours_are_there_beside_the_hosted_columns() -> None:
    first, second = rows(TOLD)
    assert float(first["train_tools/search/calls_per_rollout"]) == 1 and float(second["valid_reward_mean"]) == 0.5


def test_a_call_of_no_tool_makes_no_column() -> None:
    nameless = step(called("", "bad_call"), called("serch", "unknown_tool"), called("search", "ok"), rollout_s=1.0)
    assert list(nameless["tools"]) == ["search"] and nameless["tool_statuses"]["unknown_tool"] == 1
    older = {**nameless, "tools": {"": {"errors": 1}, **nameless["tools"]}}
    (row,) = rows([{"step": 1, "train": older, "validation": older}])
    assert not [name for name in row if "//" in name or name.endswith("count_")]


def test_a_job_without_a_trained_step_has_a_file_without_rows() -> None:
    assert result_csv([], GRADERS) == "step\n" == result_csv(TOLD[:1], GRADERS)
