"""Raw generation at 64 concurrent sequences: the embedded engine, transformers' `generate`, and vLLM on the CPU.

    python -m benchmarks.engine [--rounds 5]

All sides get the same token ids and sample exactly as many tokens: once 128 for every prompt, and once, as agents'
turns have it, between 16 and 128. The last line on standard output is a JSON object with the ratios of tokens/s.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, ROOT, machine, measure, median_of, report

SEQUENCES, PROMPT_TOKENS, MOST_TOKENS, FEWEST_TOKENS = 64, (128, 256), 128, 16
IDS = (1000, 40000)
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.engine"),
    "generate": (OURS, "benchmarks.peers.transformers_generate"),
    "vllm_cpu": (ROOT / ".venv-peer-vllm" / "bin" / "python", "benchmarks.peers.vllm.worker"),
}


def configuration(model: Path, threads: int, *, equal_lengths: bool) -> dict[str, Any]:
    source = random.Random(0)
    prompts = [[source.randrange(*IDS) for _ in range(source.randint(*PROMPT_TOKENS))] for _ in range(SEQUENCES)]
    lengths = [MOST_TOKENS if equal_lengths else source.randint(FEWEST_TOKENS, MOST_TOKENS) for _ in prompts]
    return {
        "model": str(model),
        "threads": threads,
        "dtype": "bfloat16",
        "prompts": prompts,
        "max_tokens": lengths,
        "temperature": 1.0,
        "top_p": 1.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of a model; the built-in one if not given")
    arguments = parser.parse_args()
    model = arguments.model or built_in_model()
    name = "engine" if arguments.model is None else f"engine-{model.name}"
    result: dict[str, Any] = {"machine": machine(arguments.threads), "cases": {}}
    summary = {}
    for case, equal_lengths in (("equal lengths", True), ("lengths of turns", False)):
        config = configuration(model, arguments.threads, equal_lengths=equal_lengths)
        runs, versions = measure(SIDES, config, arguments.rounds)
        rates = {name: sum(config["max_tokens"]) / median_of(of_side, "seconds") for name, of_side in runs.items()}
        result["cases"][case] = {"tokens_per_s": {name: round(rate, 1) for name, rate in rates.items()}, "runs": runs}
        result["versions"] = versions
        suffix = "" if equal_lengths else "_lengths_of_turns"
        for peer in ("generate", "vllm_cpu"):
            summary[f"ratio_vs_{peer}{suffix}"] = round(rates["agentrft"] / rates[peer], 2)
        print(f"{case}: " + ", ".join(f"{name} {rate:.0f} tokens/s" for name, rate in rates.items()), flush=True)
    report(name, {**result, "summary": summary})


def built_in_model() -> Path:
    """The folder of SmolLM2-135M, unpacked by `make setup`."""
    from agentrft.models.convert import ensure_smollm2

    return ensure_smollm2()


if __name__ == "__main__":
    main()
