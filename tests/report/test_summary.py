"""What a step's summary says of each grader."""

from agentrft.graders import Grade, GraderUse
from agentrft.report.summary import summarise
from agentrft.rollout import Rollout


def rollout(reward: float | None, grade: Grade | None, **uses: GraderUse) -> Rollout:
    outcome = "graded" if reward is not None else "infra_failed"
    return Rollout("t", 1, "s", 1, 0, outcome, [], [], reward=reward, grade=grade, graders=dict(uses))  # type: ignore[arg-type]


def test_each_grader_has_its_latency_its_tokens_and_its_faults() -> None:
    fast, slow = GraderUse({}, {"total_tokens": 5}, 0.5), GraderUse({"timeout": 1}, {"total_tokens": 7}, 1.5)
    failed = GraderUse({"timeout": 4}, {"total_tokens": 1})
    found = summarise([rollout(1.0, Grade(1.0), a=fast, b=slow), rollout(None, None, a=fast, b=failed)])
    assert found.graders == {
        "a": {"latency_mean_s": 0.5, "usage": {"total_tokens": 10}, "faults": {}},
        "b": {"latency_mean_s": 1.5, "usage": {"total_tokens": 8}, "faults": {"timeout": 5}},
    }
    assert found.judge_tokens == {"total_tokens": 18}, "a judge that failed took tokens, too"


def test_rollouts_that_were_stored_before_graders_were_told_apart_are_still_summed() -> None:
    record = rollout(1.0, Grade(1.0, usage={"total_tokens": 5}, latency_s=0.5)).as_dict()
    del record["graders"], record["started_at"], record["grade"]["parts"]
    found = summarise([Rollout.from_dict(record)])
    assert (found.graders, found.judge_tokens, found.grader_latency_mean_s) == ({}, {"total_tokens": 5}, 0.5)
