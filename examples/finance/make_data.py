"""Write the data of this example: `python -m examples.finance.make_data --out DIR --seed 0 --difficulty small`.

`corpus.jsonl` has all filings, which the tools serve; `train.jsonl`, `validation.jsonl`, `test.jsonl` and
`demonstrations.jsonl` ask about different companies each. The same seed gives the same bytes. What is printed is what
scripted policies get of the test samples, under both graders.
"""

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.finance import grader, grader_naive
from examples.finance.corpus import Filing, save_corpus
from examples.finance.demonstrations import demonstrate
from examples.finance.filings import LEVELS, company_names, write_report
from examples.finance.policies import mean_score, roll_out, scripted_policies
from examples.finance.questions import Question, ask
from examples.finance.tools import CORPUS, HERE, make_tools

# Companies of each file, and questions about each of them.
SIZES = {"train": (50, 4), "validation": (30, 4), "test": (60, 4), "demonstrations": (60, 3)}


@dataclass(frozen=True)
class Dataset:
    """The filings, and the questions of each file."""

    filings: list[Filing]
    questions: dict[str, list[Question]]


def make_dataset(seed: int, difficulty: str = "small") -> Dataset:
    """The filings and questions of a seed, at a level of `filings.LEVELS`."""
    level, draw = LEVELS[difficulty], random.Random(f"{seed}/{difficulty}")
    names = iter(company_names(sum(companies for companies, _ in SIZES.values()), draw))
    filings: list[Filing] = []
    questions: dict[str, list[Question]] = {}
    for name, (companies, each) in SIZES.items():
        reports = [write_report(*next(names), level, draw) for _ in range(companies)]
        filings += [report.filing for report in reports]
        questions[name] = [question for report in reports for question in ask(report, level, each, draw)]
        draw.shuffle(questions[name])
    # So that a filing's place among the others says nothing about its file.
    draw.shuffle(filings)
    return Dataset(filings, questions)


def write_data(out: Path, seed: int, difficulty: str = "small") -> None:
    """Write the files into `out`, which is created."""
    write_dataset(out, make_dataset(seed, difficulty), random.Random(f"{seed}/script"))


def write_dataset(out: Path, data: Dataset, script: random.Random) -> None:
    """Write filings, samples, and demonstrations by the scripted agent."""
    out.mkdir(parents=True, exist_ok=True)
    save_corpus(out / CORPUS, data.filings)
    tools = make_tools(data.filings)
    for name, questions in data.questions.items():
        rows = [question.row() for question in questions]
        if name == "demonstrations":
            for row, question in zip(rows, questions, strict=True):
                row["messages"] = demonstrate(question, tools, script).messages
        _write(out / f"{name}.jsonl", rows)


def policy_table(data: Dataset) -> str:
    """What scripted policies get of the test samples, under the hardened and the naive grader."""
    tools, test = make_tools(data.filings), data.questions["test"]
    lines = [f"{'policy, on ' + str(len(test)) + ' test samples':38}hardened  naive"]
    for name, policy in scripted_policies(data.questions["train"]).items():
        rollouts = roll_out(policy, test, tools)
        scores = [mean_score(rollouts, test, grade) for grade in (grader.grade, grader_naive.grade)]
        lines.append(f"{name:38}{scores[0]:8.3f}  {scores[1]:5.3f}")
    return "\n".join(lines)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", choices=list(LEVELS), default="small")
    arguments = parser.parse_args()
    write_data(arguments.out, arguments.seed, arguments.difficulty)
    print(policy_table(make_dataset(arguments.seed, arguments.difficulty)))


if __name__ == "__main__":
    main()
