"""A script that downloads a job's evals and analyses them by grader."""

from collections import defaultdict
from statistics import mean
from typing import Any

from openai import OpenAI

from tests.clients.checks import World, check, differs, same
from tests.clients.programs.events import metrics

GRADERS = ("length", "near", "remote")


def items(world: World, run_id: str) -> list:
    """All pages, as scripts fetch them."""
    client, found, after = OpenAI(), [], None
    while True:
        more = {"after": after} if after else {}
        page = client.evals.runs.output_items.list(run_id, eval_id=world.job.eval_id, limit=3, **more)
        found += page.data
        if not page.has_more:
            return found
        after = page.data[-1].id


def results(item: Any) -> list[dict[str, Any]]:
    """Old SDKs have dicts where new ones have objects."""
    return [one if isinstance(one, dict) else one.to_dict() for one in item.results]


def grader_of(result: dict[str, Any]) -> str:
    """A UUID has five parts, and a grader's name may have dashes of its own."""
    return "-".join(result["name"].split("-")[:-5])


def runs(world: World) -> dict[str, object]:
    return {run.name: run for run in OpenAI().evals.runs.list(world.job.eval_id, order="asc")}


@check(
    same("evals", "a job's `eval_id`", "an eval of it, a run for each validation"),
    same("evals", "runs", "named `Step N`; `result_counts`, `per_testing_criteria_results`, `per_model_usage`"),
    differs(
        "evals",
        "`report_url`",
        "a page of the platform",
        "a page of this server; a browser asks for an API key where one is needed: any name, the key as the password",
    ),
    same("evals", "order", "ascending; `order` is honoured"),
)
def finds_a_run_for_each_validation(world: World) -> None:
    client = OpenAI()
    of_job = client.evals.retrieve(world.job.eval_id)
    assert len(of_job.testing_criteria) >= 1
    names = [run.name for run in client.evals.runs.list(world.job.eval_id)]
    assert names == ["Step 0", "Step 1", "Step 2", "Step 3"], names
    newest = client.evals.runs.list(world.job.eval_id, order="desc", limit=1).data
    assert [run.name for run in newest] == ["Step 3"]
    run = runs(world)["Step 3"]
    assert run.status == "completed" and run.result_counts.total == 4
    assert run.result_counts.passed + run.result_counts.failed + run.result_counts.errored == 4
    assert run.per_testing_criteria_results and run.per_model_usage and run.per_model_usage[0].completion_tokens > 0
    assert run.report_url.startswith(world.server), run.report_url


@check(
    same("evals", "`output_items`: pages", "`after`, `limit`, `has_more`"),
    same("evals", "`results[]`", "one for each grader, named `GRADER-UUID`, with `score` and `passed`"),
)
def analyses_a_run_by_grader(world: World) -> None:
    found = items(world, runs(world)["Step 3"].id)
    assert len({item.id for item in found}) == len(found) == 4
    scores = defaultdict(list)
    for item in found:
        for result in results(item):
            scores[grader_of(result)].append(result["score"])
    assert set(GRADERS) <= set(scores), set(scores)
    data = metrics(world)[-1]
    told = {one["name"]: one["valid_reward_mean"] for one in data["scores"]["graders"]}
    for name in GRADERS:
        # A rollout that is `model_failed` was not graded.
        assert scores[name] and abs(mean(scores[name]) - told[name]) < 1e-6, (name, scores, told)


@check(
    same("evals", "`sample.output`", "one assistant message: the final text, and the calls"),
    same("evals", "`sample.input`", "what came before it"),
    same("evals", "`datasource_item`", "the whole row"),
)
def reads_predictions_beside_their_rows(world: World) -> None:
    for item in items(world, runs(world)["Step 3"].id):
        (said,) = item.sample.output
        assert said.role == "assistant" and (said.content or item.status == "fail"), said
        assert item.sample.input[0].content == f"Colour of {item.datasource_item['word']}?"
        assert {"messages", "word", "rubric", "tools"} <= set(item.datasource_item)
        assert item.sample.finish_reason and item.sample.usage.completion_tokens > 0
        assert item.status in ("pass", "fail")
