"""TAT-QA's questions over real annual reports in this example's form.

    python -m examples.finance.tatqa tatqa_dataset_dev.json --out data_tatqa
    python -m examples.finance.tools --data data_tatqa

The data set is on https://github.com/NExTplusplus/TAT-QA (Zhu et al. 2021, arXiv:2105.07624; CC BY 4.0). Each
context, a table with its passages, becomes a filing. Kept are questions whose answer is a number that can be
calculated from figures of the filing; spans of words, lists, counts and years are left out.
"""

import json
import re
from pathlib import Path
from typing import Any

from examples.finance.corpus import Filing
from examples.finance.grader import FIGURE
from examples.finance.imported import code_of, filing_of, import_file, question_of
from examples.finance.questions import Question

# A number as reports print it, with what may stand around it.
NUMBER = re.compile(
    rf"[$€£]? ?(?P<minus>-?)(?P<bracket>\(?)[$€£]? ?(?P<figure>{FIGURE})\)? ?(?P<unit>%|[a-z]*)\)?", re.I
)
YEAR = re.compile(r"(19|20)[0-9]{2}")
UNITS = {"thousand", "million", "billion", "percent"}


def load_tatqa(path: Path) -> tuple[list[Filing], list[Question]]:
    """The filings, and the questions that have a number for an answer.

    Raises:
        OSError, ValueError: the file cannot be read, or is no JSON.
        KeyError: it is not of TAT-QA's form.
    """
    filings: list[Filing] = []
    questions: dict[str, Question] = {}
    for place, context in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        passages = sorted(context["paragraphs"], key=lambda one: one["order"])
        filing = filing_of(code_of(place), context["table"]["table"], [one["text"] for one in passages])
        filings.append(filing)
        found = (_question(filing, one) for one in context["questions"])
        questions |= {one.text: one for one in found if one is not None}
    return filings, list(questions.values())


def _question(filing: Filing, raw: dict[str, Any]) -> Question | None:
    scale = raw["scale"] or None
    if raw["answer_type"] == "arithmetic":
        value = _number(str(raw["answer"]))
        return None if value is None else question_of(
            filing, raw["question"], value[0], scale, raw["derivation"], "arithmetic"
        )  # fmt: skip
    if raw["answer_type"] != "span" or len(raw["answer"]) != 1 or YEAR.fullmatch(raw["answer"][0]):
        return None
    value = _number(raw["answer"][0])
    if value is None:
        return None
    number, figure, unit = value
    expression = figure if number >= 0 else f"-{figure}"
    return question_of(filing, raw["question"], number, unit or scale, expression, "span")


def _number(text: str) -> tuple[float, str, str | None] | None:
    """The value of a printed number, its figure, and its unit where it stands beside it; None of anything else."""
    found = NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    unit = found["unit"].lower()
    unit = "percent" if unit == "%" else unit
    if unit and unit not in UNITS:
        return None
    value = float(found["figure"].replace(",", ""))
    return (-value if found["minus"] or found["bracket"] else value), found["figure"], unit or None


if __name__ == "__main__":
    import_file(__doc__, "tatqa_dataset_dev.json, or another of its files with answers", load_tatqa)
