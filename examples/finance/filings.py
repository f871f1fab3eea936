"""Generated filings with the structure of annual reports, of companies that do not exist.

Each has tables (Item 7, Item 8, and segments) and passages. What makes them hard to answer from by position: the
sections stand in another order in each filing, the years of a table run either way, rows have names close to each
other and stand in another order, the same row stands in several tables with other figures, one table is in thousands
and the next in millions, discussions give adjusted figures, and a note restates a figure that the table still shows
as it was.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from examples.finance.corpus import Filing, Section, table_body

UNITS = ("thousand", "million")
NAME_STARTS = ("Bral", "Cor", "Dun", "Fel", "Gar", "Hol", "Kes", "Lor", "Mar", "Nov", "Ost", "Pel", "Quil")
NAME_STARTS += ("Ros", "Sor", "Tav", "Ulm", "Vel", "Wex", "Yar", "Zan", "Bex", "Cal", "Dor", "Fen")
NAME_ENDS = ("dane", "mont", "vik", "tora", "sen", "bury", "lan", "rix", "gate", "holm", "nova", "well")
BUSINESSES = ("Foods", "Energy", "Systems", "Retail", "Health", "Motors", "Mining", "Paper", "Media", "Tools", "Marine")
SEGMENTS = ("Retail", "Industrial", "Consumer", "Export", "Services", "Medical", "Wholesale", "Online", "Licensing")
REGIONS = ("Europe", "North America", "Latin America", "Asia", "Africa", "Middle East", "Oceania", "Nordic countries")
REASONS = ("a change in accounting policy", "an error in a subsidiary", "a disposal", "a new lease standard")
CAUSES = ("higher prices", "a new plant", "weak demand", "a strike at a supplier", "late orders", "two acquisitions")

# Rows of a kind of table, and between which shares of the company's size their figures lie.
RESULTS = {
    "Net revenue": (0.9, 1.0),
    "Cost of revenue": (0.45, 0.65),
    "Other revenue": (0.08, 0.2),
    "Research expense": (0.08, 0.2),
    "Selling expense": (0.1, 0.25),
    "Operating expense": (0.2, 0.4),
    "Operating income": (0.1, 0.3),
    "Interest expense": (0.08, 0.12),
    "Income taxes": (0.08, 0.14),
    "Net income": (0.08, 0.2),
}
BALANCE = {
    "Cash": (0.1, 0.3),
    "Receivables": (0.1, 0.3),
    "Inventories": (0.1, 0.35),
    "Current assets": (0.4, 0.7),
    "Total assets": (0.8, 1.6),
    "Payables": (0.1, 0.25),
    "Current liabilities": (0.2, 0.5),
    "Long-term debt": (0.2, 0.7),
    "Total liabilities": (0.5, 0.9),
    "Equity": (0.2, 0.7),
}
CASH_FLOWS = {
    "Operating cash flow": (0.1, 0.35),
    "Investing cash flow": (0.08, 0.3),
    "Financing cash flow": (0.08, 0.25),
    "Capital spending": (0.08, 0.25),
    "Debt repaid": (0.08, 0.2),
    "Dividends paid": (0.08, 0.15),
    "Share buybacks": (0.08, 0.15),
}
SEGMENT = {
    "Net revenue": (0.2, 0.5),
    "Cost of revenue": (0.1, 0.3),
    "Operating income": (0.08, 0.15),
    "Capital spending": (0.08, 0.12),
    "Total assets": (0.2, 0.6),
    "Receivables": (0.08, 0.15),
}
# Figures that are closer than this could be taken for one another by a grader with a tolerance.
LEAST_DIFFERENCE = 0.02


@dataclass(frozen=True)
class Level:
    """How large filings are.

    Attributes:
        rows, columns, tables, discussions: the least and the most of them, in a table and in a filing.
        size: of a company, its revenue in thousands, the least and the most.
        filler: sentences of a discussion that are about nothing asked for.
        across: whether questions are also asked over two tables.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    tables: tuple[int, int]
    discussions: tuple[int, int]
    size: tuple[int, int]
    filler: int
    across: bool


LEVELS = {
    "small": Level((4, 5), (2, 3), (3, 4), (1, 1), (20_000, 99_000), 0, False),
    "medium": Level((5, 7), (3, 3), (4, 6), (2, 3), (20_000, 990_000), 2, False),
    "large": Level((6, 10), (3, 3), (6, 9), (3, 5), (200_000, 9_000_000), 5, True),
}


@dataclass(frozen=True)
class Table:
    """A table with its figures.

    Attributes:
        about: how a question tells its rows from equally named ones of other tables, with the row's name for `{}`.
        unit: "thousand" or "million".
        figures: by row and column, as they are printed.
    """

    title: str
    item: str
    about: str
    unit: str
    years: tuple[int, ...]
    figures: dict[str, dict[int, str]]
    id: str = ""

    def name(self, label: str) -> str:
        """How a question or a passage names a row."""
        return self.about.format(label if label in REGIONS else label.lower())

    def body(self) -> str:
        """What is read of it."""
        rows = [(label, [cells[year] for year in self.years]) for label, cells in self.figures.items()]
        return table_body([str(year) for year in self.years], rows)


@dataclass(frozen=True)
class Restatement:
    """A note that gives one figure of a table anew."""

    table: Table
    label: str
    year: int
    figure: str
    id: str = ""


@dataclass
class Report:
    """A filing with what its questions are made of."""

    filing: Filing
    tables: list[Table] = field(default_factory=list[Table])
    restatements: list[Restatement] = field(default_factory=list[Restatement])


def number(figure: str) -> float:
    """The value of a printed figure, in its table's unit."""
    return float(figure.replace(",", ""))


