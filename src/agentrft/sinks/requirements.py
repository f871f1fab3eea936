"""What must be there for a sink, found without importing its library: the API's process looks, too."""

import netrc
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from agentrft.errors import UserError, missing_package
from agentrft.spec import IntegrationSpec

# Where keys are; an address of MLflow's may have one, too.
SECRET_VARIABLES = (
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "HF_TOKEN",
    "TRACKIO_WRITE_TOKEN",
)
WANDB_URL = "https://api.wandb.ai"
WITHOUT_KEY = ("offline", "disabled", "dryrun")


def check_requirements(integration: IntegrationSpec) -> None:
    """Look for the package and the key.

    Raises:
        UserError: one of them is missing.
    """
    kind = integration.type
    # The packages, and our extras that bring them, are called as the types are.
    if find_spec(kind) is None:
        raise missing_package(f"integrations: {kind}", kind, extra=kind)
    if kind == "wandb" and not _has_wandb_key():
        raise UserError(
            "integrations: wandb: there is no key: the environment has no WANDB_API_KEY.",
            "Run `export WANDB_API_KEY=...` where the job runs (of a server: where it is started), or `wandb login`; "
            "with WANDB_MODE=offline none is needed.",
        )
    is_mlflow_somewhere = integration.type != "mlflow" or integration.mlflow.tracking_uri is not None
    if not is_mlflow_somewhere and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError(
            "integrations: mlflow: where to is not said.",
            "Give `tracking_uri`, or set MLFLOW_TRACKING_URI where the job runs.",
        )


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The keys in an environment, which no message may show, by the names of their variables."""
    found = {name: environment[name] for name in SECRET_VARIABLES if environment.get(name)}
    address = urlsplit(environment.get("MLFLOW_TRACKING_URI", ""))
    return {**found, "password": address.password} if address.password else found


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_MODE", "").lower() in WITHOUT_KEY:
        return True
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or WANDB_URL).hostname or ""
    # Where `wandb login` writes to.
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
