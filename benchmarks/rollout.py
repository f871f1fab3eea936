"""The rollouts of one training step of the quickstart's agent, its tool taking 0 and 200 ms: ours and TRL's tool loop.

    python -m benchmarks.rollout [--rounds 5] [--samples 8] [--delays-ms 200 0]
    python -m benchmarks.rollout --context-tokens 4000 --samples 2 --delays-ms 0 --rounds 2

Both sides roll out the same 8 samples 8 times each with the same warm-started model and the same HTTP endpoint. With
`--context-tokens` as many tokens of earlier notes stand in front of each sample. The last line on standard output is a
JSON object with the ratios of sampled tokens/s.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.agent import ToolServer, agent, warm_started_model
from benchmarks.harness import OURS, ROOT, machine, measure, median_of, report

ROLLOUTS = 8
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.rollout"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.rollout"),
}


def configuration(url: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    config = {**agent(url, arguments.threads), "samples": arguments.samples, "rollouts_per_sample": ROLLOUTS}
    if arguments.context_tokens:
        config["data"] = str(with_earlier_notes(Path(config["data"]), arguments.context_tokens, folder))
        config["max_context_tokens"] += arguments.context_tokens
    return config


def with_earlier_notes(data: Path, tokens: int, folder: Path) -> Path:
    """The rows of a file, each behind so many tokens of notes of the others."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(warm_started_model())
    notes = [tokenizer(f"{row['messages'][-1]['content']}\n")["input_ids"] for row in rows]
    made = []
    for number, row in enumerate(rows):
        earlier: list[int] = []
        for note in itertools.cycle(notes[number + 1 :] + notes[:number]):
            if len(earlier) >= tokens:
                break
            earlier += note
        system, user = row["messages"]
        behind = f"Earlier notes:\n{tokenizer.decode(earlier[:tokens])}\n\nToday's note:\n{user['content']}"
        made.append({**row, "messages": [system, {**user, "content": behind}]})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def rate(run: dict[str, Any]) -> float:
    """Sampled tokens a second."""
    return run["sampled_tokens"] / run["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--delays-ms", type=int, nargs="+", default=[200, 0])
    parser.add_argument("--context-tokens", type=int, default=0)
    arguments = parser.parse_args()
    warm_started_model()
    told = {name: value for name, value in vars(arguments).items() if name != "rounds"}
    result: dict[str, Any] = {"machine": machine(arguments.threads), "arguments": told, "cases": {}}
    summary = {}
    for delay_ms in arguments.delays_ms:
        with ToolServer(delay_ms / 1000) as url, tempfile.TemporaryDirectory() as folder:
            config = configuration(url, arguments, Path(folder))
            runs, result["versions"] = measure(SIDES, config, arguments.rounds)
        for run in (*runs["agentrft"], *runs["trl"]):
            run["tokens_per_s"] = rate(run)
        rates = {name: median_of(of_side, "tokens_per_s") for name, of_side in runs.items()}
        result["cases"][f"{delay_ms} ms"] = {"tokens_per_s": rates, "runs": runs}
        summary[f"ratio_vs_trl_tools_{delay_ms}ms"] = round(rates["agentrft"] / rates["trl"], 2)
        shown = ", ".join(f"{name} {value:.0f} tokens/s" for name, value in rates.items())
        print(f"tool {delay_ms} ms: {shown}", flush=True)
    name = f"rollout-{arguments.context_tokens}" if arguments.context_tokens else "rollout"
    report(name, {**result, "summary": summary})


if __name__ == "__main__":
    main()
