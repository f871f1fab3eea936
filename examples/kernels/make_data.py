"""Write the data of this example: `python -m examples.kernels.make_data --difficulty small`.

Four files; no family of operator graphs is in two of them, so what is asked in one differs by more than its constants
from what is asked in another. The same seed gives the same bytes. As a script it also prints what scripted policies get
on test samples, measured here and now; that takes gcc and bubblewrap, and minutes.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from examples.kernels.demonstrations import demonstrate
from examples.kernels.graphs import DIFFICULTIES, Graph, draw_families
from examples.kernels.prompts import prompt_messages

SIZES = {"train": 200, "validation": 100, "test": 200, "demonstrations": 160}


def write_data(out: Path, seed: int, difficulty: str = "small") -> None:
    """Write the files into `out`, which is created.

    Args:
        difficulty: "small", "medium" or "large", as `graphs.draw` says.

    Raises:
        ValueError: there is no such difficulty.
    """
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, found {difficulty!r}")
    generator = random.Random(f"{difficulty} {seed}")
    graphs = draw_families(difficulty, sum(SIZES.values()), generator)
    out.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, size in SIZES.items():
        rows = [_row(graph, generator if name == "demonstrations" else None) for graph in graphs[start : start + size]]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        start += size


def _row(graph: Graph, script: random.Random | None) -> dict[str, Any]:
    messages = prompt_messages(graph) if script is None else demonstrate(graph, script)
    return {"messages": messages, "family": graph.family, "graph": graph.as_json()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("data"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="small")
    parser.add_argument(
        "--samples", type=int, default=40, help="test samples for the table of policies; 0 for no table"
    )
    arguments = parser.parse_args()
    write_data(arguments.out, arguments.seed, arguments.difficulty)
    if arguments.samples:
        # Here, because it starts the bench, which writing the data does without.
        from examples.kernels.policies import print_table

        print_table(arguments.out, arguments.samples)


if __name__ == "__main__":
    main()
