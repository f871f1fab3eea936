"""What no database and no answer can carry is refused where it comes in, and nothing of it is kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import Live, live, upload, wait_for
from tests.strangers.api_doors import LISTS

LONE = '"\\ud83d"'
ODD = {
    "endless number": ("1e999", "is too large for a number"),
    "not a number": ("NaN", "NaN is not a finite number"),
    "endless": ("-Infinity", "-Infinity is not a finite number"),
    "half a surrogate pair": (LONE, "half of a surrogate pair"),
    "too deep": ("[" * 5000 + "]" * 5000, "nested more than 100 deep"),
    "too long": ("9" * 5000, "a number of 5000 digits; at most 300"),
}
PLACES = {
    "a hyperparameter": '{"hyperparameters": {"learning_rate_multiplier": ODD}, "grader": GRADER}',
    "an unknown key": '{"grader": GRADER, "unknown": {"kept": ODD}}',
    "a threshold": '{"grader": {"pass_threshold": ODD, "type": "python", "source": "x"}}',
}
GRADER = json.dumps({"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"})


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    """A server that may be poisoned."""
    with live(tmp_path_factory.mktemp("odd") / "data", tiny_model) as started:
        yield started


@pytest.fixture(scope="module")
def ids(own: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return upload(own.client(), tmp_path_factory.mktemp("rows"))


def post(server: Live, path: str, text: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{server.url}{path}", content=text.encode(), headers=headers, timeout=60)


def listed(server: Live) -> dict[str, list[Any]]:
    answers = {path: httpx.get(f"{server.url}{path}", timeout=60) for path in LISTS}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(LISTS, 200)
    return {path: answer.json()["data"] for path, answer in answers.items()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("odd", ODD)
def test_a_job_with_a_value_that_cannot_be_carried_is_a_400_and_stores_nothing(
    own: Live, ids: dict[str, str], odd: str, place: str
) -> None:
    fragment, problem = ODD[odd]
    inner = PLACES[place].replace("ODD", fragment).replace("GRADER", GRADER)
    method = f'{{"type": "reinforcement", "reinforcement": {inner}}}'
    body = f'{{"model": "tiny", "training_file": "{ids["train"]}", "method": {method}}}'
    answer = post(own, "/fine_tuning/jobs", body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert problem in error["message"] and error["code"] == "invalid_json"
    assert listed(own)["/fine_tuning/jobs"] == []


@pytest.mark.parametrize("path", ["/uploads", "/fine_tuning/alpha/graders/run", "/chat/completions", "/responses"])
@pytest.mark.parametrize("odd", ODD)
def test_every_body_comes_in_by_the_same_door(own: Live, path: str, odd: str) -> None:
    fragment, problem = ODD[odd]
    answer = post(own, path, f'{{"model": "tiny", "x": {fragment}}}')
    assert answer.status_code == 400 and problem in answer.json()["error"]["message"]


def test_a_key_that_is_there_twice_is_refused(own: Live) -> None:
    answer = post(own, "/fine_tuning/jobs", '{"model": "tiny", "model": "other"}')
    assert answer.status_code == 400 and "model: the key is there twice" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"n": ' + b"9" * 5000 + b"}", "line 1: n: a number of 5000 digits; at most 300"),
        (b"[" * 10_000 + b"]" * 10_000, "line 1: nested more than 100 deep"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', "line 1: messages[0].content: half of a surrogate"),
    ],
)
def test_an_uploaded_row_that_cannot_be_carried_is_an_error_of_its_file(own: Live, line: bytes, problem: str) -> None:
    client = own.client()
    made = client.files.create(file=("odd.jsonl", line), purpose="fine-tune")
    file = client.files.wait_for_processing(made.id, poll_interval=0.1)
    assert file.status == "error" and problem in (file.status_details or "")


def test_a_grader_that_python_cannot_read_fails_its_job_and_not_the_server(own: Live, ids: dict[str, str]) -> None:
    source = "def grade(s, i): return 1" + "+1" * 60_000
    grader = {"type": "python", "name": "long", "source": source}
    body = {
        "model": "tiny",
        "training_file": ids["train"],
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
    }
    answer = post(own, "/fine_tuning/jobs", json.dumps(body))
    if answer.status_code == 200:
        job = wait_for(own.client(), answer.json()["id"], "failed")
        assert job.error is not None and job.error.code == "invalid_grader"
    else:
        assert answer.status_code == 400


def test_after_all_that_the_server_starts_again_and_lists_everything(own: Live) -> None:
    before = listed(own)
    own.stop()
    own.start()
    assert {path: len(items) for path, items in listed(own).items()} == {
        path: len(items) for path, items in before.items()
    }
