"""The `integrations` of a create request: what a job may have of them, and whether what they need is here."""

import os
from typing import Any

from pydantic import ValidationError

from agentrft.errors import UserError
from agentrft.server.creation.hosts import check_host
from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings
from agentrft.sinks.requirements import check_requirements
from agentrft.spec import IntegrationSpec
from agentrft.spec.field_errors import describe_errors
from agentrft.spec.integrations import WithIntegrations

FIELD = "integrations"
# MLflow's client sends them to whatever server it is told of.
MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def read_integrations(given: Any, settings: Settings) -> list[dict[str, Any]]:
    """Those of a request, in the API's shape; none for null.

    Raises:
        ApiError: one is faulty, needs a package or key that is not here, or would write where a job may not.
    """
    try:
        integrations = WithIntegrations.model_validate({FIELD: [] if given is None else given}).integrations
    except ValidationError as error:
        message = describe_errors(error, WithIntegrations)
        raise ApiError(400, message, param=FIELD, code="invalid_value") from error
    for integration in integrations:
        _check_place(integration, settings)
        try:
            # A worker has the environment of its server.
            check_requirements(integration)
        except UserError as error:
            raise ApiError(400, f"{error.cause} {error.remedy}", param=FIELD, code="integration_unavailable") from error
    return [integration.model_dump(mode="json") for integration in integrations]


def _check_place(integration: IntegrationSpec, settings: Settings) -> None:
    """Refuse files of the server's machine, and hosts that jobs may not know."""
    if integration.type == "tensorboard" and integration.tensorboard.folder is not None and not settings.allow_code:
        raise _refused("tensorboard.folder", "leave it out: the job's own folder has the files then")
    if integration.type != "mlflow" or integration.mlflow.tracking_uri is None:
        return
    uri = integration.mlflow.tracking_uri
    own = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.rstrip("/") == own.rstrip("/"):
        return
    if any(os.environ.get(name) for name in MLFLOW_CREDENTIALS):
        message = (
            "mlflow.tracking_uri: the server's credentials are for its own MLFLOW_TRACKING_URI alone; leave it out."
        )
        raise ApiError(400, message, param=FIELD, code="host_not_allowed")
    if uri.startswith(("http://", "https://")):
        try:
            check_host(uri, settings)
        except ApiError as error:
            raise ApiError(400, error.message, param=FIELD, code="host_not_allowed") from error
    elif not settings.allow_code:
        raise _refused("mlflow.tracking_uri", "give the URL of a server")


def _refused(field: str, remedy: str) -> ApiError:
    message = f"{field}: it names a place on the server's machine, which was not started with --allow-code; {remedy}."
    return ApiError(400, message, param=FIELD, code="code_not_allowed")
