"""Worker: one update towards preferences on given pairs, from given adapters."""

import time
from typing import Any

import torch

from agentrft.learner import Pair, Policy, SupervisedLearner, TrainingRow
from benchmarks.ours.model import frozen_model
from benchmarks.protocol import Repetition, adapter_values, serve


def as_pair(pair: dict[str, list[int]]) -> Pair:
    prompt = pair["prompt_ids"]

    def row(answer: list[int]) -> list[TrainingRow]:
        positions = list(range(len(prompt), len(prompt) + len(answer)))
        return [TrainingRow([*prompt, *answer], positions, [0.0] * len(answer), 0)]

    return Pair(row(pair["chosen_ids"]), row(pair["rejected_ids"]))


def load(config: dict[str, Any]) -> Repetition:
    pairs = [as_pair(pair) for pair in config["pairs"]]
    longest = max(len(row.token_ids) for pair in pairs for row in pair.rows)
    policy = Policy(frozen_model(config, longest), lora_rank=config["lora_rank"], seed=0, generates=False)
    start = policy.master_state()
    moved = {name: torch.tensor(adapter_values(name, master.numel())).view_as(master) for name, master in start.items()}

    def repeat(_seed: int) -> dict[str, Any]:
        learner = SupervisedLearner(policy, learning_rate=config["learning_rate"], max_grad_norm=1.0)
        learner.keep_start(start)
        policy.load_master_state(moved)
        started = time.perf_counter()
        # As TRL does it: the reference is computed in the step. In a job it is computed once for all epochs.
        reference = learner.answer_logprobs(pairs)
        found = learner.preference_update(pairs, reference, config["beta"])
        return {"seconds": time.perf_counter() - started, "loss": found.loss, "margin": found.margin}

    return repeat


if __name__ == "__main__":
    serve(load, ["agentrft", "torch", "transformers", "peft"])
