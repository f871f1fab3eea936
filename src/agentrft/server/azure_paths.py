"""The paths that Azure's clients ask for, as those of the API.

/openai/v1/X                                         the SDK's OpenAI with base_url=…/openai/v1
/openai/X?api-version=…                              the SDK's AzureOpenAI
/openai/deployments/NAME/chat/completions?api-version=…    the same; NAME is the model's name

A request is rewritten before anything else looks at it, so keys, hosts, limits and the response cache hold for all
forms alike.
"""

import re
from urllib.parse import unquote_plus

from starlette.types import Scope

PREFIX = "/openai/"
DEPLOYMENT = re.compile(r"/openai/deployments/(.+)(/chat/completions)")
VERSION = "api-version"
# Where a request's scope has the model that its path names.
DEPLOYMENT_MODEL = "agentrft.deployment"


def use_plain_path(scope: Scope) -> None:
    """Change an Azure client's path into the API's own; any other stays as it is. Its `api-version` is dropped."""
    path = scope["path"]
    if not path.startswith(PREFIX):
        return
    deployment = DEPLOYMENT.fullmatch(path)
    if deployment is not None:
        scope[DEPLOYMENT_MODEL] = deployment[1]
        plain = f"/v1{deployment[2]}"
    else:
        plain = f"/v1/{path.removeprefix(PREFIX).removeprefix('v1/')}"
    scope["path"] = plain
    parts = scope["query_string"].split(b"&")
    scope["query_string"] = b"&".join(part for part in parts if _name(part) != VERSION)


def _name(part: bytes) -> str:
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))
