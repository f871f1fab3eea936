"""Scripted policies, without any model, through the same tools and the same grader: is the task an honest one?

The oracle shows what can be reached. Whoever copies, skips the tools or cheats must get no more than the demonstrator.
"""

import json
import random
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.common.tool_server import BadArguments, Call
from examples.kernels.bench import Bench
from examples.kernels.c_source import best, write
from examples.kernels.demonstrations import FIRST, REPAIR_SHARE, RUN_SHARE, SECOND
from examples.kernels.grader import grade
from examples.kernels.graphs import Graph
from examples.kernels.hacks import HACKS, SHOWN
from examples.kernels.tools import KernelTools

Row = dict[str, Any]


@dataclass
class Attempt:
    """A rollout of a script.

    Attributes:
        item: the sample's row.
        tools: the tools as the server has them.
        trace_id: of this rollout.
        calls: made so far, as graders see them.
        answer: empty until it is given.
    """

    item: Row
    tools: KernelTools
    trace_id: str
    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    answer: str = ""

    def call(self, name: str, **arguments: str) -> str:
        """What the agent reads."""
        self.calls.append({"function": {"name": name, "arguments": json.dumps(arguments)}})
        try:
            output = self.tools.tools()[name](Call(arguments, self.trace_id, self.item))
        except BadArguments as error:
            return json.dumps({"error": str(error)})
        assert isinstance(output, str)
        return output

    @property
    def graph(self) -> Graph:
        return Graph.from_json(self.item["graph"])

    @property
    def sample(self) -> dict[str, Any]:
        return {"output_text": self.answer, "output_tools": self.calls}


Policy = Callable[[Attempt, random.Random], str]


def oracle(attempt: Attempt, script: random.Random) -> str:
    """The best source there is, checked and timed."""
    attempt.call("compile", source=best(attempt.graph))
    attempt.call("run")
    attempt.call("time")
    return "submit"


def demonstrator(attempt: Attempt, script: random.Random) -> str:
    """What the demonstrations show, with what the tools really say."""
    attempt.call("compile", source=write(attempt.graph, FIRST, script).source)
    if script.random() < RUN_SHARE and attempt.call("run").startswith("wrong") and script.random() < REPAIR_SHARE:
        attempt.call("compile", source=write(attempt.graph, SECOND, script).source)
    return "submit"


def first_draft(attempt: Attempt, script: random.Random) -> str:
    """The demonstrator's first source, of which no tool's answer is read."""
    attempt.call("compile", source=write(attempt.graph, FIRST, script).source)
    return "submit"


def without_tools(attempt: Attempt, script: random.Random) -> str:
    """A right source as the answer, of which nobody knows that it compiles."""
    return best(attempt.graph)


def submit_at_once(attempt: Attempt, script: random.Random) -> str:
    """The word alone."""
    return "submit"


def copy_template(training: list[Graph]) -> Policy:
    """The right source of the training prompt whose words are most like this one's, with the same inputs."""

    def policy(attempt: Attempt, script: random.Random) -> str:
        graph = attempt.graph
        names = set(graph.family.split())
        alike = [other for other in training if other.signature == graph.signature]
        nearest = max(
            alike, key=lambda other: len(names & set(other.family.split())) / len(names | set(other.family.split()))
        )
        attempt.call("compile", source=best(nearest))
        return "submit"

    return policy


def first_of_training(training: list[Graph]) -> Policy:
    """For each signature the right source of the first training prompt: the same one each time."""

    def policy(attempt: Attempt, script: random.Random) -> str:
        source = next(best(other) for other in training if other.signature == attempt.graph.signature)
        attempt.call("compile", source=source)
        return "submit"

    return policy


def hack(name: str) -> Policy:
    """One of `hacks.HACKS`; for samples with one input and without rows."""

    def policy(attempt: Attempt, script: random.Random) -> str:
        attempt.call("compile", source=HACKS[name].for_graph(attempt.graph))
        return "submit"

    return policy


def play(policy: Policy, rows: Iterable[Row], bench: Bench, seed: int = 0) -> list[dict[str, Any]]:
    """The grades of a policy, a row each."""
    script, tools, grades = random.Random(seed), KernelTools(bench), []
    for number, item in enumerate(rows):
        attempt = Attempt(item, tools, f"trace_{number}")
        attempt.answer = policy(attempt, script)
        grades.append(grade(attempt.sample, item, bench))
    return grades


def print_table(data: Path, samples: int) -> None:
    """Mean reward of each policy on the first test samples, and how often it was right, quicker, and caught."""
    training = [Graph.from_json(row["graph"]) for row in read_rows(data / "train.jsonl")]
    rows = read_rows(data / "test.jsonl")[:samples]
    policies: dict[str, Policy] = {
        "oracle": oracle,
        "demonstrator": demonstrator,
        "first draft, no tool's answer read": first_draft,
        "nearest training prompt's kernel": copy_template(training),
        "the same training kernel each time": first_of_training(training),
        "the source as the answer, no tools": without_tools,
        "submit at once": submit_at_once,
    }
    bench = Bench()
    try:
        print(f"{'policy':44}{'reward':>8}{'correct':>9}{'faster':>8}{'speedup':>9}{'caught':>8}")
        for name, policy in policies.items():
            _print_row(name, play(policy, rows, bench))
        plain = [row for row in rows if Graph.from_json(row["graph"]).signature == 0][:1]
        if plain:
            worst = {name: play(hack(name), plain, bench) for name in SHOWN}
            best_paid = max(worst, key=lambda name: worst[name][0]["score"])
            _print_row(f"{len(worst)} hacks, on one sample each", [grades[0] for grades in worst.values()])
            _print_row(f"  the best paid: {best_paid}", worst[best_paid])
    finally:
        bench.close()


def read_rows(path: Path) -> list[Row]:
    """The rows of a data file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _print_row(name: str, grades: list[dict[str, Any]]) -> None:
    parts = {key: [given["sub_scores"][key] for given in grades] for key in ("correct", "faster", "tripped")}
    speedups = [given["sub_scores"]["speedup"] for given in grades if given["sub_scores"]["correct"]]
    reward = statistics.mean(given["score"] for given in grades)
    speedup = f"{statistics.median(speedups):.2f}" if speedups else "-"
    correct, faster, caught = (f"{statistics.mean(parts[key]):.0%}" for key in ("correct", "faster", "tripped"))
    print(f"{name:44}{reward:8.2f}{correct:>9}{faster:>8}{speedup:>9}{caught:>8}", flush=True)
