"""Questions over a report, with their answers and what they take: look-ups, changes, shares, ratios and sums.

A question asks in words that tell a row from its namesakes in other tables. Its answer is computed by the calculator
that the agent has, from figures as they are printed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from examples.finance.calculator import calculate, shown
from examples.finance.filings import Level, Report, Table

SYSTEM_PROMPT = (
    "Answer from the filing: search, cat the section, calculate. End with two lines:\nANSWER: number unit\nSOURCE: id"
)
# How often each kind is asked.
KINDS = {"lookup": 6, "change": 5, "percent": 4, "share": 2, "ratio": 2, "sum": 3, "restated": 3}
LEAST_TURNS, TURNS_WITH_CALCULATOR = 3, 4


@dataclass(frozen=True)
class Question:
    """A question with its answer, and the ways to get it wrong that a scripted agent takes.

    Attributes: answer, unit: the number, and "thousand", "million", "billion", "percent" or "" for none; None where
        any will do.
        sources: ids of the sections that may be cited.
        reads: those of them that are enough.
        evidence: the figures that it takes, as they are printed there.
        expression: what to calculate; a single figure for a look-up.
        wrong_year: the same with other columns of the table, or of a restated figure the one that the table has.
        topic: words that a good search has: the title of the section, and the row.
        turns: that it takes: one to search, one to read, one to calculate where there is something, one to answer.
    """

    code: str
    company: str
    kind: str
    text: str
    answer: float
    unit: str | None
    sources: tuple[str, ...]
    reads: tuple[str, ...]
    evidence: tuple[str, ...]
    expression: str
    wrong_year: str
    topic: str
    turns: int

    @property
    def calculates(self) -> bool:
        return self.turns > LEAST_TURNS

    def row(self) -> dict[str, Any]:
        """The sample: its prompt, and what graders and measures read as `item`."""
        names = ("answer", "unit", "sources", "evidence", "turns", "kind", "expression", "code", "company")
        values = {name: getattr(self, name) for name in names}
        lists = {name: list(values[name]) for name in ("sources", "evidence")}
        return {"messages": prompt_messages(self.text), **values, **lists}


def prompt_messages(text: str) -> list[dict[str, Any]]:
    """What the agent is given."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def said_answer(number: str, unit: str | None) -> str:
    """The answer line of a number as it was read or calculated."""
    return f"ANSWER: {number} {'%' if unit == 'percent' else unit or ''}".rstrip()


def ask(report: Report, level: Level, n: int, draw: random.Random) -> list[Question]:
    """So many different questions over one report."""
    makers: dict[str, Callable[[Report, Level, random.Random], Question | None]] = {
        "lookup": _lookup,
        "change": _change,
        "percent": _percent,
        "share": _share,
        "ratio": _ratio,
        "sum": _sum,
        "restated": _restated,
    }
    asked: dict[str, Question] = {}
    while len(asked) < n:
        (kind,) = draw.choices(list(KINDS), weights=list(KINDS.values()))
        question = makers[kind](report, level, draw)
        if question is not None and question.text not in asked:
            asked[question.text] = question
    return list(asked.values())


def _lookup(report: Report, level: Level, draw: random.Random) -> Question:
    table = draw.choice(report.tables)
    label, year = draw.choice(list(table.figures)), draw.choice(table.years)
    as_first = ", as first reported" if _is_restated(report, table, label, year) else ""
    other = draw.choice([one for one in table.years if one != year])
    text = f"What was {table.name(label)} in {year}{as_first}?"
    figures = table.figures[label]
    return _question(report, "lookup", text, [table], [figures[year]], "{0}", [figures[other]], table.unit, label)


def _change(report: Report, level: Level, draw: random.Random) -> Question | None:
    return _between_years(report, draw, "change", "By how much did {} change from {} to {}?", "{0} - {1}")


def _percent(report: Report, level: Level, draw: random.Random) -> Question | None:
    form = "By what percentage did {} change from {} to {}?"
    return _between_years(report, draw, "percent", form, "({0} - {1}) / {1} * 100", unit="percent")


