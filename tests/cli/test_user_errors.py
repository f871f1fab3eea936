"""Every mistake that a new user is likely to make gives one message with its cause and what to do, and an exit code."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentrft.cli.sources import stored_rollouts
from agentrft.errors import UserError
from tests.cli.commands import Ran, run_alone, run_fresh
from tests.job.tiny_job import serving, write_job, write_rows
from tests.traffic.chaos_server import Behaviour, ChaosServer

NOWHERE = "http://127.0.0.1:9/tool"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def assert_one_message(ran: Ran, code: int, *texts: str) -> None:
    """Cause and remedy on standard error, once, without a traceback."""
    assert ran.code == code, ran.stderr
    assert ran.stderr.count("Error: ") == 1
    assert ran.stderr.count("What to do: ") == 1
    assert "Traceback" not in ran.stderr
    for text in texts:
        assert text in ran.stderr


def test_a_missing_job_file(folder: Path) -> None:
    assert_one_message(run_fresh("train", "job.yaml", folder=folder), 2, "job.yaml: no such job file", "agentrft init")


def test_no_job_at_all(folder: Path) -> None:
    assert_one_message(run_alone("train", folder=folder), 2, "--resume")


def test_an_unknown_option(folder: Path) -> None:
    assert_one_message(run_alone("train", "--stepz", "3", folder=folder), 2, "--stepz", "--help")


def test_a_folder_without_jobs(folder: Path) -> None:
    assert_one_message(run_alone("rollouts", "latest", folder=folder), 2, "there are no jobs", "agentrft train")


def test_a_missing_data_file(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE)
    (folder / "train.jsonl").unlink()
    assert_one_message(run_alone("train", "job.yaml", folder=folder), 2, "train.jsonl: no such data file")
    assert not (folder / "runs").exists(), "no job is made of it"


def test_bad_lines_are_all_reported_at_once(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE)
    (folder / "train.jsonl").write_text(
        '{"messages": [\n{"prompt": "hello"}\n{"messages": [{"role": "bot", "content": ""}]}\n'
    )
    ran = run_alone("train", "job.yaml", folder=folder)
    assert_one_message(
        ran, 2, "line 1: not valid JSON", "line 2: messages: expected", "line 3: messages[0].role: expected"
    )


LEGACY = {"role": "assistant", "content": None, "function_call": {"name": "lookup", "arguments": "{}"}}


@pytest.mark.parametrize("command", [("train",), ("check", "--burst", "0")], ids=["train", "check"])
def test_calls_in_demonstrations_that_would_teach_nonsense(folder: Path, command: tuple[str, ...]) -> None:
    write_job(folder, folder / "no-model-is-looked-at", NOWHERE)
    path = folder / "demonstrations.jsonl"
    first, second, third, *_ = (json.loads(line) for line in path.read_text().splitlines())
    first["messages"][1]["tool_calls"][0]["function"]["arguments"] = "[1]"
    second["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"colour": "red"}'
    third["messages"][1]["tool_calls"][0]["function"]["name"] = "search"
    legacy = {"messages": [*first["messages"][:1], LEGACY]}
    write_rows(path, [first, second, third, legacy])
    ran = run_alone(command[0], "job.yaml", *command[1:], folder=folder)
    assert ran.code == 2, ran.stderr
    said = " ".join((ran.stdout + ran.stderr).split())
    call = "messages[1].tool_calls[0].function"
    assert f"line 1: {call}.arguments: expected the JSON text of an object, found a list" in said
    assert f"line 2: {call}.arguments: they do not fit the parameters of 'lookup'" in said
    assert f"line 3: {call}.name: there is no tool 'search'; there are: lookup" in said
    assert "line 4: messages[1].function_call" in said
    assert "Traceback" not in said and not (folder / "runs").exists()


def test_an_unknown_field(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE, hyperparameters={"learning_rate": 1})
    assert_one_message(
        run_alone("train", "job.yaml", folder=folder),
        2,
        "unknown field 'learning_rate'",
        "did you mean",
        "Accepted here",
    )


def test_an_unknown_field_given_with_set(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE)
    ran = run_alone("train", "job.yaml", "--set", "hyperparameters.max_stepz=3", folder=folder)
    assert_one_message(ran, 2, "unknown field 'max_stepz'; did you mean 'max_steps'?")


def test_a_value_that_none_of_the_alternatives_takes(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE, hyperparameters={"n_epochs": 100})
    assert_one_message(
        run_alone("train", "job.yaml", folder=folder),
        2,
        "hyperparameters.n_epochs: Input should be less than or equal to 50; or: Input should be 'auto' (found 100)",
    )


def test_a_broken_grader(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE, grader={"type": "python", "source": "def grade(sample, item:\n"})
    assert_one_message(run_alone("train", "job.yaml", folder=folder), 2, "grader 'python'")


def test_a_model_that_does_not_exist(folder: Path) -> None:
    write_job(folder, Path("smollm2-135"), NOWHERE)
    ran = run_alone("train", "job.yaml", folder=folder)
    assert_one_message(ran, 2, "there is no model 'smollm2-135'. Did you mean 'smollm2-135m'?", "Hugging Face")


def test_a_tool_server_that_is_down(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE)
    ran = run_alone("train", "job.yaml", folder=folder)
    assert_one_message(ran, 3, "tool 'lookup'", "127.0.0.1:9", "Start the server")


def test_a_wrong_header(folder: Path, tiny_model: Path, tool_server: ChaosServer) -> None:
    tool = {"headers": {"Authorization": "Bearer wrong-secret"}}
    with serving(ChaosServer(default=Behaviour(status=401))) as server:
        write_job(folder, tiny_model, server.url, tool={**tool, "example": {"word": "colour"}})
        tried = run_alone("train", "job.yaml", folder=folder)
        write_job(folder, tiny_model, server.url, tool=tool, warm_start=None)
        untried = run_alone("train", "job.yaml", folder=folder)
    assert_one_message(tried, 3, "tool 'lookup'", "401", "headers")
    assert_one_message(untried, 5, "tool 'lookup'", "its key or token was never taken: HTTP 401")
    assert "wrong-secret" not in tried.stdout + tried.stderr + untried.stdout + untried.stderr


def test_a_header_of_a_variable_that_is_not_set(folder: Path, tiny_model: Path) -> None:
    write_job(folder, tiny_model, NOWHERE, tool={"headers": {"Authorization": "Bearer ${NOT_SET_ANYWHERE}"}})
    assert_one_message(run_alone("train", "job.yaml", folder=folder), 2, "NOT_SET_ANYWHERE", "export")


def test_a_prompt_longer_than_the_context(folder: Path, tiny_model: Path, tool_server: ChaosServer) -> None:
    write_job(folder, tiny_model, tool_server.url)
    row = {"messages": [{"role": "user", "content": "why? " * 300}], "word": "why"}
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    ran = run_alone("train", "job.yaml", folder=folder)
    assert_one_message(ran, 2, "1 prompt(s) do not fit", "row 00007", "max_context_tokens")


def test_a_baseline_without_any_reward(folder: Path, tiny_model: Path, tool_server: ChaosServer) -> None:
    source = "def grade(sample, item):\n    return 0.0\n"
    write_job(folder, tiny_model, tool_server.url, grader={"type": "python", "trusted": True, "source": source})
    ran = run_alone("baseline", "job.yaml", "-k", "2", "--json", folder=folder)
    assert_one_message(ran, 4, "every reward is 0", "warm start")
    assert ran.answer["reward_mean"] == 0
    assert ran.answer["error"]["exit_code"] == 4
    assert ran.answer["verdict"]["trainable"] is False


def test_with_json_an_error_is_one_object_on_standard_output(folder: Path) -> None:
    ran = run_alone("train", "job.yaml", "--json", folder=folder)
    assert set(ran.answer["error"]) == {"cause", "remedy", "exit_code"}
    assert ran.answer["error"]["exit_code"] == ran.code == 2


def test_debug_shows_where_it_happened(folder: Path) -> None:
    assert "Traceback" in run_alone("train", "job.yaml", "--debug", folder=folder).stderr


def test_an_argument_that_is_not_utf8(folder: Path) -> None:
    ran = run_fresh("grade", "job.yaml", "--answer", "\udcff", folder=folder)
    assert_one_message(ran, 2, "argument 4 is not UTF-8")


@pytest.mark.parametrize(
    ("line", "problem"),
    [('{"n": ' + "9" * 5000 + "}", "a number of 5000 digits"), ("[" * 10_000 + "]" * 10_000, "nested more than 100")],
)
def test_a_row_that_python_cannot_read(folder: Path, tiny_model: Path, line: str, problem: str) -> None:
    write_job(folder, tiny_model, NOWHERE)
    (folder / "train.jsonl").write_text(line)
    assert_one_message(run_alone("train", "job.yaml", folder=folder), 2, "train.jsonl", problem)


RECORD = {
    "trace_id": "t",
    "attempt": 0,
    "sample_id": "00001-ab",
    "step": 1,
    "index": 0,
    "outcome": "graded",
    "turns": [],
    "messages": [],
}


@pytest.mark.parametrize(
    "record",
    [
        None,
        "",
        "{bad",
        "[1]",
        '{"turns": []}',
        json.dumps({**RECORD, "turns": [5]}),
        json.dumps({**RECORD, "turns": [{}]}),
        json.dumps({**RECORD, "messages": [5]}),
        json.dumps({**RECORD, "messages": 5}),
        json.dumps({**RECORD, "grade": {"x": 1}}),
        json.dumps({**RECORD, "unknown": 1}),
        json.dumps({name: value for name, value in RECORD.items() if name != "index"}),
    ],
)
def test_a_row_without_the_record_of_a_rollout_is_named(folder: Path, record: str | None) -> None:
    path = folder / "rollouts.parquet"
    pq.write_table(pa.table({"record": pa.array([json.dumps(RECORD), record], pa.string())}), path)
    with pytest.raises(UserError) as raised:
        stored_rollouts(str(path), None)
    assert raised.value.cause.startswith(f"{path}, row 1: ")


def test_records_are_enough_of_a_parquet_file(folder: Path) -> None:
    path = folder / "rollouts.parquet"
    pq.write_table(pa.table({"record": [json.dumps(RECORD)]}), path)
    _, (row,) = stored_rollouts(str(path), None)
    assert (row["sample_id"], row["reward"], row["record"]["failure_kind"]) == ("00001-ab", None, None)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + b"\0" * 64 + b"PAR1"])
@pytest.mark.parametrize("command", [("rollouts",), ("grade", "job.yaml", "--rollouts")])
def test_a_file_that_is_no_parquet(folder: Path, content: bytes, command: tuple[str, ...]) -> None:
    write_job(folder, folder / "model", NOWHERE)
    (folder / "rollouts.parquet").write_bytes(content)
    assert_one_message(run_alone(*command, "rollouts.parquet", folder=folder), 2, "rollouts.parquet: no Parquet file")


def test_a_parquet_file_of_something_else(folder: Path) -> None:
    pq.write_table(pa.table({"other": [1]}), folder / "rollouts.parquet")
    ran = run_fresh("rollouts", "rollouts.parquet", folder=folder)
    assert_one_message(ran, 2, "rollouts.parquet, row 0: ", "record")
