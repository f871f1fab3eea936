"""One update on one group of eight rollouts with a shared prompt: our learner and TRL's step on the same tokens.

    python -m benchmarks.learner [--rounds 5]

The last line on standard output is a JSON object: how many times faster, and the model's FLOP/s over unique tokens as a
share of what this machine's own matrix product of 2048 x 2048 reaches in the same dtype.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from agentrft.learner.flops import update_flops
from agentrft.learner.token_tree import build_token_tree
from agentrft.models.costs import packed_costs
from benchmarks.engine import built_in_model
from benchmarks.harness import OURS, ROOT, machine, measure, median_of, report
from benchmarks.ours.update import as_group

SHAPE = {"prompt": 512, "sampled": 64, "rollouts": 8}
LORA_RANK = 16
IDS = (1000, 40000)
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.update"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.update"),
}


def configuration(model: Path, threads: int, *, prompt: int, sampled: int, rollouts: int) -> dict[str, Any]:
    """One group of random tokens; nothing in an update's cost depends on which they are."""
    source = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [source.randrange(*IDS) for _ in range(count)]

    group = {
        "prompt_ids": tokens(prompt),
        "completions": [tokens(sampled) for _ in range(rollouts)],
        "logprobs": [[-10.0] * sampled for _ in range(rollouts)],
        "rewards": [float(index % 2) for index in range(rollouts)],
    }
    return {
        "model": str(model),
        "threads": threads,
        "dtype": "bfloat16",
        "lora_rank": LORA_RANK,
        "lora_alpha": 2 * LORA_RANK,
        "learning_rate": 1e-5,
        "temperature": 1.0,
        "groups": [group],
    }


def model_flops(config: PretrainedConfig, group: dict[str, Any]) -> float:
    """Of one update over the group's unique tokens; see `update_flops`."""
    tree = build_token_tree(as_group(group).rows)
    sampled = [len(ids) for ids in group["completions"]]
    # Siblings predict their first token from the same place.
    predictions = sum(sampled) - len(sampled) + 1
    return update_flops(packed_costs(config, itemsize=2), tree, predictions, all_weights=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of a model; the built-in one if not given")
    arguments = parser.parse_args()
    model = arguments.model or built_in_model()
    name = "learner" if arguments.model is None else f"learner-{model.name}"
    config = configuration(model, arguments.threads, **SHAPE)
    on = machine(arguments.threads)
    runs, versions = measure(SIDES, config, arguments.rounds)
    # The higher of two measurements, since the machine's rate varies.
    on = max(on, machine(arguments.threads), key=lambda measured: measured["matmul_gflops"][config["dtype"]])
    seconds = {name: median_of(of_side, "seconds") for name, of_side in runs.items()}
    rate = model_flops(AutoConfig.from_pretrained(model), config["groups"][0]) / seconds["agentrft"] / 1e9
    print(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()) + f"; {rate:.0f} GFLOP/s", flush=True)
    summary = {
        "ratio_vs_trl": round(seconds["trl"] / seconds["agentrft"], 2),
        "share_of_matmul_peak": round(rate / on["matmul_gflops"][config["dtype"]], 3),
    }
    report(
        name,
        {"machine": on, "versions": versions, "shape": SHAPE, "seconds": seconds, "runs": runs, "summary": summary},
    )


if __name__ == "__main__":
    main()
