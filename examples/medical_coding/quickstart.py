"""The whole story in one command: data, tool server, warm start, training, and what changed on held-out samples.

    python quickstart.py [--model MODEL] [--start mediocre|good] [--engine YAML] [--cluster YAML]
                         [--seed 0] [--steps 30] [--set NAME=VALUE] [--out runs]

The last line on standard output is one JSON object with the measurements.
"""

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from make_data import write_data

from agentrft.data import load_samples
from agentrft.job import Evaluation, NoProgress, Stop, create_job, evaluate, resolve_reference, run_job
from agentrft.rollout import Rollout
from agentrft.spec import JobSpec, parse_job
from agentrft.store import JobStore, read_rollouts

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent


def main() -> None:
    arguments = _arguments()
    started = time.perf_counter()
    data = HERE / "data"
    print(f"Writing data to {data} ...", flush=True)
    write_data(data, 0)
    server, url = _start_server()
    try:
        spec = _spec(arguments, url)
        result = asyncio.run(_run(spec))
    finally:
        server.terminate()
        server.wait()
    result["minutes"] = round((time.perf_counter() - started) / 60, 1)
    result["peak_memory_gb"] = round(_peak_memory_bytes() / 1e9, 2)
    print(json.dumps(result), flush=True)


class _Lines(NoProgress):
    """One line per step."""

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if phase == "warm_start":
            if step % 10 == 0:
                print(f"warm start, batch {step}: loss {metrics['loss']:.2f}", flush=True)
            return
        text = f"reward {metrics['reward_mean']:.3f}, tool calls {metrics['tool_calls_mean']:.2f}"
        print(f"{phase}, step {step}: {text}, {metrics['step_s']:.0f} s", flush=True)

    def message(self, level: str, text: str) -> None:
        print(text, flush=True)


async def _run(spec: JobSpec) -> dict[str, Any]:
    store, job_id = create_job(spec)
    await run_job(spec, store, job_id, progress=_Lines(), stop=Stop())
    print("Measuring both models without sampling noise (greedy) ...", flush=True)
    greedy = [await _greedy(spec, store, job_id, which) for which in ("0", "best")]
    metrics = store.metrics(job_id)
    validated = [row["reward_mean"] for row in metrics if row["phase"] == "validation"]
    before, after = (row for row in metrics if row["phase"] == "test")
    assert spec.test_file is not None
    answers = {sample.sample_id: sample.item["answer"] for sample in load_samples(spec.test_file)}
    tried, done = (_rollouts(store, job_id, row["step"]) for row in (before, after))
    _show_changes(tried, done, answers)
    picture = _draw(metrics, store.job_folder(job_id) / "reward-curve.png", Path(spec.model).name)
    print(f"Reward curve: {picture}", flush=True)
    return {
        "job": job_id,
        "validation_reward_warm_start": round(validated[0], 4),
        "validation_reward_trained": round(validated[-1], 4),
        "test_reward_warm_start": round(before["reward_mean"], 4),
        "test_reward_trained": round(after["reward_mean"], 4),
        "test_reward_greedy_warm_start": round(greedy[0].summary.reward_mean, 4),
        "test_reward_greedy_trained": round(greedy[1].summary.reward_mean, 4),
        **{f"{name}_warm_start": value for name, value in _exact(tried, answers).items()},
        **{name: value for name, value in _exact(done, answers).items()},
        "tool_calls_warm_start": round(before["tool_calls_mean"], 3),
        "tool_calls_trained": round(after["tool_calls_mean"], 3),
        "steps": max(row["step"] for row in metrics if row["phase"] == "train"),
        "result": after["step"],
    }


async def _greedy(spec: JobSpec, store: JobStore, job_id: str, which: str) -> Evaluation:
    reference = resolve_reference(f"{job_id}@{which}", store)
    quiet = {"progress": NoProgress(), "stop": Stop()}
    return await evaluate(spec, reference, rollouts_per_sample=1, temperature=0.0, split="test", **quiet)


def _rollouts(store: JobStore, job_id: str, step: int) -> list[Rollout]:
    rows = read_rollouts(store.job_folder(job_id) / "rollouts" / f"test-{step:05d}.parquet")
    return [Rollout.from_dict(row["record"]) for row in rows]


