"""The steps of a job by their files: its rollouts, here or in a bucket, and the facts that are made of them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agentrft.report.why.facts import VERSION
from agentrft.store.layout import rollouts_folder

NAME = re.compile(r"(?P<phase>[a-z_]+)-(?P<step>\d+)")
NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class StepFile:
    """The rollouts of a step, and where their facts are or will be.

    Attributes:
        since: of rollouts that lie in a bucket: when they were stored, in seconds since the epoch. `source` is then
            where a copy of them is, if there is one.
    """

    phase: str
    step: int
    source: Path
    facts: Path
    since: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there are facts of the rollouts as they are now."""
        return self._is_of_now(self.facts)

    @property
    def is_unreadable(self) -> bool:
        """Whether the rollouts as they are now could not be read."""
        return self._is_of_now(self.damage)

    @property
    def is_to_be_made(self) -> bool:
        return not self.is_ready and not self.is_unreadable

    @property
    def is_elsewhere(self) -> bool:
        """Whether its rollouts have to be fetched before they can be read."""
        return self.since is not None and not self._is_of_now(self.source)

    @property
    def damage(self) -> Path:
        """Where it is said why rollouts could not be read."""
        return self.facts.with_suffix(".unreadable")

    def state(self) -> int:
        """Of the rollouts; another one where they were written anew."""
        return self.source.stat().st_mtime_ns if self.since is None else int(self.since * 1e9)

    def mark(self, path: Path, state: int) -> None:
        """Say that a file is of the rollouts in that state: it has their time."""
        os.utime(path, ns=(state, state))

    def _is_of_now(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns == self.state()
        except FileNotFoundError:
            return False


def own_facts(job_folder: Path) -> Path:
    """Where a job's facts are kept, if that may be written."""
    return job_folder / "facts"


def copies_folder(facts_folder: Path) -> Path:
    """Where copies of rollouts are that lie in a bucket."""
    return facts_folder / "fetched"


def step_files(
    job_folder: Path, facts_folder: Path | None = None, elsewhere: Mapping[str, float] = NOTHING
) -> list[StepFile]:
    """Of all steps whose rollouts are here or known to be elsewhere, by phase and step.

    Args:
        facts_folder: where facts are kept; a folder of the job's without it.
        elsewhere: names of files in a bucket, and since when they are there.
    """
    folder = facts_folder or own_facts(job_folder)
    copies = copies_folder(folder)
    here = {path.name: path for path in rollouts_folder(job_folder).glob("*.parquet")}
    places: dict[str, tuple[Path, float | None]] = {path.name: (path, None) for path in copies.glob("[!.]*.parquet")}
    places |= {name: (copies / name, since) for name, since in elsewhere.items()}
    places |= {name: (path, None) for name, path in here.items()}
    found: list[StepFile] = []
    for name, (source, since) in places.items():
        if name.endswith(".parquet") and (match := NAME.fullmatch(name.removesuffix(".parquet"))) is not None:
            facts = folder / f"{match[0]}-v{VERSION}.parquet"
            found.append(StepFile(match["phase"], int(match["step"]), source, facts, since))
    return sorted(found, key=lambda one: (one.phase, one.step))
