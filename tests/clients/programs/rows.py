"""Rows as hosted takes them: `messages`, `tools`, `parallel_tool_calls` and keys of one's own, which graders read."""

from openai import OpenAI

from tests.clients.checks import World, check, differs, same, until
from tests.clients.programs.notebook import row, upload
from tests.clients.programs.shapes import GRADER, cancel, create


@check(
    same("rows", "`messages`, `tools`, `parallel_tool_calls`", "kept for the model, and in `item`"),
    same("rows", "all other keys", "`item.*`"),
)
def a_grader_reads_the_whole_row(world: World) -> None:
    client = OpenAI()
    rows = [{**row(word), "parallel_tool_calls": True, "answer": {"colours": ["red"]}} for word in ("apple", "stone")]
    file = upload(client, "whole", rows)
    reads = "{{item.messages}} {{item.tools}} {{item.answer.colours[0]}}"
    job = create(world, {"grader": {**GRADER, "reference": reads}}, training_file=file)
    found = until(
        lambda: (now := client.fine_tuning.jobs.retrieve(job.id)).status != "validating_files" and now, timeout_s=60
    )
    # What no row has would have failed it by now.
    assert found.status in ("queued", "running"), (found.status, found.error)
    cancel(job)


@check(
    differs(
        "rows",
        "a row's `tools`",
        "what the model may call",
        "each must be one of the job's `tools`, else the job fails before it starts",
    )
)
def a_row_whose_tool_is_nowhere(world: World) -> None:
    client = OpenAI()
    job = create(world, {"tools": []})
    failed = until(
        lambda: (found := client.fine_tuning.jobs.retrieve(job.id)).status == "failed" and found, timeout_s=60
    )
    assert failed.error.code == "invalid_training_file" and "lookup" in failed.error.message, failed.error


@check(
    differs(
        "rows",
        "a row that lacks what the grader reads",
        "an error flag and 0",
        "`invalid_grader` or `invalid_training_file` before the job starts, with the template",
    )
)
def a_grader_that_asks_for_what_no_row_has(world: World) -> None:
    client = OpenAI()
    job = create(world, {"grader": {**GRADER, "reference": "{{item.nowhere}}"}})
    failed = until(
        lambda: (found := client.fine_tuning.jobs.retrieve(job.id)).status == "failed" and found, timeout_s=60
    )
    assert failed.error.code == "invalid_grader" and "nowhere" in failed.error.message, failed.error
