"""Facts of rollouts as Parquet beside the job's rollouts, made once for each step: what the pages ask of 100,000
rollouts must not parse their records.

    <job>/rollouts/train-00007.parquet       the job's own
    <job>/facts/train-00007-v2.parquet       what is here, made of it

Phrases are counted when all steps are there: what is common in one step is looked for in all. A later step may have new
ones, and then the files of the earlier steps are written anew, with what is in them already and those.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentrft.dashboard.step_files import NOTHING, StepFile, own_facts, step_files
from agentrft.report.why import Behaviour, facts_of
from agentrft.report.why.facts import VERSION, phrase_behaviours, phrases_shown
from agentrft.report.why.phrases import Candidates, Vocabulary, vocabulary
from agentrft.rollout.record import Rollout
from agentrft.store import JobRow, read_rollouts
from agentrft.store.files import replace_file

logger = logging.getLogger(__name__)

# Of a file: the behaviours that its rollouts may show, the phrases that are common in it, and those that were counted.
BEHAVIOURS, CANDIDATES, COUNTED = b"agentrft.behaviours", b"agentrft.candidates", b"agentrft.counted"
# What reading a file that is damaged raises; Arrow says it in several ways.
DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError)
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
        ("call_starts", pa.list_(pa.float64())),
        ("call_seconds", pa.list_(pa.float64())),
        ("said", pa.string()),
        ("behaviours", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Setting:
    """What of a job its facts depend on, beside its rollouts.

    Attributes:
        tools: names of those that the agent has.
        algorithm: for records that lack their advantages.
    """

    tools: list[str] = field(default_factory=list[str])
    algorithm: str = "grpo"

    @classmethod
    def of(cls, job: JobRow) -> "Setting":
        tools: Any = job.setting("tools")
        listed: list[Any] = tools if isinstance(tools, list) else []
        names = [tool["name"] for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
        return cls(names, str((job.hyperparameters or {}).get("algorithm") or "grpo"))


def make_missing(
    job_folder: Path, setting: Setting, facts_folder: Path | None = None, elsewhere: Mapping[str, float] = NOTHING
) -> int:
    """Make the facts of all steps that lack them and whose rollouts are here, and count phrases in all steps; how many
    lacked them.

    Args:
        facts_folder, elsewhere: see `step_files`.
    """
    folder = facts_folder or own_facts(job_folder)
    if facts_folder is not None or job_folder.is_dir():
        folder.mkdir(parents=facts_folder is not None, exist_ok=True)
    _remove_outdated(folder)
    made = 0
    for one in step_files(job_folder, facts_folder, elsewhere):
        if one.is_unreadable or (one.is_ready and _is_whole(one)) or one.is_elsewhere:
            continue
        try:
            state = one.state()
        except FileNotFoundError:
            continue  # it was deleted meanwhile
        try:
            rollouts = [Rollout.from_dict(row["record"]) for row in read_rollouts(one.source)]
            _write_facts(one, state, rollouts, setting)
        except Exception as error:  # the boundary: whatever a record has, the other steps are looked through
            logger.warning("%s cannot be looked through: %r", one.source, error)
            one.damage.write_text(f"{error!r}\n", encoding="utf-8")
            one.mark(one.damage, state)
            continue
        made += 1
    _count_phrases([one for one in step_files(job_folder, facts_folder, elsewhere) if one.is_ready])
    return made


def _remove_outdated(folder: Path) -> None:
    """Files that an earlier version made and nobody reads."""
    for path in folder.glob("[!.]*-v*.*"):
        version = path.stem.rpartition("-v")[2]
        if version.isdigit() and int(version) < VERSION:
            path.unlink(missing_ok=True)


def known_behaviours(paths: Sequence[Path]) -> dict[str, Behaviour]:
    """The behaviours that these facts name."""
    found: dict[str, Behaviour] = {}
    for path in paths:
        for name, (kind, given) in _metadata(path, BEHAVIOURS).items():
            found[name] = Behaviour(name, kind, given)
        found |= phrase_behaviours(_metadata(path, COUNTED))
    return found


def discard(path: Path, error: Exception) -> None:
    """Remove a file that cannot be read, so that it is made again."""
    logger.warning("%s cannot be read, and is made again: %s", path, error)
    try:
        path.unlink(missing_ok=True)
    except OSError as failure:
        logger.warning("%s cannot be removed: %s", path, failure)


def _is_whole(one: StepFile) -> bool:
    try:
        _metadata(one.facts, COUNTED)
    except DAMAGED as error:
        discard(one.facts, error)
        return False
    return True


def _write_facts(one: StepFile, state: int, rollouts: Sequence[Rollout], setting: Setting) -> None:
    """Of a step, without phrases."""
    found = facts_of(rollouts, phase=one.phase, tools=setting.tools, algorithm=setting.algorithm)
    rows = [
        {**asdict(fact), **{name: json.dumps(getattr(fact, name)) for name in ("sub_scores", "holdout_scores", "said")}}
        for fact in found.facts
    ]
    named = {name: (behaviour.kind, behaviour.given) for name, behaviour in found.known.items()}
    table = pa.Table.from_pylist([_encodable(row) for row in rows], schema=SCHEMA)
    _write(one, state, table, {BEHAVIOURS: named, CANDIDATES: found.candidates, COUNTED: {}})


def _count_phrases(files: Sequence[StepFile]) -> None:
    """Have every step's rollouts say which phrases of all steps are theirs; one file at a time is in memory."""
    candidates: list[Candidates] = [_metadata(one.facts, CANDIDATES) for one in files]
    wanted = vocabulary(candidates)
    for one in files:
        counted: Vocabulary = _metadata(one.facts, COUNTED)
        if counted != wanted:
            try:
                _count_again(one, counted, wanted)
            except DAMAGED as error:
                discard(one.facts, error)


def _count_again(one: StepFile, counted: Vocabulary, wanted: Vocabulary) -> None:
    """Look for what was not looked for before, and leave out what is not wanted any more."""
    state = one.facts.stat().st_mtime_ns
    with pq.ParquetFile(one.facts) as file:
        table = file.read(use_threads=False)
    new = {
        place: sorted(phrases - set(counted.get(place, ())))
        for place, phrases in ((place, set(phrases)) for place, phrases in wanted.items())
    }
    dropped = phrase_behaviours(counted).keys() - phrase_behaviours(wanted).keys()
    texts, behaviours = table["said"].to_pylist(), table["behaviours"].to_pylist()
    shown = [
        [name for name in own if name not in dropped] + phrases_shown(json.loads(said), new)
        for said, own in zip(texts, behaviours, strict=True)
    ]
    place = table.schema.get_field_index("behaviours")
    table = table.set_column(place, SCHEMA.field("behaviours"), pa.array(shown, SCHEMA.field("behaviours").type))
    kept = {name: _metadata(one.facts, name) for name in (BEHAVIOURS, CANDIDATES)}
    _write(one, state, table, {**kept, COUNTED: wanted})


def _write(one: StepFile, state: int, table: pa.Table, about: dict[bytes, Any]) -> None:
    table = table.replace_schema_metadata({name: json.dumps(value) for name, value in about.items()})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(one.facts, buffer.getvalue().to_pybytes())
    one.mark(one.facts, state)


def _encodable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _metadata(path: Path, key: bytes) -> dict[str, Any]:
    return json.loads((pq.read_schema(path).metadata or {}).get(key, b"{}"))
