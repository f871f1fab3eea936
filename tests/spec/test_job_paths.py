"""Paths that no file can have are refused when the job is read, with their field."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import JobSpec, parse_job

CHECK = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
TOOL = {"name": "search", "server_url": "https://tools.example.com"}
PYTHON = {"type": "python", "name": "mine"}
LONG = "x" * 5000


def parse(folder: Path, inner: dict[str, Any] | None = None, **changes: Any) -> JobSpec:
    method = {"type": "reinforcement", "reinforcement": {"grader": CHECK, **(inner or {})}}
    raw = {"model": "smollm2-135m", "training_file": "train.jsonl", "method": method, **changes}
    return parse_job(raw, folder=folder)


def refusal(folder: Path, inner: dict[str, Any] | None = None, **changes: Any) -> str:
    with pytest.raises(UserError) as raised:
        parse(folder, inner, **changes)
    return raised.value.cause


@pytest.mark.parametrize("path", [LONG, "a\0b", f"./{LONG}"])
@pytest.mark.parametrize("field", ["training_file", "validation_file", "output_dir", "start_from"])
def test_a_path_that_cannot_be_names_its_field(tmp_path: Path, field: str, path: str) -> None:
    cause = refusal(tmp_path, None, **{field: path})
    assert f"job: {field}: " in cause and len(cause) < 300


@pytest.mark.parametrize("path", ["~nosuchuser/x", "~nosuchuser", f"~/{LONG}", "~/a\0b"])
@pytest.mark.parametrize("field", ["model", "start_from"])
def test_a_home_that_is_not_there_names_its_field(tmp_path: Path, field: str, path: str) -> None:
    assert f"job: {field}: " in refusal(tmp_path, None, **{field: path})


@pytest.mark.parametrize("path", ["./a\0b", f"/{LONG}"])
def test_a_model_in_a_folder_that_cannot_be_names_its_field(tmp_path: Path, path: str) -> None:
    assert "job: model: " in refusal(tmp_path, model=path)


@pytest.mark.parametrize("path", [LONG, "a\0b"])
@pytest.mark.parametrize("name", ["record", "replay", "folder"])
def test_a_tools_folder_that_cannot_be_names_its_field(tmp_path: Path, name: str, path: str) -> None:
    python = {"type": "python", "function": "tools:search"}
    cause = refusal(tmp_path, {"tools": [TOOL, {**python, "name": "other", name: path}]})
    assert cause.startswith((f"job: method.reinforcement.tools[1].{name}: ", f"job: tools.1.{name}: "))


@pytest.mark.parametrize("path", [LONG, "a\0b"])
def test_a_graders_file_that_cannot_be_names_its_field_inside_a_multi_too(tmp_path: Path, path: str) -> None:
    one = {**PYTHON, "source_file": path}
    multi = {"type": "multi", "graders": {"mine": one}, "calculate_output": "mine"}
    for inner in ({"grader": one}, {"grader": multi}, {"holdout_graders": {"other": one}}):
        assert "source_file: " in refusal(tmp_path, inner)


def test_a_warm_starts_file_that_cannot_be_names_its_field(tmp_path: Path) -> None:
    assert "job: warm_start.training_file: " in refusal(tmp_path, warm_start={"training_file": LONG})


def test_paths_where_nothing_is_yet_are_taken(tmp_path: Path) -> None:
    job = parse(tmp_path, {"tools": [{**TOOL, "record": "calls/new"}]}, output_dir="a/b", model="./model")
    assert (job.output_dir, job.tools[0].record) == (tmp_path / "a/b", tmp_path / "calls/new")
    assert job.model == str(tmp_path.resolve() / "model")


@pytest.mark.parametrize("given", [False, 0, "", []])
def test_hyperparameters_that_are_no_mapping_are_refused_beside_max_episode_steps(tmp_path: Path, given: Any) -> None:
    cause = refusal(tmp_path, {"max_episode_steps": 3, "hyperparameters": given})
    assert "hyperparameters: expected a mapping" in cause
