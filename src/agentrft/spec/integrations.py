"""Where the metrics of a job's steps go beside its own record: the API's `integrations`, and the same in a job's file.

Keys are never written here. They are in the environment of the process that runs the job, as each library reads them.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from agentrft.spec.base import SpecModel

MOST_INTEGRATIONS = 5
Name = Annotated[str, Field(min_length=1, max_length=128)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=64)]
# What MLflow takes as the address of its store; a path without one is a folder.
SCHEMES = ("", "http", "https", "sqlite", "file", "databricks")


class WandbSpec(SpecModel):
    """A run of Weights & Biases; the fields are the hosted API's.

    Attributes:
        project: that it is in.
        entity: the user or team; None for the key's own.
        name: what the run is called; None for the job's id.
        tags: of the run.
    """

    project: Name
    entity: Name | None = None
    name: Name | None = None
    tags: Tags | None = None


class MlflowSpec(SpecModel):
    """A run of MLflow.

    Attributes:
        tracking_uri: a server's URL, a database as `sqlite:///mlflow.db`, or a folder; None for what the variable
            MLFLOW_TRACKING_URI says. Credentials are variables, too.
        experiment: that the run is in.
        name: what the run is called; None for the job's id.
        tags: of the run.
    """

    tracking_uri: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    experiment: Name = "agentrft"
    name: Name | None = None
    tags: Tags | None = None

    @field_validator("tracking_uri")
    @classmethod
    def _without_credentials(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme)
            raise ValueError(f"accepted are a folder and {known}; give others as the variable MLFLOW_TRACKING_URI")
        if "@" in parts.netloc or parts.query:
            raise ValueError(
                "credentials do not belong here: give them as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
                "or as MLFLOW_TRACKING_TOKEN"
            )
        return value


class TensorBoardSpec(SpecModel):
    """Event files for TensorBoard.

    Attributes:
        folder: a folder named by the job's id is made in it; None for `tensorboard` in the job's own folder.
    """

    folder: Path | None = None


class TrackioSpec(SpecModel):
    """A run of Trackio.

    Attributes:
        project: that it is in.
        name: what it is called; None for the job's id.
    """

    project: Name = "agentrft"
    name: Name | None = None


class WandbIntegration(SpecModel):
    """Metrics to Weights & Biases, as the hosted API has it.

    Attributes:
        type: always "wandb".
        wandb: which run.
    """

    type: Literal["wandb"]
    wandb: WandbSpec


class MlflowIntegration(SpecModel):
    """Metrics to MLflow.

    Attributes:
        type: always "mlflow".
        mlflow: which run.
    """

    type: Literal["mlflow"]
    mlflow: MlflowSpec = MlflowSpec()


class TensorBoardIntegration(SpecModel):
    """Metrics to event files of TensorBoard.

    Attributes:
        type: always "tensorboard".
        tensorboard: where they are.
    """

    type: Literal["tensorboard"]
    tensorboard: TensorBoardSpec = TensorBoardSpec()


class TrackioIntegration(SpecModel):
    """Metrics to Trackio.

    Attributes:
        type: always "trackio".
        trackio: which run.
    """

    type: Literal["trackio"]
    trackio: TrackioSpec = TrackioSpec()


IntegrationSpec = Annotated[
    WandbIntegration | MlflowIntegration | TensorBoardIntegration | TrackioIntegration, Field(discriminator="type")
]
Integrations = Annotated[tuple[IntegrationSpec, ...], Field(max_length=MOST_INTEGRATIONS)]


class WithIntegrations(SpecModel):
    """What has them. Two may not lead to the same run, which would then have every point twice."""

    integrations: Integrations = ()

    @field_validator("integrations")
    @classmethod
    def _they_differ(cls, value: Integrations) -> Integrations:
        places = [_place(one) for one in value]
        for number, place in enumerate(places):
            if place in places[:number]:
                raise ValueError(f"two of the type {place[0]} lead to the same place; leave one out")
        return value


def _place(integration: IntegrationSpec) -> tuple[object, ...]:
    match integration:
        case WandbIntegration(wandb=of):
            return integration.type, of.entity, of.project
        case MlflowIntegration(mlflow=of):
            return integration.type, of.tracking_uri, of.experiment
        case TensorBoardIntegration(tensorboard=of):
            return integration.type, of.folder
        case TrackioIntegration(trackio=of):
            return integration.type, of.project
