"""An environment without keys, and services that are this process's own."""

from collections.abc import Iterator

import pytest

from agentrft.job import metrics_out
from agentrft.sinks import feed

VARIABLES = (
    "WANDB_API_KEY",
    "WANDB_MODE",
    "WANDB_BASE_URL",
    "MLFLOW_TRACKING_URI",
    "TRACKIO_SPACE_ID",
    "TRACKIO_SERVER_URL",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries take long to be imported where other tests have the cores; what fails is tried again at once."""
    monkeypatch.setattr(metrics_out, "LAST_S", 120.0)
    monkeypatch.setattr(metrics_out, "LAST_OF_STOPPED_S", 120.0)
    monkeypatch.setattr(feed, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(feed, "LAST_PAUSE_S", 0.01)


@pytest.fixture
def wandb_process() -> Iterator[None]:
    """Its settings are read once for a process."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()
