"""Without a model: the oracle is far ahead, and neither copying nor skipping the tools pays."""

import statistics
from pathlib import Path

from examples.kernels.bench import Bench
from examples.kernels.graphs import Graph
from examples.kernels.policies import (
    Policy,
    copy_template,
    demonstrator,
    first_draft,
    first_of_training,
    oracle,
    play,
    read_rows,
    submit_at_once,
    without_tools,
)

SAMPLES = 6


def test_nobody_who_copies_or_skips_the_tools_gets_more_than_the_demonstrator(bench: Bench, data: Path) -> None:
    rows = read_rows(data / "test.jsonl")[:SAMPLES]
    training = [Graph.from_json(row["graph"]) for row in read_rows(data / "train.jsonl")]

    def reward(policy: Policy) -> float:
        return statistics.mean(given["score"] for given in play(policy, rows, bench))

    shown = reward(demonstrator)
    assert reward(oracle) > shown + 0.1
    assert reward(first_draft) < shown
    assert reward(copy_template(training)) < shown
    assert reward(first_of_training(training)) < shown
    assert reward(without_tools) == reward(submit_at_once) == 0
