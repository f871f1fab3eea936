"""Header values stay out of the store: what is stored says `***`, and a resumed job reads them from its file again.

A value goes back only to the tool or grader that had it: the same name at the same URL.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.spec import JobSpec, load_job

HIDDEN = "***"


def stored_spec(spec: JobSpec, source: Path | None) -> dict[str, Any]:
    """The spec as it is stored: `{"source": path of the job's file or None, "job": the spec without secrets}`."""
    job = spec.model_dump(mode="json")
    for _, endpoint in _endpoints(job):
        endpoint["headers"] = dict.fromkeys(endpoint["headers"], HIDDEN)
    return {"source": str(source.resolve()) if source else None, "job": job}


def restored_spec(stored: dict[str, Any]) -> JobSpec:
    """The spec of a stored job, with header values from its file where it has any.

    Raises:
        UserError: header values are needed and the file is gone, or no longer has them for the same endpoint.
    """
    job = JobSpec.model_validate(stored["job"]).model_dump(mode="json")
    hidden = [(identity, endpoint) for identity, endpoint in _endpoints(job) if endpoint["headers"]]
    if hidden:
        source = stored["source"]
        if source is None:
            raise UserError("the job's header values are not stored, and it came from no file.", "Start it anew.")
        current = dict(_endpoints(load_job(Path(source)).model_dump(mode="json")))
        for identity, endpoint in hidden:
            headers = current.get(identity, {}).get("headers", {})
            missing = sorted(endpoint["headers"].keys() - headers.keys())
            if missing:
                raise UserError(
                    f"{source} no longer has the headers {missing} of '{identity[0]}' at {identity[1]}, "
                    "which the job was started with.",
                    "Put them back, or start a new job.",
                )
            endpoint["headers"] = {name: headers[name] for name in endpoint["headers"]}
    return JobSpec.model_validate(job)


def _endpoints(job: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Everything in a dumped spec that has headers, by name and URL."""
    for tool in job["tools"]:
        yield (f"tool {tool['name']}", tool["server_url"]), tool
    grader = job["grader"]
    graders = grader["graders"] if grader["type"] == "multi" else {grader["name"]: grader}
    for name, one in graders.items():
        if one["type"] == "endpoint":
            yield (f"grader {name}", one["url"]), one
