"""The samples: how each fared over the steps, and which rows are nearly the same."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrft.dashboard.kept import identity
from agentrft.dashboard.runs import JobData
from agentrft.data import load_samples
from agentrft.errors import UserError
from agentrft.report.averages import level, mean

SAMPLES_SHOWN = 300
# Of a sample at its first and its last step, for it to be called learned or forgotten.
LEAST_ROLLOUTS = 3
ROWS_COMPARED = 4000
PAIRS_SHOWN = 50
# Rows that share so much of their three-word runs are nearly the same.
NEARLY = 0.8
WORD = re.compile(r"\w+")


def data(job: JobData, *, phase: str = "train", state: str = "") -> dict[str, Any]:
    """The page.

    Args:
        state: only samples of this one: see `_state`.
    """
    threshold = next((row["pass_threshold"] for row in job.metrics if "pass_threshold" in row), 1.0)
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in job.rollouts.by_sample(phase):
        samples.setdefault(row.pop("sample_id"), []).append(row)
    lines = [_line(name, rows, threshold) for name, rows in samples.items()]
    counts: dict[str, int] = {}
    for line in lines:
        counts[line["state"]] = counts.get(line["state"], 0) + 1
    shown = [line for line in lines if not state or line["state"] == state]
    rewards = [one["reward"] for line in lines for one in line["steps"] if one["reward"] is not None]
    low, high = min(rewards, default=0.0), max(rewards, default=1.0)
    for line in shown[:SAMPLES_SHOWN]:
        for one in line["steps"]:
            one["level"] = None if one["reward"] is None else round(level(one["reward"], low, high), 3)
    return {
        "phase": phase,
        "state": state,
        "states": counts,
        "samples": shown[:SAMPLES_SHOWN],
        "total": len(shown),
        "seen_once": sum(len(line["steps"]) == 1 for line in lines),
        "pass_threshold": threshold,
        "duplicates": _duplicates(job),
        "steps_missing": job.steps_missing,
    }


def _line(name: str, rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    seen = [row for row in rows if row["reward"] is not None]
    return {
        "sample_id": name,
        "steps": rows,
        "state": _state(seen, threshold),
        "reward": mean(row["reward"] for row in seen),
    }


def _state(rows: list[dict[str, Any]], threshold: float) -> str:
    """What became of a sample, from all of its steps; of one that came once what it is."""
    if not rows:
        return "without a reward"
    right = threshold - 1e-9
    if all(row["worst"] >= right for row in rows):
        return "always solved"
    if all(row["best"] < right for row in rows):
        return "never solved"
    # One rollout that went otherwise is chance.
    if len(rows) > 1 and min(rows[0]["rollouts"], rows[-1]["rollouts"]) >= LEAST_ROLLOUTS:
        first, last = rows[0]["reward"], rows[-1]["reward"]
        if rows[0]["best"] < right <= rows[-1]["best"]:
            return "learned"
        if rows[-1]["best"] < right <= rows[0]["best"]:
            return "forgotten"
        if abs(last - first) > 0.25:
            return "better" if last > first else "worse"
    return "sometimes solved"


def _duplicates(job: JobData) -> dict[str, Any]:
    """Pairs of a training and a validation row that are nearly the same, where the files are still there. They are
    compared once, for as long as the files stay as they are."""
    given = [job.row.setting(name) for name in ("training_file", "validation_file")]
    files = [Path(path) if isinstance(path, str) else None for path in given]
    state = tuple(None if path is None else identity(path) for path in files)
    return job.runs.duplicates.get(job.job_id, (tuple(files), state), lambda: _compared(files))


def _compared(files: Sequence[Path | None]) -> dict[str, Any]:
    texts: list[list[tuple[str, str]]] = []
    for path in files:
        try:
            texts.append([] if path is None else _texts(path))
        except (UserError, OSError):
            return {"looked_at": False, "pairs": []}
    return {"looked_at": all(texts), "pairs": _pairs(texts[0], texts[1]) if all(texts) else []}


def _texts(path: Path) -> list[tuple[str, str]]:
    found = []
    for sample in load_samples(path)[:ROWS_COMPARED]:
        said = [message.get("content") for message in sample.messages if message.get("role") == "user"]
        found.append((sample.sample_id, " ".join(text for text in said if isinstance(text, str))))
    return found


def _pairs(training: Sequence[tuple[str, str]], validation: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """By the runs of three words that they share (Broder 1997); a rare run leads to the few rows that have it."""
    runs_of = [_word_runs(text) for _, text in training]
    rows_with: dict[str, list[int]] = {}
    for number, runs in enumerate(runs_of):
        for run in runs:
            rows_with.setdefault(run, []).append(number)
    most = max(20, len(training) // 20)
    pairs: list[dict[str, Any]] = []
    for name, text in validation:
        runs = _word_runs(text)
        candidates = {
            number for run in runs if len(rows_with.get(run, ())) <= most for number in rows_with.get(run, ())
        }
        for number in candidates:
            alike = len(runs & runs_of[number]) / max(1, len(runs | runs_of[number]))
            if alike >= NEARLY:
                pairs.append({"training": training[number][0], "validation": name, "alike": alike, "text": text[:300]})
    return sorted(pairs, key=lambda pair: -pair["alike"])[:PAIRS_SHOWN]


def _word_runs(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    return {" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))}