def company_names(n: int, draw: random.Random) -> list[tuple[str, str]]:
    """So many different codes of three capital letters, each with a company's name."""
    found: dict[str, str] = {}
    while len(found) < n:
        start, end, business = draw.choice(NAME_STARTS), draw.choice(NAME_ENDS), draw.choice(BUSINESSES)
        stem = start + end
        code = (stem[0] + "".join(draw.sample(stem[1:], 2))).upper()
        name = f"{stem} {business}"
        if code not in found and name not in found.values():
            found[code] = name
    return list(found.items())


def write_report(code: str, company: str, level: Level, draw: random.Random) -> Report:
    """One filing."""
    year, size = draw.randint(2012, 2024), draw.randint(*level.size)
    years = [year - back for back in range(draw.randint(*level.columns))]
    tables = list(_tables(size, years, level, draw))
    restated = _restated(draw.choice(tables), draw)
    parts: list[Table | Restatement | tuple[str, str]] = [*tables, restated]
    for topic in draw.sample(tables, min(len(tables), draw.randint(*level.discussions))):
        parts.append((f"Discussion of {topic.title.lower()}", _discussion(topic, level, draw)))
    draw.shuffle(parts)
    report, sections = Report(Filing(code, company, year, ())), list[Section]()
    for place, part in enumerate(parts, 1):
        match part:
            case Table():
                table = Table(**{**vars(part), "id": f"{code}-T{place}"})
                report.tables.append(table)
                title = f"{table.title}, in {table.unit}s"
                sections.append(Section(table.id, title, table.item, tuple(table.figures), table.body()))
            case Restatement():
                note = Restatement(part.table, part.label, part.year, part.figure, f"{code}-P{place}")
                report.restatements.append(note)
                sections.append(_note(note, draw))
            case (title, body):
                labels = tuple(dict.fromkeys(label for one in tables for label in one.figures if label in body))
                sections.append(Section(f"{code}-P{place}", title, "Item 7", labels, body))
    report.filing = Filing(code, company, year, tuple(sections))
    return report


def _tables(size: int, years: Sequence[int], level: Level, draw: random.Random) -> Iterator[Table]:
    n_tables = draw.randint(*level.tables)
    results = ("Results of operations", "Item 8", "{}", RESULTS)
    others = [
        ("Pro forma results", "Item 7", "pro forma {}", RESULTS),
        ("Balance sheet", "Item 8", "{}", BALANCE),
        ("Cash flows", "Item 8", "{}", CASH_FLOWS),
        ("Revenue by region", "Item 7", "revenue from {}", {region: (0.1, 0.3) for region in REGIONS}),
    ]
    for name in draw.sample(SEGMENTS, max(1, n_tables // 3)):
        others.append((f"{name} segment", "Item 7", "{} of the " + name + " segment", SEGMENT))
    for title, item, about, shares in [results, *draw.sample(others, min(len(others), n_tables - 1))]:
        unit = draw.choice(UNITS)
        order = list(years) if draw.random() < 0.5 else list(reversed(years))
        labels = draw.sample(list(shares), min(len(shares), draw.randint(*level.rows)))
        figures = _figures({label: shares[label] for label in labels}, size, order, unit, draw)
        yield Table(title, item, about, unit, tuple(order), figures)


def _figures(
    shares: dict[str, tuple[float, float]], size: int, years: Sequence[int], unit: str, draw: random.Random
) -> dict[str, dict[int, str]]:
    """Figures that all differ, so that a wrong row or year is a wrong answer."""
    figures: dict[str, dict[int, str]] = {label: {} for label in shares}
    taken: list[float] = []
    for label, (low, high) in shares.items():
        for year in years:
            figure = ""
            while not figure or any(_alike(number(figure), one) for one in taken):
                figure = _printed(size * draw.uniform(low, high) * draw.uniform(0.8, 1.2), unit)
            figures[label][year] = figure
            taken.append(number(figure))
    return figures


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= LEAST_DIFFERENCE * max(one, other)


def _printed(thousands: float, unit: str) -> str:
    return f"{thousands:,.0f}" if unit == "thousand" else f"{thousands / 1000:,.1f}"


def _restated(table: Table, draw: random.Random) -> Restatement:
    label, year = draw.choice(list(table.figures)), draw.choice(table.years)
    return Restatement(table, label, year, _moved(table.figures[label][year], draw))


def _note(note: Restatement, draw: random.Random) -> Section:
    name = note.table.name(note.label)
    body = f"After {draw.choice(REASONS)}, {name} of {note.year} is restated to {note.figure} {note.table.unit}."
    return Section(note.id, f"Note: restated {name}", "Item 8", (note.label,), body)


def _discussion(table: Table, level: Level, draw: random.Random) -> str:
    """Sentences about a row of a table, with figures that are not those of the table: adjusted ones."""
    label = draw.choice(list(table.figures))
    new, old = draw.sample(table.years, 2)
    adjusted = [_moved(table.figures[label][year], draw) for year in (new, old)]
    sentences = [
        f"Before currency effects, {table.name(label)} was {adjusted[0]} {table.unit} in {new}, after {adjusted[1]} "
        f"{table.unit} in {old}, for {draw.choice(CAUSES)}."
    ]
    for _ in range(level.filler):
        region, sites = draw.choice(REGIONS), draw.randint(3, 40)
        sentences.append(f"Demand in {region} followed {draw.choice(CAUSES)}, with {sites} new sites in {new}.")
    draw.shuffle(sentences)
    return " ".join(sentences)


def _moved(figure: str, draw: random.Random) -> str:
    """A figure that is some percent off another one, in the same form."""
    value = number(figure) * draw.choice([draw.uniform(0.8, 0.93), draw.uniform(1.07, 1.2)])
    return f"{value:,.1f}" if "." in figure else f"{value:,.0f}"
