"""What is at fault of a job is named: the code, the field of the request, the file and its lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentrft.server.creation.validation import Problem, problem_of, problem_of_file, stored_problem
from agentrft.spec import JobSpec
from tests.job.tiny_job import TOOL, demonstration, prompt

CHECK: dict[str, Any] = {"type": "string_check", "input": "{{ sample.output_text }}", "operation": "eq"}
WORD, ANSWER = {**CHECK, "reference": "{{ item.word }}"}, {**CHECK, "reference": "{{ item.answer }}"}
ROW = {"messages": prompt("apple"), "word": "apple"}
ROWS = {"file-train": [ROW, ROW], "file-valid": [ROW], "file-demo": [{"messages": demonstration("apple", "red")}]}


def problem(folder: Path, rows: dict[str, list[Any]], grader: Any = WORD, **more: Any) -> Problem | None:
    for name, some in {**ROWS, **rows}.items():
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in some))
    return problem_of(
        JobSpec.model_validate(
            {
                "model": "m",
                "training_file": folder / "file-train",
                "validation_file": folder / "file-valid",
                "warm_start": {"training_file": folder / "file-demo"},
                "tools": [{**TOOL, "server_url": "https://tools.example.com"}],
                "grader": grader,
                **more,
            }
        )
    )


def test_a_job_whose_files_and_graders_fit_has_no_problem(tmp_path: Path) -> None:
    assert problem(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("file", "code", "param"),
    [
        ("file-train", "invalid_training_file", "training_file"),
        ("file-valid", "invalid_validation_file", "validation_file"),
        ("file-demo", "invalid_warm_start_file", "warm_start.training_file"),
    ],
)
def test_a_faulty_row_is_named_with_its_file_and_line(tmp_path: Path, file: str, code: str, param: str) -> None:
    found = problem(tmp_path, {file: [*ROWS[file], {"messages": []}]})
    assert found is not None and (found.code, found.param) == (code, param)
    line = len(ROWS[file]) + 1
    assert found.message.startswith(f"{file}: 1 fault(s):\n  - line {line}: messages")
    assert str(tmp_path) not in found.message


@pytest.mark.parametrize(
    ("tools", "fault"),
    [
        ([], "name: there is no tool 'lookup'; there are: none"),
        ([{**TOOL, "name": "search", "server_url": "https://tools.example.com"}], "name: there is no tool 'lookup'"),
        (
            [{**TOOL, "parameters": {"required": ["query"]}, "server_url": "https://tools.example.com"}],
            "arguments: they do not fit the parameters of 'lookup': ",
        ),
        ([{"type": "mcp", "server_label": "m", "server_url": "https://m.example.com"}], None),
        (
            [{"type": "mcp", "server_label": "m", "server_url": "https://m.example.com", "allowed_tools": ["a"]}],
            "name: there is no tool 'lookup'; there are: a",
        ),
    ],
)
def test_a_demonstrations_calls_are_held_against_the_jobs_tools(
    tmp_path: Path, tools: list[Any], fault: str | None
) -> None:
    found = problem(tmp_path, {}, tools=tools)
    if fault is None:
        assert found is None
        return
    assert found is not None and found.code == "invalid_warm_start_file"
    assert found.message.startswith(f"file-demo: 1 fault(s):\n  - line 1: messages[1].tool_calls[0].function.{fault}")


DEMONSTRATION = {"messages": demonstration("apple", "red")}
BAD_CALL = {"messages": [DEMONSTRATION["messages"][0], {"role": "assistant", "function_call": {}}]}


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([ROW], None),
        ([DEMONSTRATION], None),
        ([ROW, DEMONSTRATION], "line 1: messages: a demonstration must end"),
        ([DEMONSTRATION, BAD_CALL], "line 2: messages[1].function_call"),
        ([BAD_CALL], "line 1: messages[1].function_call"),
        ([{"messages": [*prompt("x"), {"role": "assistant", "content": " "}]}], "line 1: messages[1].content"),
        ([{**DEMONSTRATION, "tools": [{"function": {"name": "search"}}]}], "there is no tool 'lookup'"),
    ],
)
def test_a_files_faults_are_those_of_what_it_seems_to_be(tmp_path: Path, rows: list[Any], fault: str | None) -> None:
    path = tmp_path / "file-any"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = problem_of_file(path)
    assert found is None if fault is None else found is not None and fault in found


@pytest.mark.parametrize(
    ("file", "code"), [("file-train", "invalid_training_file"), ("file-valid", "invalid_validation_file")]
)
def test_a_row_that_lacks_what_the_grader_reads_is_at_fault_where_others_have_it(
    tmp_path: Path, file: str, code: str
) -> None:
    found = problem(
        tmp_path,
        {file: [{"messages": prompt("apple")}]}
        if file == "file-valid"
        else {file: [ROW, {"messages": prompt("apple")}]},
    )
    line = 1 if file == "file-valid" else 2
    assert found is not None and (found.code, found.param) == (code, code.removeprefix("invalid_"))
    assert found.message.startswith(f"{file}: ") and f"line {line}: grader 'string_check', reference" in found.message


def test_a_grader_that_imports_what_is_not_installed_is_at_fault_before_the_job(tmp_path: Path) -> None:
    graders = {"a": {"type": "python", "source": "import no_such_package\ndef grade(s, i): return 1"}, "b": ANSWER}
    found = problem(tmp_path, {}, {"type": "multi", "graders": graders, "calculate_output": "a + b"})
    assert found is not None and (found.code, found.param) == ("invalid_grader", "method.reinforcement.grader")
    assert found.message.startswith(
        "grader 'a': exception: while loading: ModuleNotFoundError: No module named 'no_such"
    )
    assert "pip install no_such_package" in found.message


def test_a_grader_that_reads_what_no_row_has_is_at_fault_itself(tmp_path: Path) -> None:
    found = problem(tmp_path, {}, ANSWER)
    assert found is not None and (found.code, found.param) == ("invalid_grader", "method.reinforcement.grader")
    assert "file-train" in found.message and "line 1: grader 'string_check'" in found.message


def test_a_grader_that_cannot_be_made_is_named_holdouts_too(tmp_path: Path) -> None:
    broken = {"type": "python", "source": "def grade(:", "trusted": True}
    found = problem(tmp_path, {}, broken)
    assert found is not None and (found.code, found.param) == ("invalid_grader", "method.reinforcement.grader")
    found = problem(tmp_path, {}, holdout_graders={"honest one": broken})
    assert found is not None and found.param == "method.reinforcement.holdout_graders.honest one"
    assert stored_problem(found.stored) == found


def test_errors_without_a_code_are_read_as_a_failed_job() -> None:
    assert stored_problem("a tool is down") == Problem("job_failed", None, "a tool is down")
    assert stored_problem("[x]: y") == Problem("job_failed", None, "[x]: y")
    assert stored_problem("[worker_died]: it died") == Problem("worker_died", None, "it died")
    assert stored_problem("[invalid_training_file]: as stored before") == Problem(
        "invalid_training_file", None, "as stored before"
    )


@pytest.mark.parametrize("file", ["file-train", "file-valid", "file-demo"])
def test_a_row_with_a_tool_that_the_job_lacks_is_named(tmp_path: Path, file: str) -> None:
    row = {**ROWS[file][0], "tools": [{"type": "function", "function": {"name": "search"}}]}
    found = problem(tmp_path, {file: [*ROWS[file], row]})
    assert found is not None and f"line {len(ROWS[file]) + 1}: tools[0].function.name: the job has no" in found.message
