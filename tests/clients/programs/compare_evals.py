"""An eval notebook: one eval with two graders, a run of the base model and one of the fine-tuned one, compared."""

import json
from typing import Any

from openai import BadRequestError, OpenAI

from tests.clients.checks import World, check, differs, refused, same, until
from tests.clients.programs.evals_download import grader_of, results
from tests.clients.programs.notebook import WORDS

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
}
CRITERIA = [
    {
        "type": "string_check",
        "name": "dark",
        "input": "{{ sample.output_text }}",
        "reference": "dark",
        "operation": "like",
    },
    {
        "type": "text_similarity",
        "name": "near",
        "input": "{{ sample.output_text }}",
        "reference": "very dark {{ item.word }}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.5,
    },
]
ITEMS = [{"item": {"word": word}} for word in WORDS[:4]]


def created(world: World) -> Any:
    return OpenAI().evals.create(
        name=f"colours {world.seed}",
        data_source_config={"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True},
        testing_criteria=CRITERIA,
        metadata={"of": "colours"},
    )


def source(model: str, kind: str = "completions", **changes: Any) -> dict[str, Any]:
    template = [{"role": "user", "content": "Colour of {{ item.word }}?"}]
    return {
        "type": kind,
        "model": model,
        "source": {"type": "file_content", "content": ITEMS},
        "input_messages": {"type": "template", "template": template},
        "sampling_params": {"temperature": 1, "seed": 42, "max_completion_tokens": 48},
        **changes,
    }


def from_a_file(world: World) -> dict[str, Any]:
    """The rows of a job's validation file, and their own messages."""
    reference = {"type": "item_reference", "item_reference": "item.messages"}
    return {"source": {"type": "file_id", "id": world.files["validation"]}, "input_messages": reference}


def ended(run: Any) -> Any:
    client = OpenAI()
    done = until(
        lambda: (
            (now := client.evals.runs.retrieve(run.id, eval_id=run.eval_id)).status not in ("queued", "in_progress")
            and now
        ),
        timeout_s=180,
    )
    assert done.status == "completed", (done.status, done.error)
    return done


@check(
    same(
        "evals",
        "`runs.create`: `completions`, `responses`",
        "a model answers each row: base, fine-tuned, or a checkpoint; `sampling_params`",
    ),
    differs(
        "evals", "`input_messages`", "`template` or `item_reference`", "the same, of text; without it `item.messages`"
    ),
    differs(
        "evals",
        "`source`",
        "`file_content`, or `file_id` with lines of `item` and `sample`",
        "the same; a line without `item` is an item as it is, so a file for training will do",
    ),
    takes_long=True,
)
def compares_a_base_model_and_a_fine_tuned_one(world: World) -> None:
    client = OpenAI()
    made = created(world)
    assert made.id.startswith("eval_") and made.object == "eval"
    assert client.evals.update(made.id, name="renamed").name == "renamed"
    assert made.id in [one.id for one in client.evals.list()]
    runs = {
        "base": client.evals.runs.create(made.id, name="base", data_source=source(world.model)),
        "tuned": client.evals.runs.create(
            made.id, name="tuned", data_source=source(world.job.fine_tuned_model, "responses", **from_a_file(world))
        ),
    }
    for name, run in runs.items():
        done = ended(run)
        assert done.name == name and done.result_counts.total == 4 and done.result_counts.errored == 0
        by_criterion = {one.testing_criteria: one for one in done.per_testing_criteria_results}
        assert len(by_criterion) == 2 and all(one.passed + one.failed == 4 for one in by_criterion.values())
        items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id))
        assert [item.datasource_item["word"] for item in items] == (WORDS[:4] if name == "base" else WORDS[6:])
        for item in items:
            assert {grader_of(result) for result in results(item)} == {"dark", "near"}, item.results
            assert item.sample.output[0].role == "assistant"
            assert item.sample.input[0].content.startswith("Colour of ")
        assert done.per_model_usage[0].invocation_count == 4
    assert {run.id for run in client.evals.runs.list(made.id)} == {run.id for run in runs.values()}
    client.evals.delete(made.id)


@check(
    same(
        "evals", "`create`, `retrieve`, `update`, `list`, `delete`", "`data_source_config` `custom`, `testing_criteria`"
    ),
    differs(
        "evals",
        "`testing_criteria`",
        "graders; `pass_threshold`",
        "all graders, `multi`, `endpoint` and `trace` too; without a threshold 1 passes. One that fails gives no score",
    ),
    same("evals", "`runs.retrieve`, `list`, `delete`", "status, counts in all and by criterion, tokens by model"),
    same("evals", "`runs.create`: `jsonl`", "answers that are there already, inline or in a file of purpose `evals`"),
)
def grades_answers_that_it_has(world: World) -> None:
    client = OpenAI()
    made = created(world)
    assert made.id.startswith("eval_") and made.object == "eval"
    assert client.evals.update(made.id, name="renamed").name == "renamed"
    assert client.evals.retrieve(made.id).name == "renamed" and made.id in [one.id for one in client.evals.list()]
    rows = [{**one, "sample": {"output_text": "dark"}} for one in ITEMS]
    text = "".join(json.dumps(one) + "\n" for one in rows).encode()
    file = client.files.create(file=("answers.jsonl", text), purpose="evals")
    for where in ({"type": "file_content", "content": rows}, {"type": "file_id", "id": file.id}):
        run = ended(client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": where}))
        results = {one.testing_criteria: one for one in run.per_testing_criteria_results}
        # The string is as it should be, and the text is not similar enough.
        assert sorted((one.passed, one.failed) for one in results.values()) == [(0, 4), (4, 0)]
        assert (run.result_counts.total, run.result_counts.failed) == (4, 4)
    assert client.evals.runs.delete(run.id, eval_id=made.id).deleted
    assert len(client.evals.runs.list(made.id).data) == 1
    assert client.evals.delete(made.id).deleted


@check(
    refused(
        "evals",
        "`stored_completions`, `logs`",
        "answers that the platform kept",
        "nothing is stored; send them as `jsonl`",
    ),
    differs("evals", "`runs.cancel`", "`canceled`", "the same; what was graded stays"),
)
def is_told_what_is_not_kept(world: World) -> None:
    client = OpenAI()
    made = created(world)
    try:
        client.evals.runs.create(
            made.id, data_source={"type": "completions", "model": world.model, "source": {"type": "stored_completions"}}
        )
    except BadRequestError as error:
        assert "stored" in str(error), error
    else:
        raise AssertionError("taken")
    run = client.evals.runs.create(made.id, data_source=source(world.model))
    assert client.evals.runs.cancel(run.id, eval_id=made.id).status in ("canceled", "completed")
    client.evals.delete(made.id)
