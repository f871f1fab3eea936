"""A real vLLM server that an actor of Ray starts, and sends each version of the policy."""

import os
import shlex
from pathlib import Path

import pytest

from tests.cluster.ray_jobs import cluster_of, events, run
from tests.job.tiny_job import make_model, one_thread, serving, write_job
from tests.server.inference_server import VLLM_HEAD_DIM
from tests.traffic.chaos_server import ChaosServer
from tests.vllm.server import VllmServer

pytestmark = pytest.mark.vllm


def test_a_job_samples_by_a_server_in_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(os.environ["AGENTRFT_VLLM_PYTHON"]).absolute()
    with one_thread():
        model = make_model(tmp_path / "model", VLLM_HEAD_DIM, updates=80)
    command = shlex.join(VllmServer(python, model, "tiny", tmp_path / "unused").own_command)
    with one_thread(), cluster_of(1, monkeypatch) as cluster, serving(ChaosServer()) as tools:
        job_file = write_job(
            tmp_path,
            model,
            tools.url,
            engine={"type": "vllm", "command": command, "model": "tiny"},
            cluster={"engines": 1, "gpus_per_engine": 0, "address": cluster.address},
            hyperparameters={"max_steps": 3, "lora_rank": 8},
        )
        ended = run(job_file)
    steps = [line for line in ended.lines if line["phase"] == "train"]
    assert [line["step"] for line in steps] == [1, 2, 3]
    # Had it sampled from another version than the newest, the two would differ by more after each step.
    assert all(line["logprob_gap_mean"] < 0.02 for line in steps), [line["logprob_gap_mean"] for line in steps]
    assert len({line["policy_version"] for line in steps}) == 3
    assert not [text for text in events(job_file) if "vLLM server" in text]
