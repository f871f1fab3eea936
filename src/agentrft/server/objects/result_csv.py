"""The result file of a job: a row for each training step, in the columns of the hosted file and in ours.

Programs that draw the hosted file read every cell of some columns as a number. So each row has these, and the baseline,
which has no training to tell of, is no row: it is the event of step 0, and the run `Step 0` of the job's eval.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrft.server.objects.grader_panels import GraderNames, grader_errors, grader_scores
from agentrft.server.objects.metrics import event_data

NO_TOOL: Mapping[str, Any] = {}


def result_csv(told: Sequence[Mapping[str, Any]], graders: GraderNames) -> str:
    """The file's text.

    Args:
        told: of `told_steps`.
        graders: as in metric events.
    """
    trained = [one for one in told if one["train"] is not None]
    tools = sorted({name for one in trained for step in _phases(one) for name in step.get("tools", {}) if name})
    return csv_of([_hosted(one, graders, tools) | _own(one) for one in trained])


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the columns of all of them in the order in which they first occur."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _hosted(told: Mapping[str, Any], graders: GraderNames, tools: Sequence[str]) -> dict[str, Any]:
    """Cells of a validation are empty where the step has none; all others are numbers."""
    train, valid = _phases(told)
    data = event_data(told, 0, graders)
    timing = data["timing"]["step"]
    row = {
        name: data[name]
        for name in (
            "step",
            "train_mean_reward",
            "full_valid_mean_reward",
            "full_valid_mean_parse_error",
            "completion_tokens_mean",
            "reasoning_tokens_mean",
            "mean_unresponsive_rewards",
        )
    }
    row |= {
        "sampling_duration": timing["sampling"],
        "training_duration": timing["training"],
        "eval_duration": timing["eval"],
        "total_duration": timing["full_iteration"],
    }
    for tool in tools:
        row[f"train_error_count_{tool}"] = _errors_per_rollout(tool, train)
        row[f"valid_error_count_{tool}"] = _errors_per_rollout(tool, valid) if valid else None
    for grader in grader_scores(graders, train, valid):
        row |= _columns(f"scores/graders/{grader['type']}/{grader['name']}", grader, has_validation=bool(valid))
    for grader in grader_errors(graders, train, valid):
        row |= _columns(f"errors/graders/{grader['type']}/{grader['name']}/errors", grader, has_validation=bool(valid))
    return row


def _columns(path: str, grader: Mapping[str, Any], *, has_validation: bool) -> dict[str, Any]:
    return {
        f"{path}/{name}": value if has_validation or not name.startswith("valid_") else None
        for name, value in grader.items()
        if name not in ("name", "type")
    }


def _errors_per_rollout(tool: str, step: Mapping[str, Any]) -> float:
    return step.get("tools", {}).get(tool, NO_TOOL).get("errors", 0) / (step.get("rollouts") or 1)


def _own(told: Mapping[str, Any]) -> dict[str, Any]:
    """All that is measured, validation beside training."""
    train, valid = _phases(told)
    return {
        f"{prefix}_{name}": value
        for prefix, step in (("train", train), ("valid", valid))
        for name, value in _flat(step)
    }


def _phases(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return told["train"] or {}, told["validation"] or {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # Older steps have a tool without a name: calls that named none.
        if name in ("phase", "step", ""):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
