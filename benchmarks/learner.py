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

from benchmarks.engine import built_in_model
from benchmarks.harness import OURS, ROOT, Worker, machine, median_of, report, take_turns

PROMPT_TOKENS, SAMPLED_TOKENS, ROLLOUTS, LORA_RANK = 512, 64, 8, 16
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
        "model": str(model), "threads": threads, "dtype": "bfloat16", "lora_rank": LORA_RANK,
        "lora_alpha": 2 * LORA_RANK, "learning_rate": 1e-5, "temperature": 1.0, "groups": [group],
    }  # fmt: skip


def model_flops(config: PretrainedConfig, *, prompt: int, sampled: int, rollouts: int) -> float:
    """Of one update over unique tokens: forward, and backward to the inputs; frozen weights get no gradient.

    Linear layers and the head take 2 FLOPs a weight and token in each direction; attention 4 a visible pair, head and
    dimension forward and 8 backward. Adapters, norms and the optimizer are not counted.
    """
    width, inner = config.hidden_size, config.intermediate_size
    head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    per_layer = width * head_dim * (2 * heads + 2 * kv_heads) + 3 * width * inner
    unique = prompt + rollouts * sampled
    pairs = prompt * (prompt + 1) / 2 + rollouts * (sampled * prompt + sampled * (sampled + 1) / 2)
    linear = 4 * per_layer * config.num_hidden_layers * unique
    attention = 12 * heads * head_dim * config.num_hidden_layers * pairs
    # Siblings predict their first token from the same place.
    head = 4 * width * config.vocab_size * (rollouts * (sampled - 1) + 1)
    return linear + attention + head


def measure(config: dict[str, Any], rounds: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """All runs by side, and the versions of what ran."""
    with Worker(*SIDES["agentrft"], config) as ours, Worker(*SIDES["trl"], config) as trl:
        return take_turns({"agentrft": ours, "trl": trl}, rounds), {"agentrft": ours.versions, "trl": trl.versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of a model; the built-in one if not given")
    arguments = parser.parse_args()
    model = arguments.model or built_in_model()
    shape = {"prompt": PROMPT_TOKENS, "sampled": SAMPLED_TOKENS, "rollouts": ROLLOUTS}
    config = configuration(model, arguments.threads, **shape)
    on = machine(arguments.threads)
    runs, versions = measure(config, arguments.rounds)
    seconds = {name: median_of(of_side, "seconds") for name, of_side in runs.items()}
    rate = model_flops(AutoConfig.from_pretrained(model), **shape) / seconds["agentrft"] / 1e9
    print(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()) + f"; {rate:.0f} GFLOP/s", flush=True)
    summary = {
        "ratio_vs_trl": round(seconds["trl"] / seconds["agentrft"], 2),
        "share_of_matmul_peak": round(rate / on["matmul_gflops"][config["dtype"]], 3),
    }
    report(
        "learner",
        {"machine": on, "versions": versions, "shape": shape, "seconds": seconds, "runs": runs, "summary": summary},
    )


if __name__ == "__main__":
    main()
