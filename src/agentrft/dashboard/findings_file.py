"""What was found in a job's training rollouts, kept beside their facts: a page reads it, and never works it out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentrft.dashboard.facts_files import DAMAGED, discard, known_behaviours
from agentrft.dashboard.kept import Kept, identity
from agentrft.dashboard.queries import Rollouts
from agentrft.dashboard.step_files import NOTHING, StepFile, own_facts, step_files
from agentrft.report.why import Findings, find
from agentrft.report.why.evidence import AMOUNTS, Evidence
from agentrft.report.why.facts import VERSION
from agentrft.store.files import replace_file
from agentrft.store.layout import TRAIN
from agentrft.store.numbers import finite

NAME = f"findings-v{VERSION}.json"
# Changes whenever what is found in the same facts does; what was found before is then shown until it is found anew.
FOUND_VERSION = 2
# Findings, and what they are of.
Stored = tuple[Findings, list[str]]


def make_findings(job_folder: Path, facts_folder: Path | None = None, elsewhere: Mapping[str, float] = NOTHING) -> None:
    """Find what is to be found in the facts that there are, unless that was done; see `step_files`."""
    files = ready_training(step_files(job_folder, facts_folder, elsewhere))
    path, key = (facts_folder or own_facts(job_folder)) / NAME, _key(files)
    if not files or ((kept := _read(path)) is not None and kept[1] == key):
        return
    found = find(evidence_of([one.facts for one in files]))
    content = json.dumps(finite({"of": key, "found": found.as_dict()}), ensure_ascii=False)
    replace_file(path, content.encode("utf-8", "replace"))


def load_findings(files: Sequence[StepFile], facts_folder: Path, kept: Kept[Stored | None]) -> tuple[Findings, bool]:
    """The newest findings, and whether they are of all facts that there are; empty ones where there are none yet.

    Args:
        kept: where files that were read are kept.
    """
    path, ready = facts_folder / NAME, ready_training(files)
    stored = kept.get(path, identity(path), lambda: _read(path))
    if stored is None:
        return Findings.nothing(), not ready
    return stored[0], stored[1] == _key(ready)


def ready_training(files: Sequence[StepFile]) -> list[StepFile]:
    return [one for one in files if one.phase == TRAIN and one.is_ready]


def _read(path: Path) -> Stored | None:
    """The findings and what they are of; None where there are none, or none that can be read."""
    try:
        kept = json.loads(path.read_bytes())
        return Findings.from_dict(kept["found"]), kept["of"]
    except FileNotFoundError:
        return None
    except (*DAMAGED, TypeError, AttributeError) as error:
        discard(path, error)
        return None


def _key(files: Sequence[StepFile]) -> list[str]:
    # Of the facts themselves, which are written anew where more is counted in them.
    facts = [f"{one.facts.name} {one.facts.stat().st_ctime_ns}" for one in files]
    return [f"found {FOUND_VERSION}", *facts] if facts else []


def evidence_of(facts: list[Path]) -> Evidence:
    """The training rollouts of some steps as columns."""
    if not facts:
        return Evidence.of([], {})
    table = Rollouts(facts).columns(TRAIN)
    known = known_behaviours(facts)
    offsets = table["behaviours"].combine_chunks()
    lengths = offsets.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    encoded = offsets.flatten().dictionary_encode()
    rows = np.repeat(np.arange(table.num_rows), lengths)
    ids, names = encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
    order = np.argsort(ids, kind="stable")
    bounds = np.searchsorted(ids[order], np.arange(len(names) + 1))
    members = {
        known[name]: rows[order[bounds[number] : bounds[number + 1]]]
        for number, name in enumerate(names)
        if name in known
    }

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.nan_to_num(table[name].to_numpy().astype(np.float64))

    return Evidence.of_columns(
        step=table["step"].to_numpy().astype(np.int64),
        sample=table["sample_id"].to_pylist(),
        reward=column("reward"),
        advantage=column("advantage"),
        holdouts=_holdouts(table["holdout_scores"].to_pylist()),
        amounts={name: column(name) for name in AMOUNTS},
        members=members,
        ids=table["trace_id"].to_pylist(),
    )


def _holdouts(texts: list[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    if all(text == "{}" for text in texts):
        return {}
    scores = [json.loads(text) for text in texts]
    names = sorted({name for one in scores for name in one})
    return {name: np.array([one.get(name, np.nan) for one in scores], dtype=np.float64) for name in names}
