"""The tables of docs/migrate-from-openai.md say what the clients check, and nothing else."""

from collections import Counter

from tests.clients.checks import PROGRAMS, all_checks
from tests.clients.sdk import ROOT
from tests.clients.table import BEGIN, DOCUMENT, END, SECTIONS, rewritten


def test_the_documents_tables_are_those_that_the_checks_make() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == rewritten(text), "run `python -m tests.clients.table` after `make test-clients` has passed"


def test_every_row_is_told_once_and_has_its_section() -> None:
    rows = [row for one in all_checks() for row in one.rows]
    assert {row.section for row in rows} <= set(SECTIONS)
    assert [place for place, count in Counter((row.section, row.field) for row in rows).items() if count > 1] == []
    assert all(bool(row.here) == (row.state != "same") for row in rows)
    assert all("\n" not in cell and "|" not in cell for row in rows for cell in (row.field, row.hosted, row.here))


def test_every_program_is_run() -> None:
    folder = ROOT / "tests/clients/programs"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(PROGRAMS)
