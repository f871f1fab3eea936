"""Values of `headers` and `env`, and what URLs carry of credentials and queries, stay out of the store: it says `***`,
and a resumed job reads its file again.

A value goes back only to the part that had it: the same name at the same URL, or the same command.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.spec import AnyJobSpec, BaseJobSpec, load_any_job, stored_job
from agentrft.traffic import public_url

HIDDEN = "***"
HIDDEN_QUERY = f"?{HIDDEN}"
URL_FIELDS = ("server_url", "url", "base_url")
SECRET_MAPPINGS = ("headers", "env")


def stored_spec(spec: BaseJobSpec, source: Path | None) -> dict[str, Any]:
    """The spec as it is stored: `{"source": path of the job's file or None, "job": the spec without secrets}`."""
    job = spec.model_dump(mode="json")
    for part in _parts(job):
        for field in part.mappings:
            part.fields[field] = dict.fromkeys(part.fields[field], HIDDEN)
        for field in part.urls:
            shown = public_url(part.fields[field])
            if shown != part.fields[field]:
                part.fields[field] = shown + HIDDEN_QUERY
    return {"source": str(source.resolve()) if source else None, "job": job}


def restored_spec(stored: dict[str, Any]) -> AnyJobSpec:
    """The spec of a stored job, with secrets from its file where it has any.

    Raises:
        UserError: secrets are needed and the file is gone, or no longer has them for the same part.
    """
    job = stored_job(stored["job"]).model_dump(mode="json")
    if has_hidden(job):
        source = stored["source"]
        if source is None:
            raise UserError("the job's header values are not stored, and it came from no file.", "Start it anew.")
        current = load_any_job(Path(source)).model_dump(mode="json")
        fill_secrets(job, current, source, "Put them back, or start a new job.")
    return stored_job(job)


def has_hidden(job: dict[str, Any]) -> bool:
    """Whether any secret of a dumped spec is hidden; of its headers one that is `***` is enough."""
    return any(part.hides_something for part in _parts(job))


def fill_secrets(job: dict[str, Any], known: dict[str, Any], source: str, remedy: str) -> None:
    """Put the secrets that a dumped spec hides back in place.

    Args:
        known: a dumped spec that has them; a value goes only to the part that has it there.
        source: where that is from, and what to do where it lacks one: for messages.

    Raises:
        UserError: it lacks one.
    """
    parts = {part.identity: part for part in _parts(known)}
    for part in _parts(job):
        if part.hides_something:
            found = parts.get(part.identity)
            _restore(part, {} if found is None else found.fields, source, remedy)


@dataclass
class _Part:
    """What has secrets: a tool, a hook, a grader, an engine's server.

    Attributes:
        name: for messages.
        fields: in the dumped spec, to change in place.
    """

    name: str
    fields: dict[str, Any]

    @property
    def urls(self) -> list[str]:
        return [field for field in URL_FIELDS if self.fields.get(field)]

    @property
    def mappings(self) -> list[str]:
        return [field for field in SECRET_MAPPINGS if self.fields.get(field)]

    @property
    def place(self) -> str:
        """Its URL, as it may be shown, or its command."""
        urls = [public_url(self.fields[field]) for field in self.urls]
        several = [public_url(url) for url in self.fields.get("urls") or ()]
        command = self.fields.get("command") or ""
        return " ".join(urls[:1] or several) or (command if isinstance(command, str) else shlex.join(command))

    @property
    def identity(self) -> tuple[str, str]:
        return self.name, self.place

    @property
    def hides_something(self) -> bool:
        return any(HIDDEN in self.fields[field].values() for field in self.mappings) or any(
            self.fields[field].endswith(HIDDEN_QUERY) for field in self.urls
        )


def _restore(part: _Part, known: dict[str, Any], source: str, remedy: str) -> None:
    for field in part.mappings:
        values = known.get(field) or {}
        hidden = [name for name, value in part.fields[field].items() if value == HIDDEN]
        missing = sorted(hidden - values.keys())
        if missing:
            raise UserError(
                f"{source} has no {field} {missing} of '{part.name}' at {part.place}, whose values are needed.", remedy
            )
        part.fields[field] |= {name: values[name] for name in hidden}
    for field in part.urls:
        if part.fields[field].endswith(HIDDEN_QUERY):
            if not known:
                raise UserError(f"{source} has no '{part.name}' at {part.place}, whose URL is needed.", remedy)
            part.fields[field] = known[field]


def _parts(job: dict[str, Any]) -> Iterator[_Part]:
    """Every part of a dumped spec that may have secrets."""
    for tool in job.get("tools", ()):
        yield _Part(f"tool {tool.get('name') or tool.get('server_label')}", tool)
    for name in ("on_rollout_start", "on_rollout_end"):
        if job.get(name) is not None:
            yield _Part(name, job[name])
    if job.get("engine"):
        yield _Part("engine", job["engine"])
    graders = {"grader": job["grader"]} if "grader" in job else {}
    graders |= {f"holdout {name}": one for name, one in job.get("holdout_graders", {}).items()}
    for label, grader in graders.items():
        several = grader["graders"] if grader["type"] == "multi" else {grader["name"]: grader}
        for name, one in several.items():
            yield _Part(f"{label} {name}", one)
