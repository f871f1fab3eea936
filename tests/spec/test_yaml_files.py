"""A job file is read as JSON would be: one encoding, each key once, finite numbers; else an error that says where."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrft.errors import UserError
from agentrft.spec import JobSpec, load_job
from agentrft.spec.graders import PythonGraderSpec

GRADER = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "x", "operation": "eq"}
JOB = {
    "model": "smollm2-135m",
    "training_file": "train.jsonl",
    "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"batch_size": 2}}},
}
TEXT = yaml.safe_dump(JOB)


def job_with(grader: dict[str, str]) -> dict[str, Any]:
    return {**JOB, "method": {"type": "reinforcement", "reinforcement": {"grader": grader}}}


def load(tmp_path: Path, content: bytes | str) -> JobSpec:
    path = tmp_path / "job.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_job(path)


def refusal(tmp_path: Path, content: bytes | str) -> str:
    with pytest.raises(UserError) as error:
        load(tmp_path, content)
    return error.value.cause


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    load(tmp_path, TEXT.encode("utf-8-sig"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (TEXT.encode("utf-16"), "the text is UTF-16; save it as UTF-8"),
        (TEXT.encode("utf-16-be"), "the text is UTF-16 or UTF-32; save it as UTF-8"),
        ((TEXT + "suffix: é\n").encode("latin-1"), "not UTF-8 (byte 0xe9 in line"),
        (TEXT + "seed: 1\nseed: 2\n", "the key 'seed' is there twice"),
        (TEXT.replace("batch_size: 2", "batch_size: 2\n      batch_size: 4"), "the key 'batch_size' is there twice"),
        (TEXT + "model_failed_reward: .nan\n", "model_failed_reward: nan is not a finite number"),
        (TEXT + "model_failed_reward: -.inf\n", "model_failed_reward: -inf is not a finite number"),
        (TEXT + "model_failed_reward: 1.0e+999\n", "model_failed_reward: inf is not a finite number"),
        (TEXT + "model_failed_reward: -1.0e+39\n", "greater than or equal to -1000000000"),
        (TEXT + f"seed: {'9' * 5000}\n", "not valid YAML"),
        (TEXT + f"metadata: {'[' * 10_000}\n", "nested more than 100 deep"),
        (TEXT + f"metadata: {'[' * 200}{']' * 200}\n", "metadata[0][0]: nested more than 100 deep"),
        (TEXT + "metadata: &a [*a]\n", "nested more than 100 deep"),
        (TEXT + "metadata: {started: 2026-01-02}\n", "metadata.started: a date; put it in quotation marks"),
        (TEXT + "metadata: {started: 2026-13-45}\n", "not valid YAML"),
        (TEXT + "metadata: !!set {a}\n", "metadata: a value of type set, which JSON has not"),
        (TEXT + "metadata: {1: a}\n", "metadata: the key 1 is not text"),
        (TEXT + "metadata: {a: !!bool maybe}\n", "not valid YAML"),
        (TEXT + "metadata: {a: !!int ''}\n", "not valid YAML"),
        (TEXT + "metadata: {a: !!python/object:os.system x}\n", "not valid YAML"),
        (TEXT + 'suffix: "\\ud83d"\n', "suffix: half of a surrogate pair"),
        ('{"\\ud83d": 1, "\\ud83d": 2}', "a key of 1 characters is there twice"),
        ('metadata: "\\ud83d" "\\ud83d"\n', "not valid YAML"),
        ("seed: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_job_file_is_refused_with_its_place(tmp_path: Path, content: bytes | str, problem: str) -> None:
    refused = refusal(tmp_path, content)
    assert problem in refused
    refused.encode()


def test_aliases_that_grow_without_bound_are_refused(tmp_path: Path) -> None:
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "more than 2000000 values" in refusal(tmp_path, TEXT + "metadata:\n  l0: &l0 [x]\n" + levels)


def test_merged_keys_may_be_given_again(tmp_path: Path) -> None:
    load(tmp_path, TEXT + "metadata: {<<: &base {team: a, area: x}, team: b}\n")


@pytest.mark.parametrize("name", ["learning_rate_multiplier", "temperature", "top_p", "max_grad_norm"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_every_number_of_a_job_is_finite(tmp_path: Path, name: str, value: float) -> None:
    inner = {"grader": GRADER, "hyperparameters": {name: value}}
    job = {**JOB, "method": {"type": "reinforcement", "reinforcement": inner}}
    assert "is not a finite number" in refusal(tmp_path, yaml.safe_dump(job))


PYTHON = "# é\ndef grade(sample, item):\n    return 1.0\n"


@pytest.mark.parametrize(
    "source", [PYTHON.encode(), PYTHON.encode("utf-8-sig"), b"# -*- coding: latin-1 -*-\n" + PYTHON.encode("latin-1")]
)
def test_a_grader_is_read_as_python_reads_it(tmp_path: Path, source: bytes) -> None:
    (tmp_path / "grader.py").write_bytes(source)
    grader = {"type": "python", "source_file": "grader.py", "name": "mine"}
    job = load(tmp_path, yaml.safe_dump(job_with(grader)))
    assert isinstance(job.grader, PythonGraderSpec)
    text = job.grader.source or ""
    assert "# é" in text
    compile(text, "grader.py", "exec")


@pytest.mark.parametrize("source", [PYTHON.encode("latin-1"), b"# -*- coding: no-such -*-\n", PYTHON.encode("utf-16")])
def test_a_grader_in_another_encoding_is_refused(tmp_path: Path, source: bytes) -> None:
    (tmp_path / "grader.py").write_bytes(source)
    grader = {"type": "python", "source_file": "grader.py", "name": "mine"}
    assert "grader.py" in refusal(tmp_path, yaml.safe_dump(job_with(grader)))


@pytest.mark.parametrize(
    "line", ["Authorization: [Bearer sk-secret", "Authorization: &a *b sk-secret", "x: !!int sk-secret"]
)
def test_a_line_with_a_header_is_not_quoted(tmp_path: Path, line: str) -> None:
    cause = refusal(tmp_path, f"{TEXT}headers:\n  {line}\n")
    assert "not valid YAML" in cause and "sk-secret" not in cause


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("model: ~nosuchuser/x", "model: no usable path"),
        ('output_dir: "a\\0b"', "output_dir: a NUL character"),
        ('suffix: "\\Uffffffff"', "not valid YAML"),
    ],
)
def test_what_no_path_and_no_text_can_be_is_refused(tmp_path: Path, field: str, problem: str) -> None:
    name = field.partition(":")[0]
    kept = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith(f"{name}:"))
    assert problem in refusal(tmp_path, f"{kept}{field}\n")


@pytest.mark.parametrize(
    "value",
    [
        "9" * 5000,
        "2026-13-45",
        "!!int sk-secret",
        "!!bool maybe",
        "!!float x",
        "!!timestamp x",
        '"\\Uffffffff"',
        '"\\U00110000"',
        "1" + ":59" * 500 + ".5",
    ],
)
def test_a_value_that_cannot_be_read_has_its_line_and_is_not_quoted(tmp_path: Path, value: str) -> None:
    cause = refusal(tmp_path, f"# first\nsuffix: {value}\n{TEXT}")
    assert "not valid YAML: line 2, column " in cause
    assert "secret" not in cause and len(cause) < 300
