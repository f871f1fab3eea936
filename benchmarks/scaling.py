"""How cost grows with rollouts a sample and with the prompt's length: ours and the peers', as docs/images/scaling.png.

    python -m benchmarks.scaling [--rounds 2]

Updates are of one group, beside TRL's. Rollouts are of one turn from one prompt, beside transformers' `generate`, which
is what TRL generates with where there is no vLLM. Each point is the faster of a few rounds, the two sides in turn.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.engine import built_in_model
from benchmarks.harness import OURS, ROOT, Worker, machine, report
from benchmarks.learner import SIDES as UPDATES
from benchmarks.learner import configuration as update_configuration

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a back end without a display

ROLLOUTS, PROMPTS = (1, 2, 4, 8, 16, 32), (128, 256, 512, 1024, 2048, 4096)
PROMPT, GROUP, SAMPLED = 512, 8, 64
PICTURE = ROOT / "docs" / "images" / "scaling.png"
GENERATION = {
    "agentrft": (OURS, "benchmarks.ours.engine"),
    "generate": (OURS, "benchmarks.peers.transformers_generate"),
}


def fastest(sides: dict[str, tuple[Path, str]], config: dict[str, Any], rounds: int) -> dict[str, float]:
    """Seconds of each side's fastest repetition."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in sides.items():
        with Worker(*side, config) as worker:
            seconds[name] = [worker.run(seed)["seconds"] for seed in range(rounds)]
    return {name: min(of_side) for name, of_side in seconds.items()}


def point(model: Path, threads: int, rounds: int, *, prompt: int, rollouts: int) -> dict[str, Any]:
    """Both measurements of one shape. A group of one has no baseline to learn from, so it has no update."""
    config = update_configuration(model, threads, prompt=prompt, sampled=SAMPLED, rollouts=rollouts)
    generation = {
        "model": str(model),
        "threads": threads,
        "dtype": "bfloat16",
        "temperature": 1.0,
        "top_p": 1.0,
        "prompts": [config["groups"][0]["prompt_ids"]] * rollouts,
        "max_tokens": [SAMPLED] * rollouts,
    }
    generated = fastest(GENERATION, generation, rounds)
    measured = {
        "prompt": prompt,
        "rollouts": rollouts,
        "unique_tokens": prompt + rollouts * SAMPLED,
        "total_tokens": rollouts * (prompt + SAMPLED),
        "rollouts_per_s": {name: rollouts / seconds for name, seconds in generated.items()},
        "update_s": fastest(UPDATES, config, rounds) if rollouts > 1 else {},
    }
    print(measured, flush=True)
    return measured


def draw(by_rollouts: list[dict[str, Any]], by_prompt: list[dict[str, Any]]) -> None:
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7))
    columns = (
        (by_rollouts, "rollouts", f"rollouts a sample (prompt of {PROMPT} tokens)"),
        (by_prompt, "prompt", f"tokens of the prompt ({GROUP} rollouts)"),
    )
    for column, (points, along, label) in enumerate(columns):
        for row, (measure, names, title) in enumerate(
            (("update_s", UPDATES, "seconds an update"), ("rollouts_per_s", GENERATION, "rollouts/s"))
        ):
            axis = axes[row][column]
            for name in names:
                known = [(p[along], p[measure][name]) for p in points if name in p[measure]]
                axis.plot(*zip(*known, strict=True), "o-", label=name)
            axis.set(xscale="log", yscale="log", xlabel=label, ylabel=title)
            axis.set_xticks([p[along] for p in points], [str(p[along]) for p in points])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model, on = built_in_model(), machine(arguments.threads)
    measure = (model, arguments.threads, arguments.rounds)
    by_rollouts = [point(*measure, prompt=PROMPT, rollouts=rollouts) for rollouts in ROLLOUTS]
    by_prompt = [point(*measure, prompt=prompt, rollouts=GROUP) for prompt in PROMPTS]
    draw(by_rollouts, by_prompt)
    first, last = by_rollouts[1], by_rollouts[-1]
    summary = {
        "rollouts": f"{first['rollouts']} to {last['rollouts']}",
        "unique_tokens_grew": round(last["unique_tokens"] / first["unique_tokens"], 2),
        "total_tokens_grew": round(last["total_tokens"] / first["total_tokens"], 2),
        **{f"update_grew_{name}": round(last["update_s"][name] / first["update_s"][name], 2) for name in UPDATES},
    }
    report("scaling", {"machine": on, "by_rollouts": by_rollouts, "by_prompt": by_prompt, "summary": summary})


if __name__ == "__main__":
    main()
