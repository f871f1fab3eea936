"""Real filings and questions about them in this example's form: what the loaders of TAT-QA and FinQA have in common."""

import argparse
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from examples.finance.calculator import CannotCalculate, calculate
from examples.finance.corpus import COLUMN, Filing, Section
from examples.finance.grader import CONSTANTS, FIGURE, TOLERANCE, numbers
from examples.finance.make_data import Dataset, write_dataset
from examples.finance.questions import LEAST_TURNS, TURNS_WITH_CALCULATOR, Question

# No vowels, so that no code is a word of a question.
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
SNIPPET_WORDS = 8
# An answer may cite so many.
MOST_CITED = 4
# Of the contexts: the rest is for the test.
SHARES = {"demonstrations": 0.2, "train": 0.35, "validation": 0.15}
# Signs as people write calculations, the Unicode ones by their numbers: a times sign, a minus, a dash, a division sign.
SIGNS = str.maketrans("[]{}\u00d7\u2212\u2013\u00f7", "()()*--/", "$%")


def code_of(place: int) -> str:
    """The code of a filing that has no name, from its place in the file: "BBB", "BBC"."""
    letters = ""
    while place or len(letters) < 3:
        place, digit = divmod(place, len(LETTERS))
        letters = LETTERS[digit] + letters
    return letters


def filing_of(code: str, table: Sequence[Sequence[str]], passages: Iterable[str]) -> Filing:
    """A filing of one table and some passages. A search shows pieces of a passage, without its figures."""
    rows = [[" ".join(cell.split()) for cell in row] for row in table]
    body = "\n".join(COLUMN.join(row).strip() for row in rows)
    labels = tuple(dict.fromkeys(row[0] for row in rows if row and row[0]))
    sections = [Section(f"{code}-T1", "Table", "Item 8", labels, body)]
    for place, passage in enumerate(passages, 1):
        text = " ".join(passage.split())
        words = re.sub(FIGURE, "", text).split()
        pieces = [" ".join(words[at : at + SNIPPET_WORDS]) for at in range(0, len(words), SNIPPET_WORDS)]
        sections.append(Section(f"{code}-P{place}", "Passage", "Item 7", tuple(dict.fromkeys(pieces)), text))
    return Filing(code, f"Filing {code}", 0, tuple(sections))


def question_of(
    filing: Filing, text: str, answer: float, unit: str | None, expression: str, kind: str
) -> Question | None:
    """A question whose answer can be reached, or None: where its figures are in no section, or do not give the answer.

    Args:
        unit: as in `Question`; None where the data set does not say, and any will do.
        expression: a calculation over figures of the filing, or one figure.
    """
    written = expression.translate(SIGNS).strip()
    percents = [written] if unit != "percent" else [f"({written}) * 100", written]
    fitting = [one for one in percents if _gives(one, answer)]
    evidence, sources, reads = _evidence(filing, written)
    if not fitting or not sources or len(reads) > MOST_CITED:
        return None
    is_figure = re.fullmatch(FIGURE, written) is not None
    return Question(
        code=filing.code,
        company=filing.company,
        kind=kind,
        text=f"{filing.company}: {text}",
        # More exact than the data set's, which is rounded.
        answer=calculate(fitting[0]),
        unit=unit,
        sources=sources,
        reads=reads,
        evidence=evidence,
        expression=fitting[0],
        wrong_year=_with_a_neighbour(filing, fitting[0], evidence[0]),
        topic=text,
        turns=LEAST_TURNS if is_figure else TURNS_WITH_CALCULATOR,
    )


def write_split(
    out: Path, filings: Sequence[Filing], questions: Sequence[Question], seed: int, *, test_only: bool = False
) -> dict[str, int]:
    """Write a folder as `make_data` does, split by filing; returns how many samples each file has.

    Args:
        test_only: all of it is for the test, and the other files are empty.
    """
    codes = sorted({question.code for question in questions})
    random.Random(seed).shuffle(codes)
    split: dict[str, list[Question]] = {}
    start = 0
    for name, share in SHARES.items():
        end = start if test_only else start + round(share * len(codes))
        split[name] = [question for question in questions if question.code in set(codes[start:end])]
        start = end
    split["test"] = [question for question in questions if question.code in set(codes[start:])]
    write_dataset(out, Dataset(list(filings), split), random.Random(f"{seed}/script"))
    return {name: len(found) for name, found in split.items()}


def _gives(expression: str, answer: float) -> bool:
    try:
        value = calculate(expression)
    except CannotCalculate:
        return False
    # Answers are rounded, mostly to two decimals.
    return abs(value - answer) <= max(TOLERANCE * abs(answer), 0.006)


def _evidence(filing: Filing, written: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The figures of an expression as they are written, the sections that may be cited, and those that are enough.

    Nothing of it where some figures are in no section.

    Constants of the expression, such as the 2 of a mean, are no evidence. One section that has all figures is enough.
    """
    held = {section.id: set(numbers(section.body)) for section in filing.sections}
    figures = {text: float(text.replace(",", "")) for text in re.findall(FIGURE, written)}
    wanted = {text: value for text, value in figures.items() if any(value in one for one in held.values())}
    if not wanted or any(value not in CONSTANTS for text, value in figures.items() if text not in wanted):
        return (), (), ()
    whole = [one for one, found in held.items() if found.issuperset(wanted.values())]
    some = [one for one, found in held.items() if found & set(wanted.values())]
    return tuple(wanted), tuple(whole or some), tuple(whole[:1] or some)


def _with_a_neighbour(filing: Filing, expression: str, figure: str) -> str:
    """The expression with another figure of the same row, as an agent has it that reads the wrong year."""
    for line in filing.sections[0].body.splitlines():
        found = re.findall(FIGURE, line)
        others = [one for one in found if one != figure]
        if figure in found and others:
            return expression.replace(figure, others[0])
    return expression


def import_file(
    description: str | None, file_help: str, load: Callable[[Path], tuple[list[Filing], list[Question]]]
) -> None:
    """The command of a loader: reads the file that it names, and writes the data."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help=file_help)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-only", action="store_true", help="all of it is for the test")
    arguments = parser.parse_args()
    filings, questions = load(arguments.file)
    print(write_split(arguments.out, filings, questions, arguments.seed, test_only=arguments.test_only))
