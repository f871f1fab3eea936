"""The API's `integrations`, with the stock SDK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from agentrft.server.creation.integrations import read_integrations
from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings
from agentrft.sinks import requirements
from tests.job.test_tuning import ROWS
from tests.job.tiny_job import write_rows
from tests.server.live import MODEL, Live, live, until, wait_for, workers

WANDB: Any = {"type": "wandb", "wandb": {"project": "agents", "name": None, "tags": ["first"]}}
BOARD: Any = {"type": "tensorboard"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("integrations") / "data"
    with live(folder, tiny_model, WANDB_MODE="offline", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        yield server


@pytest.mark.slow
def test_a_job_leaves_its_metrics_where_it_was_asked_to(own_server: Live, tmp_path: Path) -> None:
    client = own_server.client()
    write_rows(tmp_path / "rows.jsonl", ROWS["supervised"][:4])
    with (tmp_path / "rows.jsonl").open("rb") as file:
        file_id = client.files.create(file=file, purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file_id,
        integrations=[WANDB, BOARD],
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 2}}},
        extra_body={"dtype": "float32"},
    )
    job = wait_for(client, job.id)
    assert job.status == "succeeded", job.error
    wandb, board = job.integrations
    assert (wandb.type, wandb.wandb.project, wandb.wandb.entity) == ("wandb", "agents", None)
    assert wandb.wandb.tags == ["first"]
    assert board.type == "tensorboard"
    # A job has ended before all of it has arrived.
    until(lambda: not workers(own_server), "the worker's end")
    folder = own_server.data_dir / "jobs" / job.id
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert list(folder.glob(f"tensorboard/{job.id}/events.out.tfevents.*"))
    warned = [event.message for event in client.fine_tuning.jobs.list_events(job.id).data if event.level == "warn"]
    # Nothing takes the spans, and nothing else is amiss.
    assert len(warned) == 1 and "spans were not taken" in warned[0]


def test_what_is_missing_for_one_is_said_at_creation(client: OpenAI, files: dict[str, str]) -> None:
    method: Any = {"type": "supervised", "supervised": {}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model=MODEL, training_file=files["train"], method=method, integrations=[{**BOARD, "type": "mlflow"}]
        )
    assert refused.value.param == "integrations" and refused.value.code == "integration_unavailable"
    assert "MLFLOW_TRACKING_URI" in str(refused.value)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"type": "mlflow", "mlflow": {"tracking_uri": "sqlite:////etc/x.db"}}, "give the URL of a server"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "/tmp/runs"}}, "give the URL of a server"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "http://169.254.169.254"}}, "link-local"),
        ({"type": "tensorboard", "tensorboard": {"folder": "/tmp/runs"}}, "leave it out"),
        (WANDB, "export WANDB_API_KEY"),
        ({"type": "wandb", "wandb": {"project": "p", "projet": 1}}, "Accepted here: entity, name, project, tags"),
        ({"type": "mlflow", "mlflow": {"tracking_uri": "https://me:hunter2@host"}}, "credentials do not belong here"),
        ("all", "valid tuple"),
        ([BOARD] * 2, "lead to the same place"),
        ([{"type": "trackio", "trackio": {"project": str(number)}} for number in range(6)], "at most 5"),
    ],
)
def test_what_a_job_of_a_server_may_not_have(given: Any, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_integrations([given] if isinstance(given, dict) else given, Settings(Path("/nowhere")))
    assert refused.value.param == "integrations" and text in refused.value.message
    assert "hunter2" not in refused.value.message


def test_the_servers_credentials_go_to_its_own_mlflow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    given = {"type": "mlflow", "mlflow": {"tracking_uri": "https://elsewhere.example.com"}}
    with pytest.raises(ApiError, match="MLFLOW_TRACKING_URI alone"):
        read_integrations([given], Settings(Path("/nowhere")))
    for uri in ("https://mlflow.example.com/", None):
        read_integrations([{"type": "mlflow", "mlflow": {"tracking_uri": uri}}], Settings(Path("/nowhere")))


def test_a_package_that_is_not_here_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(ApiError, match=r"needs the package 'tensorboard'. Run `pip install 'agentrft\[tensorboard\]'`"):
        read_integrations([BOARD], Settings(Path("/nowhere")))
    assert read_integrations(None, Settings(Path("/nowhere"))) == []
