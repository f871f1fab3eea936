"""A run of an eval as a page for people: results by grader, and every item with its rewards and what was said.

One file without scripts, that loads nothing from anywhere. All that users, tools or models wrote is escaped.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from agentrft.report.averages import mean

ITEMS_PER_PAGE = 100
LONGEST_ANSWER = 300
LONGEST_MESSAGE = 20_000
# The page may do nothing but show itself, and may be shown in no other.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem } th, td { padding: .3rem .6rem; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd } .number { text-align: right; font-variant-numeric: tabular-nums }
.pass { color: #176f2c } .fail { color: #b02a1a } .error { color: #8a5a00 } code { font-size: 90% }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .5rem; margin: .2rem 0 .8rem }
summary { cursor: pointer } nav a { margin-right: 1rem }
"""


def report_url(base_url: str, eval_id: str, run_id: str) -> str:
    """Where the page of a run is.

    Args:
        base_url: of the server, as the client knows it.
    """
    return f"{base_url.rstrip('/')}/evals/{eval_id}/runs/{run_id}"


def mean_scores(items: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Of output items, or of anything else with `results`, by the names of the results."""
    scores: dict[str, list[float]] = defaultdict(list)
    for item in items:
        for result in item["results"]:
            scores[result["name"]].append(result["score"])
    return {name: mean(some) for name, some in scores.items()}


def report_page(
    run: Mapping[str, Any], items: Sequence[Mapping[str, Any]], means: Mapping[str, float], *, page: int
) -> str:
    """The page.

    Args:
        run: an `eval.run`.
        items: its output items that are on this page.
        means: mean score by grader, over all its items, as `mean_scores` has it.
        page: from 1; `ITEMS_PER_PAGE` items are on each.
    """
    counts = run["result_counts"]
    title = f"{run['name']}: {run['model']}"
    told = f"{counts['passed']} passed, {counts['failed']} failed, {counts['errored']} without a score"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>Run <code>{escape(run["id"])}</code> of <code>{escape(run["eval_id"])}</code>, {escape(run["status"])}.
{told}, of {counts["total"]}.</p>
<h2>Graders</h2>
{_graders(run, means)}
<h2>Items</h2>
{_pages(page, counts["total"])}
{_items(items)}
{_pages(page, counts["total"])}
</body></html>
"""


def _graders(run: Mapping[str, Any], means: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td>{escape(_plain(one['testing_criteria']))}</td>"
        f"{_number(means.get(one['testing_criteria']))}"
        f"<td class='number'>{one['passed']}</td><td class='number'>{one['failed']}</td></tr>"
        for one in run["per_testing_criteria_results"]
    )
    head = "".join(f"<th class='number'>{name}" for name in ("mean score", "passed", "failed"))
    return f"<table><tr><th>grader{head}</tr>{rows}</table>"


def _items(items: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(_item(item) for item in items)
    return f"<table><tr><th class='number'>row<th>status<th>scores<th>answer</tr>{rows}</table>"


def _item(item: Mapping[str, Any]) -> str:
    status = escape(item["status"])
    scores = "<br>".join(f"{escape(_plain(one['name']))}: {one['score']:.4g}" for one in item["results"])
    answer = str(item["sample"]["output"][-1]["content"]) if item["sample"]["output"] else ""
    error = str(item["sample"]["error"]["message"])
    said = "".join(_message(one) for one in item["sample"]["agentrft"]["messages"])
    return (
        f"<tr id='{escape(item['id'])}'><td class='number'>{item['datasource_item_id']}</td>"
        f"<td class='{status}'>{status}</td><td>{scores}</td>"
        f"<td>{escape(_cut(answer, LONGEST_ANSWER) or _cut(error, LONGEST_ANSWER))}"
        f"<details><summary>all that was said</summary>{said}</details></td></tr>"
    )


def _message(message: Mapping[str, Any]) -> str:
    calls = "".join(
        f"\n{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or []
    )
    thought = f"{message['reasoning_content']}\n\n" if message.get("reasoning_content") else ""
    text = f"{thought}{message.get('content') or ''}{calls}".strip()
    return f"<b>{escape(str(message['role']))}</b><pre>{escape(_cut(text, LONGEST_MESSAGE))}</pre>"


def _pages(page: int, n_items: int) -> str:
    last = max(1, -(-n_items // ITEMS_PER_PAGE))
    if last == 1:
        return ""
    before = f"<a href='?page={min(page - 1, last)}'>before</a>" if page > 1 else ""
    after = f"<a href='?page={page + 1}'>after</a>" if page < last else ""
    return f"<nav>{before}{after}page {page} of {last}</nav>"


def _plain(label: str) -> str:
    """A grader's name without its id."""
    return label[:-37] if len(label) > 37 else label


def _number(value: float | None) -> str:
    return f"<td class='number'>{'' if value is None else f'{value:.4g}'}</td>"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
