"""Facts of rollouts as Parquet beside the job's rollouts, made once for each step: what the pages ask of 100,000
rollouts must not parse their records.

    <job>/rollouts/train-00007.parquet       the job's own
    <job>/facts/train-00007-v1.parquet       what is here, made of it
"""

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentrft.report.why import Behaviour, facts_of
from agentrft.report.why.facts import VERSION, Vocabulary
from agentrft.rollout.record import Rollout
from agentrft.store import read_rollouts
from agentrft.store.files import replace_file
from agentrft.store.layout import rollouts_folder

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<phase>[a-z_]+)-(?P<step>\d+)")
BEHAVIOURS, VOCABULARY = b"agentrft.behaviours", b"agentrft.vocabulary"
SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("sample_id", pa.string()),
        ("phase", pa.string()),
        ("step", pa.int64()),
        ("index", pa.int64()),
        ("outcome", pa.string()),
        ("failure_kind", pa.string()),
        ("reward", pa.float64()),
        ("advantage", pa.float64()),
        ("left_out", pa.string()),
        ("turns", pa.int64()),
        ("calls", pa.int64()),
        ("tools", pa.list_(pa.string())),
        ("sampled_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("answer_words", pa.int64()),
        ("latency_s", pa.float64()),
        ("generation_s", pa.float64()),
        ("tools_s", pa.float64()),
        ("grade_s", pa.float64()),
        ("started_at", pa.float64()),
        ("attempt", pa.int64()),
        ("policy_version", pa.int64()),
        ("sub_scores", pa.string()),
        ("holdout_scores", pa.string()),
        ("answer", pa.string()),
        ("text", pa.string()),
        ("behaviours", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class StepFile:
    """The rollouts of a step, and where their facts are or will be."""

    phase: str
    step: int
    source: Path
    facts: Path

    @property
    def is_ready(self) -> bool:
        """Whether there are facts of the rollouts as they are now."""
        return self._is_of_now(self.facts)

    @property
    def is_unreadable(self) -> bool:
        """Whether the rollouts as they are now could not be read."""
        return self._is_of_now(self.damage)

    @property
    def damage(self) -> Path:
        """Where it is said why rollouts could not be read."""
        return self.facts.with_suffix(".unreadable")

    def state(self) -> int:
        """Of the rollouts; another one where they were written anew."""
        return self.source.stat().st_mtime_ns

    def mark(self, path: Path, state: int) -> None:
        """Say that a file is of the rollouts in that state: it has their time."""
        os.utime(path, ns=(state, state))

    def _is_of_now(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns == self.state()
        except FileNotFoundError:
            return False


def step_files(job_folder: Path, facts_folder: Path | None = None) -> list[StepFile]:
    """Of all steps whose rollouts are here, by phase and step.

    Args:
        facts_folder: where facts are kept; a folder of the job's without it.
    """
    folder = facts_folder or job_folder / "facts"
    found: list[StepFile] = []
    for path in rollouts_folder(job_folder).glob("*.parquet"):
        if (match := NAME.fullmatch(path.stem)) is not None:
            facts = folder / f"{path.stem}-v{VERSION}.parquet"
            found.append(StepFile(match["phase"], int(match["step"]), path, facts))
    return sorted(found, key=lambda one: (one.phase, one.step))


def make_missing(job_folder: Path, tools: Sequence[str], facts_folder: Path | None = None) -> int:
    """Make the facts of all steps that lack them; how many those were. A step after another, since phrases of earlier
    ones are looked for in later ones."""
    folder = facts_folder or job_folder / "facts"
    if facts_folder is not None or job_folder.is_dir():
        folder.mkdir(parents=facts_folder is not None, exist_ok=True)
    made = 0
    vocabularies: dict[str, Vocabulary] = {}
    for one in step_files(job_folder, facts_folder):
        if one.is_ready:
            vocabularies[one.phase] = _metadata(one.facts, VOCABULARY)
            continue
        if one.is_unreadable:
            continue
        try:
            state = one.state()
        except FileNotFoundError:
            continue  # it was deleted meanwhile
        try:
            rollouts = [Rollout.from_dict(row["record"]) for row in read_rollouts(one.source)]
            vocabularies[one.phase] = _write(one, state, rollouts, tools, vocabularies.get(one.phase))
        except Exception as error:  # the boundary: whatever a record has, the other steps are looked through
            logger.warning("%s cannot be looked through: %r", one.source, error)
            one.damage.write_text(f"{error!r}\n", encoding="utf-8")
            one.mark(one.damage, state)
            continue
        made += 1
    return made


def known_behaviours(paths: Sequence[Path]) -> dict[str, Behaviour]:
    """The behaviours that these facts name."""
    found: dict[str, Behaviour] = {}
    for path in paths:
        for name, (kind, given) in _metadata(path, BEHAVIOURS).items():
            found[name] = Behaviour(name, kind, given)
    return found


def _write(
    one: StepFile, state: int, rollouts: Sequence[Rollout], tools: Sequence[str], earlier: Vocabulary | None
) -> Vocabulary:
    facts, known, vocabulary = facts_of(rollouts, phase=one.phase, tools=tools, earlier=earlier)
    rows = [
        {**asdict(fact), "sub_scores": json.dumps(fact.sub_scores), "holdout_scores": json.dumps(fact.holdout_scores)}
        for fact in facts
    ]
    named = {name: (behaviour.kind, behaviour.given) for name, behaviour in known.items()}
    schema = SCHEMA.with_metadata({BEHAVIOURS: json.dumps(named), VOCABULARY: json.dumps(vocabulary)})
    table = pa.Table.from_pylist([_encodable(row) for row in rows], schema=schema)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(one.facts, buffer.getvalue().to_pybytes())
    one.mark(one.facts, state)
    return vocabulary


def _encodable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _metadata(path: Path, key: bytes) -> dict[str, Any]:
    return json.loads((pq.read_schema(path).metadata or {}).get(key, b"{}"))


def tools_of(tools: Any) -> list[str]:
    """Names of the tools of a stored job, as its record has them."""
    listed: list[Any] = tools if isinstance(tools, list) else []
    return [tool["name"] for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
