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

SAMPLES = 10


def test_nobody_who_copies_or_skips_the_tools_gets_more_than_the_demonstrator(bench: Bench, data: Path) -> None:
    rows = read_rows(data / "test.jsonl")[:SAMPLES]
    training = [Graph.from_json(row["graph"]) for row in read_rows(data / "train.jsonl")]

    def mean(policy: Policy, part: str) -> float:
        return statistics.mean(given["sub_scores"][part] for given in play(policy, rows, bench))

    # Of what is right, since how quick it is differs from run to run.
    shown = mean(demonstrator, "correct")
    assert mean(oracle, "correct") == 1 > shown > mean(first_draft, "correct")
    assert mean(copy_template(training), "correct") < shown
    assert mean(first_of_training(training), "correct") < shown
    for policy in (without_tools, submit_at_once):
        assert [given["score"] for given in play(policy, rows, bench)] == [0] * SAMPLES
