"""A project of `agentrft init`, its tool server, and the commands, all by the Python of another environment."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from agentrft.store import JobStore

COMMAND_TIMEOUT_S = 1800
# Nothing of the environment that runs the tests.
FORGOTTEN = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}


def run(program: Path, *arguments: str, folder: Path) -> str:
    """Standard output of a command that must succeed."""
    ended = subprocess.run(
        [str(program), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert ended.returncode == 0, f"{arguments}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@contextmanager
def project_of_two_steps(python: Path, folder: Path) -> Iterator[Path]:
    """Write a project of two steps with `agentrft init`, and run its tool server on a free port."""
    run(python.with_name("agentrft"), "init", "project", folder=folder)
    project = folder / "project"
    command = [str(python), "tool_server.py", "--port", "0"]
    with subprocess.Popen(command, cwd=project, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            url = next(found.group() for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            job = yaml.safe_load((project / "job.yaml").read_text())
            inner = job["method"]["reinforcement"]
            inner["tools"][0]["server_url"] = f"{url}/tools/lookup"
            inner["hyperparameters"]["max_steps"] = 2
            (project / "job.yaml").write_text(yaml.safe_dump(job))
            yield project
        finally:
            server.terminate()


def check_and_train(python: Path, project: Path) -> None:
    """`check` finds nothing that would fail the job, and `train` does its two steps."""
    agentrft = python.with_name("agentrft")
    run(agentrft, "check", "job.yaml", folder=project)
    run(agentrft, "train", "job.yaml", folder=project)
    with JobStore(project / "runs", create=False) as store:
        (job,) = store.list_jobs()
        assert job.status == "succeeded"
        assert len(list((store.job_folder(job.job_id) / "rollouts").glob("train-*"))) == 2
