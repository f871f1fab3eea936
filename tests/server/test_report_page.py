"""A run as a page."""

from html.parser import HTMLParser
from typing import Any

from agentrft.server.objects.evals import (
    NO_ERROR,
    Sampling,
    TokenCounts,
    criteria_of,
    criterion_counts,
    grade_results,
    item_object,
    run_object,
    sample_object,
)
from agentrft.server.objects.report_page import ITEMS_PER_PAGE, mean_scores, report_page, report_url

EVIL = "</pre><script src='http://evil.example/x.js'></script><img src=x onerror='alert(1)'>\"'"
CRITERIA = criteria_of("eval_1", {"type": "string_check", "name": EVIL})


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def run_and_items(n_items: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told: dict[str, Any] = {
        "eval_id": "eval_1",
        "name": EVIL,
        "model": EVIL,
        "status": "completed",
        "created_at": 0,
        "metadata": None,
        "data_source": {},
        "report_url": "",
    }
    run = run_object("evalrun_1", counts={"passed": n_items}, **told)
    call = {"id": "c", "type": "function", "function": {"name": "f" + EVIL, "arguments": EVIL}}
    said = [{"role": "user", "content": EVIL}, {"role": "assistant", "content": EVIL, "tool_calls": [call]}]
    sample = sample_object(
        said, 1, model="m", finish_reason="stop", tokens=TokenCounts(), sampling=Sampling(), error=NO_ERROR
    )
    items = [
        item_object(
            f"item_{number}",
            run,
            number=number,
            created_at=0,
            status="pass",
            row={},
            results=grade_results(CRITERIA, number / 8),
            sample=sample,
        )
        for number in range(1, n_items + 1)
    ]
    run["per_testing_criteria_results"] = criterion_counts(CRITERIA, items)
    return run, items


def seen_on(page: int, n_items: int) -> Seen:
    run, items = run_and_items(n_items)
    shown = items[(page - 1) * ITEMS_PER_PAGE : page * ITEMS_PER_PAGE]
    return Seen(report_page(run, shown, mean_scores(items), page=page))


def test_whatever_anyone_wrote_is_text_and_nothing_is_loaded() -> None:
    seen = seen_on(1, 2)
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "src"]
    # Twice each in title and heading, once in the grader's row and in each result, and of each item all that was said.
    assert seen.text.count(EVIL) == 4 + 3 + 2 * 5
    assert "0.1875" in seen.text, "the mean score"


def test_long_runs_have_several_pages_with_links_between_them() -> None:
    first, second, beyond = (seen_on(number, ITEMS_PER_PAGE + 1) for number in (1, 2, 9))
    assert ("id", "item_1") in first.attributes and ("id", f"item_{ITEMS_PER_PAGE + 1}") not in first.attributes
    assert ("href", "?page=2") in first.attributes and ("href", "?page=1") in second.attributes
    assert ("id", f"item_{ITEMS_PER_PAGE + 1}") in second.attributes
    assert ("href", "?page=2") in beyond.attributes and "details" not in beyond.tags


def test_a_page_is_where_its_url_says() -> None:
    assert report_url("http://127.0.0.1:1/", "eval_1", "evalrun_1") == "http://127.0.0.1:1/evals/eval_1/runs/evalrun_1"
