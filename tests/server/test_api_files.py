"""Files and uploads, as the SDK drives them."""

import json
import time

import openai
import pytest
from openai import OpenAI

from tests.job.tiny_job import prompt

ROW = json.dumps({"messages": prompt("apple"), "word": "apple"}).encode() + b"\n"


def test_a_file_goes_in_is_listed_comes_back_and_is_deleted(client: OpenAI) -> None:
    made = client.files.create(file=("mine.jsonl", ROW), purpose="fine-tune")
    assert (made.filename, made.bytes, made.purpose) == ("mine.jsonl", len(ROW), "fine-tune")
    done = client.files.wait_for_processing(made.id, poll_interval=0.05)
    assert done.status == "processed"
    assert client.files.content(made.id).content == ROW
    assert client.files.list(purpose="fine-tune", limit=1).data[0].id == made.id
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.files.retrieve(made.id)


def test_a_bad_file_ends_in_an_error_with_the_lines_at_fault(client: OpenAI) -> None:
    rows = ROW + b'{"messages": []}\n' + ROW + b'{"messages": [{"role": "robot", "content": "x"}]}\n' + b"{\n"
    made = client.files.create(file=("bad.jsonl", rows), purpose="fine-tune")
    done = client.files.wait_for_processing(made.id, poll_interval=0.05)
    assert done.status == "error" and done.status_details is not None
    for part in ("line 2: messages", "line 4: messages[0].role", "line 5: not valid JSON"):
        assert part in done.status_details
    assert "/" not in done.status_details.split("line 2")[0], "no path of the server is shown"
    with pytest.raises(openai.BadRequestError, match="line 2"):
        client.fine_tuning.jobs.create(model="tiny", training_file=made.id, method=METHOD)  # type: ignore[arg-type]


METHOD = {
    "type": "reinforcement",
    "reinforcement": {
        "grader": {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
    },
}


def test_files_of_other_purposes_are_kept_and_not_trained_on(client: OpenAI) -> None:
    made = client.files.create(file=("notes.txt", b"anything"), purpose="user_data")
    assert client.files.wait_for_processing(made.id, poll_interval=0.05).status == "processed"
    with pytest.raises(openai.BadRequestError, match="purpose 'user_data'"):
        client.fine_tuning.jobs.create(model="tiny", training_file=made.id, method=METHOD)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("x", b"x"), purpose="else")  # type: ignore[arg-type]


def test_files_come_newest_first_in_pages(client: OpenAI) -> None:
    ids = [client.files.create(file=(f"{n}.jsonl", ROW), purpose="evals").id for n in range(5)]
    page = client.files.list(purpose="evals", limit=2)
    assert [one.id for one in page.data] == ids[:2:-1] and page.has_more
    assert [one.id for one in client.files.list(purpose="evals", limit=2)] == ids[::-1]
    assert [one.id for one in client.files.list(purpose="evals", order="asc")] == ids


def test_a_file_may_expire(client: OpenAI) -> None:
    made = client.files.create(
        file=("short.jsonl", ROW), purpose="evals", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at is not None and 3500 < made.expires_at - time.time() < 3700


def test_an_upload_in_parts_is_the_file(client: OpenAI) -> None:
    data = ROW * 100
    upload = client.uploads.create(bytes=len(data), filename="big.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    second = client.uploads.parts.create(upload.id, data=data[1000:])
    first = client.uploads.parts.create(upload.id, data=data[:1000])
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
    assert done.status == "completed" and done.file is not None
    assert client.files.wait_for_processing(done.file.id, poll_interval=0.05).status == "processed"
    assert client.files.content(done.file.id).content == data
    with pytest.raises(openai.BadRequestError, match="completed"):
        client.uploads.parts.create(upload.id, data=b"more")


def test_the_largest_upload_can_be_announced(client: OpenAI) -> None:
    size = 8 * 1024**3
    upload = client.uploads.create(bytes=size, filename="all.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert client.uploads.cancel(upload.id).bytes == size
    with pytest.raises(openai.BadRequestError, match="less than or equal"):
        client.uploads.create(bytes=size + 1, filename="all.jsonl", mime_type="text/jsonl", purpose="fine-tune")


def test_an_upload_that_lacks_bytes_is_refused_and_may_be_cancelled(client: OpenAI) -> None:
    upload = client.uploads.create(bytes=100, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=b"12")
    with pytest.raises(openai.BadRequestError, match="2 bytes"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    with pytest.raises(openai.BadRequestError, match="another file"):
        whole = client.uploads.create(bytes=2, filename="a", mime_type="text/jsonl", purpose="evals")
        only = client.uploads.parts.create(whole.id, data=b"12")
        client.uploads.complete(whole.id, part_ids=[only.id], md5="0" * 32)
    with pytest.raises(openai.BadRequestError, match="no part"):
        client.uploads.complete(upload.id, part_ids=["part_none"])
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_none")
