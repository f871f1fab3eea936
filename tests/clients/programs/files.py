"""A script that keeps its files in order: uploads in parts, lists, contents, expiry, deletion."""

import json

from openai import BadRequestError, NotFoundError, OpenAI

from tests.clients.checks import World, check, differs, same

ROW = b'{"messages": [{"role": "user", "content": "Colour of apple?"}], "word": "apple"}\n'


@check(
    same("files", "`files.list`, `retrieve`, `content`, `delete`", "pages by `after`, `limit`, `order`, `purpose`"),
    same("files", "`expires_after`", "`anchor: created_at` and seconds; `expires_at` is shown"),
)
def lists_reads_and_deletes_files(world: World) -> None:
    client = OpenAI()
    made = client.files.create(
        file=("rows.jsonl", ROW),
        purpose="user_data",
        extra_body={"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
    )
    assert (made.filename, made.bytes, made.purpose, made.object) == ("rows.jsonl", len(ROW), "user_data", "file")
    assert made.expires_at == made.created_at + 3600
    assert client.files.content(made.id).read() == ROW
    assert made.id in [one.id for one in client.files.list(purpose="user_data")]
    assert [one.purpose for one in client.files.list(purpose="fine-tune", limit=1).data] == ["fine-tune"]
    deleted = client.files.delete(made.id)
    assert deleted.deleted and deleted.id == made.id
    try:
        client.files.retrieve(made.id)
    except NotFoundError as gone:
        assert gone.status_code == 404 and gone.code
    else:
        raise AssertionError("a deleted file is still there")


@check(
    differs(
        "files",
        "`uploads.create`, `parts.create`, `complete`, `cancel`",
        "up to 8 GB",
        "the same; all parts within an hour",
    )
)
def uploads_a_file_in_parts(world: World) -> None:
    client = OpenAI()
    upload = client.uploads.create(
        bytes=2 * len(ROW), filename="big.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    parts = [client.uploads.parts.create(upload.id, data=ROW) for _ in range(2)]
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
    assert done.status == "completed" and done.file is not None and done.file.bytes == 2 * len(ROW)
    assert client.files.content(done.file.id).read() == 2 * ROW
    assert 0 < upload.expires_at - upload.created_at <= 3600
    other = client.uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune")
    assert client.uploads.cancel(other.id).status == "cancelled"


@check(
    differs(
        "rows",
        "faulty rows",
        "“invalid validation file”",
        "each fault with line and field, in the file's `status_details` or the job's error",
    ),
    differs(
        "rows",
        "how many",
        "up to 50,000 for training, 1,000 for validation",
        "any number; a validation takes all of them",
    ),
    differs("rows", "`content`", "text, images, audio", "text, as a string or as text parts"),
)
def is_told_which_row_is_faulty(world: World) -> None:
    client = OpenAI()
    bad = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}
    text = ROW * 1100 + json.dumps(bad).encode() + b"\n"
    made = client.files.create(file=("rows.jsonl", text), purpose="fine-tune")
    looked_at = client.files.wait_for_processing(made.id, poll_interval=0.2)
    assert looked_at.status == "error" and "1101" in (looked_at.status_details or ""), looked_at.status_details
    assert "content" in (looked_at.status_details or "")
    fine = client.files.create(
        file=("rows.jsonl", ROW * 1100 + ROW.replace(b'"Colour of apple?"', b'[{"type": "text", "text": "Colour?"}]')),
        purpose="fine-tune",
    )
    assert client.files.wait_for_processing(fine.id, poll_interval=0.2).status == "processed"


@check()
def a_job_of_a_faulty_file_is_refused(world: World) -> None:
    client = OpenAI()
    try:
        client.fine_tuning.jobs.create(
            model=world.model,
            training_file="file-none",
            method={"type": "reinforcement", "reinforcement": {"grader": {"type": "endpoint", "url": world.endpoints}}},
        )
    except (BadRequestError, NotFoundError) as refused:
        assert refused.param == "training_file"
    else:
        raise AssertionError("a job of no file was taken")
