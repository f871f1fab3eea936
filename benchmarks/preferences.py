"""One update of direct preference optimisation on the same pairs: our learner and TRL's step, from the same adapters.

    python -m benchmarks.preferences [--rounds 3]

In float32 the losses are compared, in bfloat16 the seconds. The last line on standard output is a JSON object.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from benchmarks.engine import built_in_model
from benchmarks.harness import OURS, ROOT, machine, measure, median_of, report

PAIRS, PROMPT_TOKENS, ANSWER_TOKENS, LORA_RANK, BETA = 4, 256, (24, 64), 16, 0.3
IDS = (1000, 40000)
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.preferences"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.preferences"),
}


def configuration(model: Path, threads: int, dtype: str) -> dict[str, Any]:
    """Pairs of random tokens, with answers of different lengths."""
    source = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [source.randrange(*IDS) for _ in range(count)]

    pairs = [
        {
            "prompt_ids": tokens(PROMPT_TOKENS),
            "chosen_ids": tokens(source.randint(*ANSWER_TOKENS)),
            "rejected_ids": tokens(source.randint(*ANSWER_TOKENS)),
        }
        for _ in range(PAIRS)
    ]
    return {
        "model": str(model),
        "threads": threads,
        "dtype": dtype,
        "lora_rank": LORA_RANK,
        "lora_alpha": 2 * LORA_RANK,
        "learning_rate": 1e-5,
        "beta": BETA,
        "pairs": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model = built_in_model()
    on = machine(arguments.threads)
    exact, versions = measure(SIDES, configuration(model, arguments.threads, "float32"), 1)
    losses = {name: median_of(of_side, "loss") for name, of_side in exact.items()}
    margins = {name: median_of(of_side, "margin") for name, of_side in exact.items()}
    runs, _ = measure(SIDES, configuration(model, arguments.threads, "bfloat16"), arguments.rounds)
    seconds = {name: median_of(of_side, "seconds") for name, of_side in runs.items()}
    print(f"losses {losses}, margins {margins}, seconds {seconds}", flush=True)
    summary = {
        "loss_difference": abs(losses["agentrft"] - losses["trl"]),
        "margin_difference": abs(margins["agentrft"] - margins["trl"]),
        "ratio_vs_trl": round(seconds["trl"] / seconds["agentrft"], 2),
    }
    details = {"losses": losses, "margins": margins, "seconds": seconds, "exact": exact, "runs": runs}
    report("preferences", {"machine": on, "versions": versions, **details, "summary": summary})


if __name__ == "__main__":
    main()
