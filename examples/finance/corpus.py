"""Filings as the tools serve them: sections with an id, a title, and the text that an agent reads.

A corpus is a file of JSON lines, one filing each. What makes one, a generator or a loader of real filings, writes this
form, and everything else reads it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

COLUMN = " | "


@dataclass(frozen=True)
class Section:
    """A table or a passage of a filing.

    Attributes:
        id: unique in the corpus, such as "BRK-T2": the filing's code, T for a table or P for a passage, its place.
        title: what it is called, without numbers of its content.
        item: the part of the report that it stands in, such as "Item 7".
        labels: names of a table's rows; of a passage a few of its words. A search shows these, and no figures.
        body: what is read under the header.
    """

    id: str
    title: str
    item: str
    labels: tuple[str, ...]
    body: str

    @property
    def text(self) -> str:
        """What an agent reads: a header of id and title, then the body."""
        return f"{self.id} {self.title}\n{self.body}"


@dataclass(frozen=True)
class Filing:
    """One report of one company.

    Attributes:
        code: a few capital letters, the same in the ids of all its sections.
        company: its name.
        year: the fiscal year that it reports on; 0 where that is not known.
    """

    code: str
    company: str
    year: int
    sections: tuple[Section, ...]


def table_body(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table as text: a line of column names, then a line for each row, with the cells between bars."""
    lines = [("", columns), *rows]
    return "\n".join(COLUMN.join([label, *cells]).strip() for label, cells in lines)


def read_table(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """The columns, and the cells of each row by its label, of a table's text under its header line."""
    _, head, *rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    return head[1:], {label: cells for label, *cells in rows}


def save_corpus(path: Path, filings: Iterable[Filing]) -> None:
    """Write a corpus; the same filings give the same bytes."""
    path.write_text("".join(json.dumps(asdict(filing)) + "\n" for filing in filings), encoding="utf-8")


def load_corpus(path: Path) -> list[Filing]:
    """Read what `save_corpus` wrote."""
    filings: list[Filing] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        sections = [Section(**{**one, "labels": tuple(one["labels"])}) for one in value["sections"]]
        filings.append(Filing(**{**value, "sections": tuple(sections)}))
    return filings