def _exact(rollouts: list[Rollout], answers: dict[str, str]) -> dict[str, float]:
    """Shares of exact answers: of all rollouts, and of those whose searches show the right code as their first hit, or
    as a later one. An agent that copies the first line is right in the former and wrong in the latter."""
    right: dict[str, list[bool]] = {"exact_match": [], "exact_given_first": [], "exact_given_later": []}
    for rollout in rollouts:
        answer = answers[rollout.sample_id]
        hits = [line.split()[0] for call in rollout.tool_calls for line in call.output.splitlines() if line.split()]
        is_right = rollout.output_text == answer
        right["exact_match"].append(is_right)
        if answer in hits:
            right["exact_given_first" if hits[0] == answer else "exact_given_later"].append(is_right)
    return {name: round(sum(found) / max(1, len(found)), 4) for name, found in right.items()}


def _show_changes(before: list[Rollout], after: list[Rollout], answers: dict[str, str], most: int = 3) -> None:
    """The test samples whose reward rose most, as the agent worked on them before and after."""
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: (pair[0].reward or 0) - (pair[1].reward or 0))
    print("\nWhat changed on held-out samples:")
    for old, new in pairs[:most]:
        print(f"\n  {old.messages[-1 if len(old.messages) < 2 else 1]['content']}   (right: {answers[old.sample_id]})")
        print(f"    before: {_story(old)}\n    after:  {_story(new)}")
    print(flush=True)


def _story(rollout: Rollout) -> str:
    calls = " -> ".join(call.arguments or "(no valid call)" for call in rollout.tool_calls)
    answer = rollout.output_text or rollout.failure_kind
    return f"{calls or 'no search'} -> {answer}   reward {rollout.reward:.2f}"


def _draw(metrics: list[dict[str, Any]], path: Path, model: str) -> Path:
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for phase, style in (("train", "-"), ("validation", "o-")):
        rows = [row for row in metrics if row["phase"] == phase]
        axes.plot([row["step"] for row in rows], [row["reward_mean"] for row in rows], style, label=phase)
    axes.set(xlabel="step", ylabel="mean reward", title=f"Medical coding, {model}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return path


def _spec(arguments: argparse.Namespace, url: str) -> JobSpec:
    """job.yaml, with the running server's address and what the arguments say."""
    raw = yaml.safe_load((HERE / "job.yaml").read_text(encoding="utf-8"))
    if arguments.model is not None:
        # A folder is given from where the command runs, and not from where job.yaml lies.
        folder = Path(arguments.model).expanduser()
        raw["model"] = str(folder.resolve()) if folder.is_dir() else arguments.model
    inner = raw["method"]["reinforcement"]
    inner["tools"][0]["server_url"] = f"{url}/tools/search"
    if arguments.steps is not None:
        inner["hyperparameters"]["max_steps"] = arguments.steps
    inner["hyperparameters"] |= dict(arguments.set)
    if arguments.engine is not None:
        raw["engine"] = arguments.engine
    if arguments.cluster is not None:
        raw["cluster"] = arguments.cluster
    if arguments.start == "good":
        raw["warm_start"] |= {"training_file": "data/good.jsonl", "n_epochs": 3}
    raw["seed"] = arguments.seed
    raw["output_dir"] = str(arguments.out.resolve())
    return parse_job(raw, folder=HERE, source="job.yaml")


def _start_server() -> tuple[subprocess.Popen[str], str]:
    """The tool server on a free port of loopback, once it says that it is ready."""
    command = [sys.executable, "-u", str(HERE / "server.py"), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE)
    assert server.stderr is not None
    lines = []
    for line in server.stderr:
        lines.append(line)
        if found := re.search(r"http://[0-9.]+:[0-9]+", line):
            print(f"Tool server: {found[0]}", flush=True)
            # What it says from here on must not fill the pipe.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, found[0]
    raise SystemExit("The tool server did not start:\n" + "".join(lines))


def _peak_memory_bytes() -> int:
    """The largest resident size that this process had; the tool server's is not in it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, yaml.safe_load(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's folder or hub id, in place of job.yaml's")
    parser.add_argument(
        "--start",
        choices=["mediocre", "good"],
        default="mediocre",
        help="what the warm start shows: an agent that is mediocre on purpose, or right transcripts",
    )
    parser.add_argument(
        "--engine",
        metavar="YAML",
        type=yaml.safe_load,
        help="what generates, as a job file says it, such as '{type: vllm}'; the embedded engine without it",
    )
    parser.add_argument(
        "--cluster",
        metavar="YAML",
        type=yaml.safe_load,
        help="over how many processes the work is spread, such as '{rollout_workers: 2, learner_workers: 2}'",
    )
    parser.add_argument("--seed", type=int, default=0, help="of training and sampling; the data stay the same")
    parser.add_argument("--steps", type=int, help="fewer or more updates than job.yaml says")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="another hyperparameter than job.yaml's, such as minibatches=1; may be given again",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the job and its results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
