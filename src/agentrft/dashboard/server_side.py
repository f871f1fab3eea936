"""What pages can do beyond looking, where a server is around them: their scripts use its API."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import yaml

from agentrft.store import JobRow

Action = Literal["pause", "resume", "cancel", "clone"]


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file that a job can use."""

    file_id: str
    filename: str


class ServerSide(Protocol):
    """All of it is asked in threads, at each look at a page."""

    def actions(self, job: JobRow) -> list[Action]:
        """What can be done with a job now; nothing with one that came from elsewhere."""
        ...

    def request(self, job_id: str) -> dict[str, Any] | None:
        """The request that a job was created with, with `***` for secrets; None of one that came from elsewhere."""
        ...

    def base_models(self) -> list[str]: ...

    def files(self) -> list[StoredFile]:
        """Newest first."""
        ...

    def chat_models(self, job_id: str) -> list[str]:
        """Names that a job's weights are chatted with by: the best first, then the newest, then what it began with."""
        ...


def as_yaml(value: Any) -> str:
    """As a person would write it: in the order given, and text of several lines as such."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
