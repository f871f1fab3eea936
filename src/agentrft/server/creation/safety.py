"""What of a job would reach out of it: refused, whoever asks and by whichever route."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentrft.engine.vllm.installed import installed_command
from agentrft.job.secrets import URL_FIELDS
from agentrft.server.creation.hosts import check_host
from agentrft.server.creation.own_cluster import check_cluster
from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings
from agentrft.spec import expand_variables

# Of an engine, what reaches into the server's machine or is asked in its name.
OF_THE_SERVER = {
    "adapters": "a folder of the server's is",
    "command": "what runs on the server's machine is",
    "urls": "several servers are",
}
USUAL_KEY = "OPENAI_API_KEY"
# Upper case, as variables are: what else somebody gives here may be the key itself.
VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


def check_safety(job: Mapping[str, Any], settings: Settings) -> None:
    """Refuse what would reach out of a job: code in the server's name, files, and hosts that it may not know.

    Raises:
        ApiError: with what was refused.
    """
    expand_variables(dict(job), "job", allowed=settings.allowed_env)
    for field, what in OF_THE_SERVER.items():
        if (job.get("engine") or {}).get(field):
            message = f"engine.{field}: {what} not for a request to name; leave it out."
            raise ApiError(400, message, param="engine", code="invalid_value")
    check_cluster(job.get("cluster") or {}, settings)
    engine = job.get("engine") or {}
    if engine.get("type") == "vllm" and not engine.get("url") and not installed_command():
        message = "engine.url: the address of a vLLM server is needed; none was installed here."
        raise ApiError(400, message, param="engine", code="invalid_value")
    for part in parts_of(job):
        if not settings.allow_code:
            _refuse_code(part)
        variable = part.get("api_key_env")
        if variable not in (None, USUAL_KEY, *settings.allowed_env):
            if not VARIABLE_NAME.fullmatch(str(variable)):
                message = "api_key_env: the name of a variable is needed; a key itself belongs into `headers`."
                raise ApiError(400, message, param="method", code="variable_not_allowed")
            raise ApiError(
                400,
                f"api_key_env: the variable {variable} may not be read here; the server was not started with "
                f"--allow-env {variable}.",
                param="method",
                code="variable_not_allowed",
            )
        # A model of this server's own is asked by a way that no job chooses.
        for field in () if part.get("served_here") else URL_FIELDS:
            if part.get(field):
                check_host(str(part[field]), settings)


def parts_of(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Tools, hooks, single graders and the engine of a dumped spec."""
    if job.get("engine"):
        yield job["engine"]
    yield from job.get("tools") or ()
    yield from (job[name] for name in ("on_rollout_start", "on_rollout_end") if job.get(name))
    for grader in (*([job["grader"]] if "grader" in job else ()), *(job.get("holdout_graders") or {}).values()):
        yield from grader["graders"].values() if grader["type"] == "multi" else (grader,)


def _refuse_code(part: dict[str, Any]) -> None:
    what = None
    if part.get("type") == "python" and "function" in part:
        what = "a Python function as a tool"
    elif part.get("command"):
        what = "an MCP server as a command"
    elif part.get("trusted"):
        what = "a grader with `trusted: true`"
    elif part.get("record") or part.get("replay"):
        what = "`record` and `replay`"
    if what is not None:
        raise ApiError(
            400,
            f"{what} would run, or write, in the server's own name; it was not started with --allow-code.",
            param="method",
            code="code_not_allowed",
        )
