"""The tables of docs/models.md say what the code does."""

import json

from tests.models.architectures import FILE, PAGE, known, rewrite


def test_the_columns_are_those_that_the_configurations_show() -> None:
    written = json.loads(FILE.read_text(encoding="utf-8"))
    shown = {name: {key: value for key, value in one.items() if key != "off by"} for name, one in written.items()}
    assert shown == known()


def test_the_page_has_the_table_as_it_is_made() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rewrite(page, json.loads(FILE.read_text(encoding="utf-8")))
