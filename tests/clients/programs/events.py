"""An analysis script that makes a table of a job's events: messages by regular expression, metrics by their keys."""

import re

from openai import OpenAI

from tests.clients.checks import World, check, differs, same

STEP = re.compile(
    r"Step (?P<step>\d+)/(?P<total>\d+) ?, train mean reward=(?P<train>-?[\d.]+)"
    r"(?:, full validation mean reward=(?P<valid>-?[\d.]+))?(?:, full validation mean parse error=(?P<parse>[\d.]+))?"
)
KINDS = (
    "formula_parse",
    "sample_parse",
    "truncated_observation",
    "unresponsive_reward",
    "invalid_variable",
    "other",
    "python_grader_server",
    "python_grader_runtime",
    "model_grader_server",
    "model_grader_refusal",
    "model_grader_parse",
)


def all_events(world: World) -> list:
    """Oldest first, fetched page by page as scripts do: `after` is the last id of a page."""
    client, events, after = OpenAI(), [], None
    while True:
        page = client.fine_tuning.jobs.list_events(world.job.id, limit=5, **({"after": after} if after else {}))
        events += page.data
        if not page.has_more:
            return events[::-1]
        after = page.data[-1].id


def metrics(world: World) -> list[dict]:
    return [event.data for event in all_events(world) if event.type == "metrics"]


@check(
    same("events", "pages", "newest first, by `after` and `limit`, `has_more`"),
    same("events", "`type`, `level`, `message`, `data`", "`message` or `metrics`; `info`, `warn` or `error`"),
)
def pages_through_all_events(world: World) -> None:
    events = all_events(world)
    assert len({event.id for event in events}) == len(events) > 5
    assert {event.type for event in events} == {"message", "metrics"}
    assert {event.level for event in events} <= {"info", "warn", "error"}
    assert [event.created_at for event in events] == sorted(event.created_at for event in events)
    assert all(event.id.startswith("ftevent-") for event in events)
    assert [one.id for one in OpenAI().fine_tuning.jobs.list_events(world.job.id)][::-1] == [one.id for one in events]


@check(
    same(
        "events",
        "the message of a step",
        "`Step 10/20 , train mean reward=…, full validation mean reward=…, full validation mean parse error=…`",
    ),
    differs("events", "step 0", "none", "the baseline: validation before step 1"),
)
def reads_rewards_out_of_messages(world: World) -> None:
    told = [event for event in all_events(world) if event.type == "metrics"]
    rows = {event.data["step"]: STEP.match(event.message) for event in told if event.data["step"] > 0}
    assert all(rows.values()) and sorted(rows) == [1, 2, 3], [event.message for event in told]
    for step, match in rows.items():
        data = next(event.data for event in told if event.data["step"] == step)
        assert int(match["step"]) == step and int(match["total"]) == data["total_steps"] == 3
        assert abs(float(match["train"]) - data["train_mean_reward"]) < 0.01
        assert abs(float(match["valid"]) - data["full_valid_mean_reward"]) < 0.01
        assert abs(float(match["parse"]) - data["full_valid_mean_parse_error"]) < 0.01
    assert told[0].data["step"] == 0 and told[0].data["full_valid_mean_reward"] is not None


@check(
    same(
        "events",
        "`train_mean_reward`, `full_valid_mean_reward`, `full_valid_mean_parse_error`, `completion_tokens_mean`",
        "numbers of each step",
    ),
    differs(
        "events",
        "`reasoning_tokens_mean`, `valid_reasoning_tokens_mean`",
        "tokens of thought",
        "those that the chat template marks, such as text in `<think>`; completion tokens, too",
    ),
    differs(
        "events",
        "`mean_unresponsive_rewards`",
        "of rollouts without an answer",
        "the share of rollouts that are `model_failed`",
    ),
)
def a_row_of_numbers_for_each_step(world: World) -> None:
    steps = [data for data in metrics(world) if data["step"] > 0]
    for data in steps:
        assert data["train_mean_reward"] > 0 and data["full_valid_mean_reward"] > 0
        assert 0 <= data["full_valid_mean_parse_error"] < 1 and data["completion_tokens_mean"] > 0
        assert data["reasoning_tokens_mean"] == data["valid_reasoning_tokens_mean"] == 0
        assert 0 <= data["mean_unresponsive_rewards"] < 1
    assert len(steps) == 3


@check(
    same("events", "`scores`", "`train_reward_mean`, `valid_reward_mean`, and `graders[]` with `name` and `type`"),
    same(
        "events",
        "`usage`, `model_graders_token_usage`",
        "`graders[]` with `type`, `model` and tokens of judges; `samples` with reasoning tokens, mean and count",
    ),
    same("events", "`errors.graders[]`", "every kind's mean and count, in training and validation"),
    same(
        "events",
        "`timing`",
        "`step`: `sampling`, `training`, `eval`, `full_iteration`; `graders[]` with `type` and latencies",
    ),
)
def panels_by_grader(world: World) -> None:
    data = metrics(world)[-1]
    graders = {one["name"]: one for one in data["scores"]["graders"]}
    assert {"length", "near", "remote"} <= set(graders)
    assert graders["near"]["type"] == "text_similarity" and graders["near"]["train_reward_mean"] is not None
    assert graders["length"]["valid_reward_mean"] is not None
    usage = {one["name"]: one for one in data["usage"]["graders"]}
    for phase in ("train", "valid"):
        for key in ("prompt_tokens_mean", "prompt_tokens_count", "completion_tokens_mean", "completion_tokens_count"):
            assert usage["near"][f"{phase}_{key}"] == 0, usage["near"]
        assert data["usage"]["samples"][f"{phase}_reasoning_tokens_mean"] == 0
        assert f"{phase}_reasoning_tokens_count" in data["usage"]["samples"]
    assert usage["length"]["type"] == "python" and "model" in usage["length"]
    assert isinstance(data["model_graders_token_usage"], dict)
    errors = {one["name"]: one for one in data["errors"]["graders"]}
    for kind in KINDS:
        for phase in ("train", "valid"):
            assert errors["length"][f"{phase}_{kind}_error_mean"] == 0, (kind, errors["length"])
            assert errors["length"][f"{phase}_{kind}_error_count"] == 0
    assert {"sampling", "training", "eval", "full_iteration"} <= set(data["timing"]["step"])
    timing = {one["name"]: one for one in data["timing"]["graders"]}
    assert timing["remote"]["type"] == "endpoint" and timing["remote"]["train_execution_latency_mean"] > 0
