"""FinQA's questions over pages of real reports in this example's form, from a file that you have.

    python -m examples.finance.finqa train.json --out data_finqa

The data set is on https://github.com/czyssrs/FinQA (Chen et al. 2021, arXiv:2109.00122; MIT). Each page becomes a
filing: its table, and its text in passages of some sentences. A program such as `subtract(5829, 5735),
divide(#0, 5735)` becomes an expression; those with table operations or yes-or-no answers are left out.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.finance.corpus import Filing
from examples.finance.imported import code_of, filing_of, import_file, question_of
from examples.finance.questions import Question

OPERATIONS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "exp": "**"}
STEP = re.compile(r"(\w+)\(([^,()]+), ?([^,()]+)\)")
CONSTANT = re.compile(r"const_(m?)([0-9.]+)")
SENTENCES = 4


def load_finqa(path: Path) -> tuple[list[Filing], list[Question]]:
    """The filings, one for each page, and the questions whose program is arithmetic over figures of the page.

    Raises:
        OSError, ValueError: the file cannot be read, or is no JSON.
        KeyError: it is not of FinQA's form.
    """
    filings: dict[str, Filing] = {}
    questions: dict[str, Question] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        passages = [*_passages(row["pre_text"]), *_passages(row["post_text"])]
        page = json.dumps([row["table"], passages])
        filing = filings.setdefault(page, filing_of(code_of(len(filings)), row["table"], passages))
        question = _question(filing, row["qa"])
        if question is not None:
            questions[question.text] = question
    return list(filings.values()), list(questions.values())


def expression_of(program: str) -> str | None:
    """A program as an expression; None where it has operations over whole rows, comparisons, or no known form."""
    steps = STEP.findall(program)
    if not steps or STEP.sub("", program).strip(" ,"):
        return None
    done: list[str] = []
    for operation, *arguments in steps:
        if operation not in OPERATIONS:
            return None
        left, right = (_argument(one.strip(), done) for one in arguments)
        if left is None or right is None:
            return None
        done.append(f"({left} {OPERATIONS[operation]} {right})")
    return done[-1]


def _argument(text: str, done: Sequence[str]) -> str | None:
    if reference := re.fullmatch(r"#([0-9]+)", text):
        place = int(reference[1])
        return done[place] if place < len(done) else None
    if constant := CONSTANT.fullmatch(text):
        return f"(0 - {constant[2]})" if constant[1] else constant[2]
    if re.fullmatch(r"-?[0-9][0-9,.]*%?", text):
        return f"({text[:-1]} / 100)" if text.endswith("%") else text
    return None


def _question(filing: Filing, raw: dict[str, Any]) -> Question | None:
    answer, expression = raw["exe_ans"], expression_of(raw["program"])
    if expression is None or isinstance(answer, bool) or not isinstance(answer, int | float):
        return None
    # The page says the unit, the data set does not: a percentage's answer is a fraction, an amount's is in its table's.
    return question_of(filing, raw["question"], float(answer), None, expression, "arithmetic")


def _passages(sentences: Sequence[str]) -> list[str]:
    kept = [one for one in sentences if len(one.strip()) > 1]
    return [" ".join(kept[at : at + SENTENCES]) for at in range(0, len(kept), SENTENCES)]


if __name__ == "__main__":
    import_file(__doc__, "train.json, dev.json or test.json of FinQA", load_finqa)
