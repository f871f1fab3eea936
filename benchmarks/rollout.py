"""The rollouts of one training step of the quickstart's agent, its tool taking 0 and 200 ms: ours and TRL's tool loop.

    python -m benchmarks.rollout [--rounds 5]

Both sides roll out the same 8 samples 8 times each with the same warm-started model and the same HTTP endpoint. The
last line on standard output is a JSON object with the ratios of sampled tokens/s.
"""

import argparse
from typing import Any

from benchmarks.agent import ToolServer, job, warm_started_model
from benchmarks.harness import OURS, ROOT, Worker, machine, median_of, report, take_turns

SAMPLES, ROLLOUTS = 8, 8
DELAYS_MS = (200, 0)
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.rollout"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.rollout"),
}


def configuration(url: str, threads: int) -> dict[str, Any]:
    """The quickstart's own limits and tool."""
    raw = job()
    reinforcement = raw["method"]["reinforcement"]
    (tool,), hyperparameters = reinforcement["tools"], reinforcement["hyperparameters"]
    return {
        "model": str(warm_started_model()),
        "threads": threads,
        "dtype": "bfloat16",
        "data": raw["training_file"],
        "samples": SAMPLES,
        "rollouts_per_sample": ROLLOUTS,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens_per_turn": hyperparameters["max_tokens_per_turn"],
        "max_context_tokens": hyperparameters["max_context_tokens"],
        "max_episode_steps": reinforcement["max_episode_steps"],
        "tool": {
            "name": tool["name"], "description": tool["description"], "parameters": tool["parameters"], "url": url,
        },
    }  # fmt: skip


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
            with Worker(*SIDES["agentrft"], config) as ours, Worker(*SIDES["trl"], config) as trl:
                runs = take_turns({"agentrft": ours, "trl": trl}, arguments.rounds)
                result["versions"] = {"agentrft": ours.versions, "trl": trl.versions}
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
