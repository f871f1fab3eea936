"""Worker: one update of the learner on given groups."""

import time
from typing import Any

from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow
from benchmarks.ours.model import frozen_model
from benchmarks.protocol import Repetition, serve

UPDATES = 5


def as_group(group: dict[str, Any]) -> TrainingGroup:
    """A log-probability of None marks a token that was not sampled: a tool's result."""
    prompt, rows = group["prompt_ids"], []
    for index, (ids, logprobs) in enumerate(zip(group["completions"], group["logprobs"], strict=True)):
        sampled = [(len(prompt) + place, value) for place, value in enumerate(logprobs) if value is not None]
        positions, values = [place for place, _ in sampled], [value for _, value in sampled]
        rows.append(TrainingRow([*prompt, *ids], positions, values, index))
    return TrainingGroup(rows, group["rewards"])


def load(config: dict[str, Any]) -> Repetition:
    """A repetition is whole updates: trees, passes, loss, gradients, AdamW, and the new weights for the engine.

    Several, because one is short: a peer's may be twenty times as long. Their mean is what counts.
    """
    groups = [as_group(group) for group in config["groups"]]
    longest = max(len(row.token_ids) for group in groups for row in group.rows)
    policy = Policy(frozen_model(config, longest), lora_rank=config["lora_rank"], seed=0)
    learner = Learner(
        policy,
        algorithm="grpo",
        learning_rate=config["learning_rate"],
        temperature=config["temperature"],
        max_grad_norm=1.0,
    )

    def repeat(_seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        *_, metrics = [learner.update(learner.plan(groups)) for _ in range(UPDATES)]
        seconds = (time.perf_counter() - started) / UPDATES
        return {
            "seconds": seconds,
            "unique_tokens": metrics.unique_tokens,
            "total_tokens": metrics.total_tokens,
            "loss": metrics.loss,
            "grad_norm": metrics.grad_norm,
        }

    return repeat


if __name__ == "__main__":
    serve(load, ["agentrft", "torch", "transformers", "peft"])
