"""`--set`: fields of a job, replaced from the command line."""

from pathlib import Path

import pytest

from agentrft.cli.overrides import load_job_with
from agentrft.errors import UserError
from tests.job.tiny_job import write_job

URL = "http://127.0.0.1:9/tool"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_job(tmp_path, Path("smollm2-135m"), URL)


def test_fields_are_replaced_with_values_in_yaml(path: Path) -> None:
    job = load_job_with(
        path, ["seed=11", "hyperparameters.batch_size=4", "tools.0.timeout_s=2.5", "validation_file=null"]
    )
    assert (job.seed, job.hyperparameters.batch_size, job.tools[0].timeout_s) == (11, 4, 2.5)
    assert job.validation_file is None


def test_the_method_may_be_named_or_left_out(path: Path) -> None:
    job = load_job_with(path, ["method.reinforcement.hyperparameters.n_epochs=3"])
    assert job.hyperparameters.n_epochs == 3


def test_a_mapping_that_the_file_lacks_is_made(path: Path) -> None:
    assert load_job_with(path, ["engine.max_batch_size=3"]).engine.max_batch_size == 3


def test_the_last_of_two_values_counts(path: Path) -> None:
    assert load_job_with(path, ["seed=1", "seed=2"]).seed == 2


def test_relative_paths_start_at_the_jobs_file(path: Path) -> None:
    assert load_job_with(path, ["training_file=validation.jsonl"]).training_file == path.parent / "validation.jsonl"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected path.to.field=value"),
        ("=3", "expected path.to.field=value"),
        ("seeed=3", "unknown field 'seeed'; did you mean 'seed'"),
        ("seed=much", "seed"),
        ("seed=[1", "not valid YAML"),
        ("tools.7.name=x", "no entry of a list of 1"),
        ("model.size=3", "no fields above 'size'"),
        ("tools.0.headers.Authorization=secret", "cannot give headers"),
    ],
)
def test_what_cannot_be_set_is_refused(path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_job_with(path, [override])
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("entry", ["²", "٣", "9" * 5000, "-1", "+0", "0x0", "1"])
def test_what_is_no_entry_of_a_list_is_refused(path: Path, entry: str) -> None:
    with pytest.raises(UserError, match="no entry of a list of 1"):
        load_job_with(path, [f"tools.{entry}.name=g"])


@pytest.mark.parametrize("method", ["5", "null", "rft", "[1]", "{type: x}", "{reinforcement: 5}"])
@pytest.mark.parametrize("field", ["grader.type=x", "grader={}", "tools=[]", "hyperparameters.n_epochs=2"])
def test_fields_of_a_method_that_is_none_are_refused(path: Path, method: str, field: str) -> None:
    with pytest.raises(UserError, match="no method to set this in"):
        load_job_with(path, [f"method={method}", field])