def _between_years(
    report: Report, draw: random.Random, kind: str, form: str, expression: str, unit: str | None = None
) -> Question | None:
    """Of one row, from an earlier year to a later one. The slip that a scripted agent makes is to swap the two."""
    table = draw.choice(report.tables)
    label = draw.choice(list(table.figures))
    old, new = sorted(draw.sample(table.years, 2))
    figures = table.figures[label]
    evidence = [figures[new], figures[old]]
    text = form.format(table.name(label), old, new)
    if any(_is_restated(report, table, label, year) for year in (old, new)):
        return None
    unit = table.unit if unit is None else unit
    return _question(report, kind, text, [table], evidence, expression, evidence[::-1], unit, label)


def _share(report: Report, level: Level, draw: random.Random) -> Question | None:
    form, expression = "What percentage of {1} was {0} in {2}?", "{0} / {1} * 100"
    return _of_two_rows(report, level, draw, "share", form, expression, "percent")


def _ratio(report: Report, level: Level, draw: random.Random) -> Question | None:
    return _of_two_rows(report, level, draw, "ratio", "What was the ratio of {} to {} in {}?", "{0} / {1}", "")


def _sum(report: Report, level: Level, draw: random.Random) -> Question | None:
    return _of_two_rows(report, level, draw, "sum", "What was the sum of {} and {} in {}?", "{0} + {1}", None)


def _of_two_rows(
    report: Report, level: Level, draw: random.Random, kind: str, form: str, expression: str, unit: str | None
) -> Question | None:
    """Two rows in one year: of one table, or where the level has it of two tables in the same unit."""
    first = draw.choice(report.tables)
    same = [one for one in report.tables if one.unit == first.unit and one.title != first.title]
    second = draw.choice(same) if level.across and same and draw.random() < 0.5 else first
    one, other = draw.choice(list(first.figures)), draw.choice(list(second.figures))
    if second is first and one == other:
        return None
    year, wrong = draw.sample(first.years, 2)
    if any(_is_restated(report, table, label, year) for table, label in ((first, one), (second, other))):
        return None
    names = first.name(one), second.name(other)
    tables = [first] if second is first else [first, second]
    evidence = [first.figures[one][year], second.figures[other][year]]
    slip = [first.figures[one][wrong], second.figures[other][wrong]]
    text = form.format(*names, year)
    return _question(report, kind, text, tables, evidence, expression, slip, first.unit if unit is None else unit, one)


def _restated(report: Report, level: Level, draw: random.Random) -> Question:
    note = draw.choice(report.restatements)
    text = f"What was {note.table.name(note.label)} in {note.year}, as restated?"
    # The slip is to give the figure of the table.
    slip = note.table.figures[note.label][note.year]
    return Question(
        code=report.filing.code,
        company=report.filing.company,
        kind="restated",
        text=_addressed(report, text),
        answer=calculate(note.figure),
        unit=note.table.unit,
        sources=(note.id,),
        reads=(note.id,),
        evidence=(note.figure,),
        expression=note.figure,
        wrong_year=slip,
        topic=f"restated {note.table.name(note.label)}",
        turns=LEAST_TURNS,
    )


def _question(
    report: Report,
    kind: str,
    text: str,
    tables: list[Table],
    evidence: list[str],
    expression: str,
    slip: list[str],
    unit: str,
    label: str,
) -> Question:
    filled, wrong = expression.format(*evidence), expression.format(*slip)
    topic = f"{tables[0].title} {label}"
    return Question(
        code=report.filing.code,
        company=report.filing.company,
        kind=kind,
        text=_addressed(report, text),
        answer=float(shown(calculate(filled))),
        unit=unit,
        sources=tuple(table.id for table in tables),
        reads=tuple(table.id for table in tables),
        evidence=tuple(evidence),
        expression=filled,
        wrong_year=wrong,
        topic=topic,
        turns=LEAST_TURNS if kind == "lookup" else TURNS_WITH_CALCULATOR,
    )


def _is_restated(report: Report, table: Table, label: str, year: int) -> bool:
    """Whether a note gives this figure anew: without saying which of the two is meant it must not be asked for."""
    return any((one.table.title, one.label, one.year) == (table.title, label, year) for one in report.restatements)


def _addressed(report: Report, text: str) -> str:
    return f"{report.filing.company} ({report.filing.code}): {text}"
