"""Values of `headers` and `env` stay out of the store, which says `***`: a resumed job reads its file again.

A value goes back only to the part that had it: the same name at the same URL, or the same command.
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
    for _, holder, field in _secrets(job):
        holder[field] = dict.fromkeys(holder[field], HIDDEN)
    return {"source": str(source.resolve()) if source else None, "job": job}


def restored_spec(stored: dict[str, Any]) -> JobSpec:
    """The spec of a stored job, with secrets from its file where it has any.

    Raises:
        UserError: secrets are needed and the file is gone, or no longer has them for the same part.
    """
    job = JobSpec.model_validate(stored["job"]).model_dump(mode="json")
    hidden = [(identity, holder, field) for identity, holder, field in _secrets(job) if holder[field]]
    if hidden:
        source = stored["source"]
        if source is None:
            raise UserError("the job's header values are not stored, and it came from no file.", "Start it anew.")
        current = {
            (identity, field): holder[field]
            for identity, holder, field in _secrets(load_job(Path(source)).model_dump(mode="json"))
        }
        for identity, holder, field in hidden:
            values = current.get((identity, field), {})
            missing = sorted(holder[field].keys() - values.keys())
            if missing:
                raise UserError(
                    f"{source} no longer has the {field} {missing} of '{identity[0]}' at {identity[1]}, "
                    "which the job was started with.",
                    "Put them back, or start a new job.",
                )
            holder[field] = {name: values[name] for name in holder[field]}
    return JobSpec.model_validate(job)


def _secrets(job: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any], str]]:
    """Every mapping of secrets in a dumped spec: whose (name, and URL or command), what holds it, under which key."""
    holders = [(f"tool {tool.get('name') or tool.get('server_label')}", tool) for tool in job["tools"]]
    holders += [(name, job[name]) for name in ("on_rollout_start", "on_rollout_end") if job[name] is not None]
    graders = {"grader": job["grader"]} | {f"holdout {name}": one for name, one in job["holdout_graders"].items()}
    for label, grader in graders.items():
        several = grader["graders"] if grader["type"] == "multi" else {grader["name"]: grader}
        holders += [(f"{label} {name}", one) for name, one in several.items()]
    for name, holder in holders:
        place = holder.get("server_url") or holder.get("url") or holder.get("base_url") or holder.get("command") or ""
        for field in ("headers", "env"):
            if field in holder:
                yield (name, place), holder, field
