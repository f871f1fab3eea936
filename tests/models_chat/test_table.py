"""docs/models.md says what the runs of `make test-models` saw."""

import json

from tests.models_chat.families import FAMILIES
from tests.models_chat.table import CHAT, PAGE, made, rewrite


def test_the_page_has_the_table_that_is_made_of_what_was_seen() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewrite(page) == page, "python -m tests.models_chat.table"


def test_every_family_is_in_it_with_all_its_conversations() -> None:
    seen = json.loads(CHAT.read_text(encoding="utf-8"))
    assert [one["family"] for one in seen] == [family.name for family in FAMILIES]
    assert all(one["conversations"] >= 1_000 for one in seen)
    assert len(made().splitlines()) == len(FAMILIES) + 2
