"""This checkout beside an earlier commit: the engine, an update, and a step's rollouts, in turn on one machine.

    python -m benchmarks.commits COMMIT [--rounds 5] [--only engine update rollout]

Both run in this checkout's environment, on the same model, prompts and seeds. Where tokens are sampled, seconds are
those of a token. The last line on standard output is a JSON object with how many times as fast as the commit this
checkout is.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import engine, learner, rollout
from benchmarks.agent import ToolServer, agent, warm_started_model
from benchmarks.harness import OURS, ROOT, Worker, machine, median_of, report, take_turns


def engine_config(threads: int, _: str) -> dict[str, Any]:
    return engine.configuration(engine.built_in_model(), threads, equal_lengths=False)


def update_config(threads: int, _: str) -> dict[str, Any]:
    return learner.configuration(engine.built_in_model(), threads, **learner.SHAPE)


def rollout_config(threads: int, url: str) -> dict[str, Any]:
    warm_started_model()
    return {**agent(url, threads), "samples": 8, "rollouts_per_sample": rollout.ROLLOUTS}


CASES: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "engine": engine_config,
    "update": update_config,
    "rollout": rollout_config,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what this checkout is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    on = machine(arguments.threads)
    ratios: dict[str, float] = {}
    runs: dict[str, Any] = {}
    with checkout(arguments.commit) as earlier, ToolServer(0.0) as url:
        for case in arguments.only:
            config = CASES[case](arguments.threads, url)
            with ExitStack() as stack:
                workers = {
                    name: stack.enter_context(Worker(OURS, f"benchmarks.ours.{case}", config, root))
                    for name, root in (("this", ROOT), ("earlier", earlier))
                }
                runs[case] = take_turns(workers, arguments.rounds)
            for run in (*runs[case]["this"], *runs[case]["earlier"]):
                run["seconds_each"] = run["seconds"] / run.get("sampled_tokens", 1)
            this, before = (median_of(runs[case][name], "seconds_each") for name in ("this", "earlier"))
            ratios[f"{case}_times_as_fast"] = round(before / this, 3)
            print(f"{case}: {before / this:.2f} times as fast as {arguments.commit}", flush=True)
    report("commits", {"machine": on, "commit": arguments.commit, "runs": runs, "summary": ratios})


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


if __name__ == "__main__":
    main()
