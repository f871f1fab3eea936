"""What a step's summary says of each grader."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from agentrft.graders import Grade, GraderUse
from agentrft.report import summary
from agentrft.report.summary import summarise
from agentrft.rollout import Rollout, Turn
from agentrft.rollout.record import ToolCallRecord


def rollout(reward: float | None, grade: Grade | None, **uses: GraderUse) -> Rollout:
    outcome = "graded" if reward is not None else "infra_failed"
    return Rollout("t", 1, "s", 1, 0, outcome, [], [], reward=reward, grade=grade, graders=dict(uses))  # type: ignore[arg-type]


def test_each_grader_has_its_latency_its_tokens_and_its_faults() -> None:
    fast, slow = GraderUse({}, {"total_tokens": 5}, 0.5), GraderUse({"timeout": 1}, {"total_tokens": 7}, 1.5)
    failed = GraderUse({"timeout": 4}, {"total_tokens": 1})
    found = summarise([rollout(1.0, Grade(1.0), a=fast, b=slow), rollout(None, None, a=fast, b=failed)])
    assert found.graders == {
        "a": {"latency_mean_s": 0.5, "usage": {"total_tokens": 10}, "faults": {}, "grades": 2, "unparsed": 0},
        "b": {
            "latency_mean_s": 1.5,
            "usage": {"total_tokens": 8},
            "faults": {"timeout": 5},
            "grades": 1,
            "unparsed": 0,
        },
    }
    assert found.judge_tokens == {"total_tokens": 18}, "a judge that failed took tokens, too"


def test_an_answer_that_is_no_json_where_its_grader_reads_json_is_told_from_one_that_lacks_a_key() -> None:
    use = GraderUse({"missing_sample_key": 1}, {}, 0.1)
    unparsed = rollout(0.0, Grade(0.0, missing=["sample.output_json.k"]), a=use)
    lacking = replace(unparsed, output_text='{"other": 1}')
    uncalled = rollout(0.0, Grade(0.0, missing=["sample.output_tools[0].function.name"]), a=use)
    panel = summarise([unparsed, lacking, uncalled]).graders["a"]
    assert (panel["faults"], panel["unparsed"]) == ({"missing_sample_key": 3}, 1)


def test_graders_inside_a_multi_pass_by_their_own_thresholds() -> None:
    graded = [rollout(score, Grade(score, sub_scores={"a": score, "b": score})) for score in (0.2, 0.5, 1.0)]
    found = summarise([*graded, rollout(None, None)], sub_thresholds={"a": 0.5, "b": 1.0, "c": 1.0}).sub_passes
    assert found == {
        "a": {"passed": 2, "failed": 1},
        "b": {"passed": 1, "failed": 2},
        "c": {"passed": 0, "failed": 0},
    }


def test_the_agents_tokens_are_counted_with_those_of_its_reasoning() -> None:
    one = rollout(1.0, Grade(1.0))
    one.turns = [Turn([1] * 9, [2] * 5, [0.0] * 5, "stop", 0, reasoning_tokens=3), Turn([1], [2], [0.0], "stop", 0)]
    found = summarise([one, rollout(1.0, Grade(1.0)), rollout(None, None)])
    assert found.agent_usage == {"turns": 2, "prompt_tokens": 10, "completion_tokens": 6, "reasoning_tokens": 3}
    assert (found.reasoning_tokens_mean, found.sampled_tokens_mean) == (1.5, 3.0)
    record = one.as_dict()
    del record["turns"][0]["reasoning_tokens"]
    assert Rollout.from_dict(record).reasoning_tokens == 0, "older records have none"


def test_rollouts_that_were_stored_before_graders_were_told_apart_are_still_summed() -> None:
    record = rollout(1.0, Grade(1.0, usage={"total_tokens": 5}, latency_s=0.5)).as_dict()
    del record["graders"], record["started_at"], record["grade"]["parts"]
    found = summarise([Rollout.from_dict(record)])
    assert (found.graders, found.judge_tokens, found.grader_latency_mean_s) == ({}, {"total_tokens": 5}, 0.5)


def test_a_summary_goes_through_its_rollouts_a_fixed_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    mean = summary.mean

    def counted(values: Sequence[float]) -> float:
        passes.append(len(values))
        return mean(values)

    monkeypatch.setattr(summary, "mean", counted)
    taken = []
    for number in (4, 400):
        passes.clear()
        summarise([rollout(float(place % 2), Grade(1.0)) for place in range(number)])
        taken.append(len(passes))
    assert taken[0] == taken[1]


def test_a_record_is_what_its_fields_are_and_shares_nothing_with_them() -> None:
    one = rollout(1.0, Grade(1.0, sub_scores={"a": 1.0}), a=GraderUse({"timeout": 1}, {}, 0.1))
    one.messages = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    call = ToolCallRecord("call_1", "lookup", "{}", "found", "ok", 0.5, 1)
    one.turns = [Turn([1, 2], [3, 4], [-0.5, -0.25], "stop", 3, tool_calls=[call], versions=[[3, 1], [4, 1]])]
    record = one.as_dict()
    assert record == asdict(one) and list(record) == list(asdict(one))
    assert list(record["turns"][0]) == list(asdict(one)["turns"][0])
    one.turns[0].sampled_logprobs.append(0.0)
    one.turns[0].versions[0][1] = 9
    one.messages[0]["content"] = ""
    assert Rollout.from_dict(record) != one and record["turns"][0]["versions"] == [[3, 1], [4, 1]]
    assert len(record["turns"][0]["sampled_logprobs"]) == 2 and record["messages"][0]["content"]
