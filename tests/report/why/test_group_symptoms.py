"""What a rollout has in common with the rest of its group is a symptom: it hides nothing that the agent does."""

import numpy as np
import pytest

from agentrft.report.why.behaviour import Behaviour, Kind
from agentrft.report.why.evidence import Evidence
from agentrft.report.why.findings import find

GROUPS, SIZE = 120, 8


@pytest.mark.parametrize("kind", ["group", "source"])
def test_agreement_among_right_answers_does_not_explain_the_habit_that_made_them_right(kind: Kind) -> None:
    random = np.random.default_rng(0)
    count = GROUPS * SIZE
    habit = random.random(count) < 0.7
    right = random.random(count) < np.where(habit, 0.5, 0.25)
    # Right answers are all the same, so that they agree wherever there are two; wrong ones never do.
    several = np.repeat(right.reshape(GROUPS, SIZE).sum(axis=1) > 1, SIZE)
    agrees = right & several
    reward = right.astype(np.float64)
    advantage = (reward.reshape(GROUPS, SIZE) - reward.reshape(GROUPS, SIZE).mean(axis=1, keepdims=True)).ravel()
    evidence = Evidence.of_columns(
        step=np.repeat(np.arange(GROUPS) // 4 + 1, SIZE),
        sample=[f"s{number // SIZE}" for number in range(count)],
        reward=reward,
        advantage=advantage,
        holdouts={},
        amounts={name: np.zeros(count) for name in ("answer_words", "sampled_tokens", "reasoning_tokens", "calls")},
        members={
            Behaviour("has the habit", "source"): np.flatnonzero(habit),
            Behaviour("answers as others", kind): np.flatnonzero(agrees),
        },
        ids=[str(number) for number in range(count)],
    )

    names = [one.name for one in find(evidence).reinforced]

    # Of any other kind it would be the stronger one, and the habit a part of it.
    assert names == (["has the habit", "answers as others"] if kind == "group" else ["answers as others"])
