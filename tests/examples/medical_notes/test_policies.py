"""What the score pays for: reading, leaving out what is denied, few turns; not places in a list, and not guessing."""

from pathlib import Path

import pytest

from examples.medical_notes.make_data import read_rows
from examples.medical_notes.policies import all_policies, play, score_table
from examples.medical_notes.search import SearchTool


@pytest.fixture(scope="module")
def rewards(data: Path, tool: SearchTool) -> dict[str, float]:
    train, test = read_rows(data / "train.jsonl"), read_rows(data / "test.jsonl")[:120]
    means: dict[str, float] = {}
    for name, policy in all_policies(train).items():
        scores = [rollout.reward or 0.0 for rollout in play(policy, test, tool)]
        means[name] = sum(scores) / len(scores)
    return means


@pytest.mark.parametrize(
    "shortcut",
    [
        "first hit of what is to be coded",
        "first hit of all that is mentioned",
        "every hit of what is to be coded",
        "the whole note as the query, every hit",
        "no search, the most common codes",
    ],
)
def test_a_shortcut_scores_no_better_than_the_demonstrations(rewards: dict[str, float], shortcut: str) -> None:
    assert rewards[shortcut] < rewards["the demonstrations' agent"]


def test_there_is_more_to_reach_than_the_demonstrations_show(rewards: dict[str, float]) -> None:
    best = rewards["searches side by side, reads (oracle)"]
    assert best > rewards["the demonstrations' agent"] + 0.1
    assert best > rewards["the same, codes negations too"] + 0.1


def test_a_policy_plays_the_same_each_time(small_data: Path, tool: SearchTool) -> None:
    train, test = read_rows(small_data / "train.jsonl"), read_rows(small_data / "test.jsonl")[:20]
    for policy in all_policies(train).values():
        assert play(policy, test, tool) == play(policy, test, tool)


def test_the_table_has_a_line_for_each_policy(small_data: Path, tool: SearchTool) -> None:
    rows = read_rows(small_data / "test.jsonl")[:10]
    table = score_table(read_rows(small_data / "train.jsonl"), rows, tool)
    assert all(f"| {name} |" in table for name in all_policies(rows))
