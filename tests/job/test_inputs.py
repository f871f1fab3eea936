"""Data files on resuming a job."""

from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.job import create_job, resume_job
from agentrft.spec import load_job
from tests.job.tiny_job import write_job

NOWHERE = "http://127.0.0.1:9/tool"


@pytest.mark.parametrize("name", ["train.jsonl", "validation.jsonl", "demonstrations.jsonl"])
def test_a_job_does_not_resume_on_other_data_than_it_began_with(tmp_path: Path, name: str) -> None:
    job_file = write_job(tmp_path, tmp_path / "model", NOWHERE)
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with store:
        assert resume_job(store, job_id) == spec
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(before + before.splitlines()[0] + "\n")
        with pytest.raises(UserError, match=name) as refused:
            resume_job(store, job_id)
        assert refused.value.cause.count(".jsonl") == 1
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match="gone"):
            resume_job(store, job_id)
        (tmp_path / name).write_text(before)
        assert resume_job(store, job_id) == spec
