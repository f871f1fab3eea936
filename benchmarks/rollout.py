"""The rollouts of one training step of the quickstart's agent, its tool taking 0 and 200 ms: ours and TRL's tool loop.

    python -m benchmarks.rollout [--rounds 5]

Both sides roll out the same 8 samples 8 times each with the same warm-started model and the same HTTP endpoint. The
last line on standard output is a JSON object with the ratios of sampled tokens/s.
"""

import argparse
from typing import Any

from benchmarks.agent import ToolServer, agent, warm_started_model
from benchmarks.harness import OURS, ROOT, machine, measure, median_of, report

SAMPLES, ROLLOUTS = 8, 8
DELAYS_MS = (200, 0)
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.rollout"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.rollout"),
}


def configuration(url: str, threads: int) -> dict[str, Any]:
    return {**agent(url, threads), "samples": SAMPLES, "rollouts_per_sample": ROLLOUTS}


def rate(run: dict[str, Any]) -> float:
    """Sampled tokens a second."""
    return run["sampled_tokens"] / run["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warm_started_model()
    result: dict[str, Any] = {"machine": machine(arguments.threads), "cases": {}}
    summary = {}
    for delay_ms in DELAYS_MS:
        with ToolServer(delay_ms / 1000) as url:
            config = configuration(url, arguments.threads)
            runs, result["versions"] = measure(SIDES, config, arguments.rounds)
        for run in (*runs["agentrft"], *runs["trl"]):
            run["tokens_per_s"] = rate(run)
        rates = {name: median_of(of_side, "tokens_per_s") for name, of_side in runs.items()}
        result["cases"][f"{delay_ms} ms"] = {"tokens_per_s": rates, "runs": runs}
        summary[f"ratio_vs_trl_tools_{delay_ms}ms"] = round(rates["agentrft"] / rates["trl"], 2)
        shown = ", ".join(f"{name} {value:.0f} tokens/s" for name, value in rates.items())
        print(f"tool {delay_ms} ms: {shown}", flush=True)
    report("rollout", {**result, "summary": summary})


if __name__ == "__main__":
    main()
