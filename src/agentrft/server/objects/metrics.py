"""A step's metrics as the hosted API tells them: a `metrics` event, a checkpoint's metrics, a CSV of all steps.

Everything here is a pure function of the committed metrics, so what a killed worker did not tell is told by the next.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.server.objects.grader_panels import grader_errors, grader_scores, grader_timing, grader_usage
from agentrft.store.layout import TRAIN, VALIDATION


def told_steps(
    metrics: Sequence[Mapping[str, Any]], *, validates: bool, eval_interval: int, last: int
) -> list[dict[str, Any]]:
    """`{"step", "train", "validation"}` of every training step that is complete: with its validation, if it has one.

    Step 0 is the baseline, which was not trained.

    Args:
        validates: whether the job has a validation file.
        last: its last step.
    """
    by_place = {(row["phase"], row["step"]): dict(row) for row in metrics}
    newest = max((step for phase, step in by_place if phase == TRAIN), default=0)
    found = []
    for step in range(newest + 1):
        train, validation = by_place.get((TRAIN, step)), by_place.get((VALIDATION, step))
        is_due = validates and (step == last or step % eval_interval == 0)
        if (train is None and validation is None) or (is_due and validation is None and step == newest):
            continue
        found.append({"step": step, "train": train, "validation": validation})
    return found


def event_message(told: Mapping[str, Any], total_steps: int) -> str:
    """As hosted Agent RFT writes it."""
    parts = [f"Step {told['step']}/{total_steps}"]
    if told["train"] is not None:
        parts.append(f"train mean reward={told['train']['reward_mean']:.2f}")
    if told["validation"] is not None:
        parts.append(f"full validation mean reward={told['validation']['reward_mean']:.2f}")
    return ", ".join(parts)


def event_data(told: Mapping[str, Any], total_steps: int, graders: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`data` of a metrics event.

    Args:
        graders: name and type of each, as the job has them.
    """
    train, valid = told["train"] or {}, told["validation"] or {}
    either = train or valid
    return {
        "step": told["step"],
        "total_steps": total_steps,
        "train_mean_reward": train.get("reward_mean"),
        "full_valid_mean_reward": valid.get("reward_mean"),
        "full_valid_mean_parse_error": valid.get("parse_error_share"),
        "reasoning_tokens_mean": 0.0,
        "valid_reasoning_tokens_mean": 0.0,
        "completion_tokens_mean": either.get("sampled_tokens_mean"),
        "mean_unresponsive_rewards": _unresponsive(either),
        "model_graders_token_usage": either.get("judge_tokens", {}),
        "scores": {
            "train_reward_mean": train.get("reward_mean"),
            "valid_reward_mean": valid.get("reward_mean"),
            "graders": grader_scores(graders, train, valid),
        },
        "usage": {
            "graders": grader_usage(graders, either),
            "samples": {
                "train_completion_tokens_mean": train.get("sampled_tokens_mean"),
                "valid_completion_tokens_mean": valid.get("sampled_tokens_mean"),
                "train_reasoning_tokens_mean": 0.0 if train else None,
                "valid_reasoning_tokens_mean": 0.0 if valid else None,
                "train_rollouts_count": train.get("rollouts"),
                "valid_rollouts_count": valid.get("rollouts"),
            },
        },
        "errors": {
            "graders": grader_errors(graders, train, valid),
        },
        "timing": {
            "step": {
                "sampling": train.get("rollout_s"),
                "training": train.get("update_s"),
                "eval": valid.get("step_s"),
                "full_iteration": _sum(train.get("step_s"), valid.get("step_s")),
            },
            "graders": grader_timing(graders, train, valid),
        },
        "agentrft": {"train": _own(train), "validation": _own(valid)},
    }


def checkpoint_metrics(told: Mapping[str, Any]) -> dict[str, Any]:
    """What users of the hosted API read of a checkpoint."""
    train, valid = told["train"] or {}, told["validation"] or {}
    return {
        "step": told["step"],
        "train_mean_reward": train.get("reward_mean"),
        "full_valid_mean_reward": valid.get("reward_mean"),
        "completion_tokens_mean": (train or valid).get("sampled_tokens_mean"),
    }


def metrics_csv(told: Sequence[Mapping[str, Any]]) -> str:
    """One row for each step; numbers of training and validation beside each other, those of each tool among them."""
    rows = []
    for one in told:
        row: dict[str, Any] = {"step": one["step"]}
        for prefix, values in (("train", one["train"] or {}), ("valid", one["validation"] or {})):
            row |= {f"{prefix}_{name}": value for name, value in _flat(values)}
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in values.items():
        if name in ("phase", "step"):
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}/")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _own(values: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if name not in ("phase", "step")} or None


def _unresponsive(values: Mapping[str, Any]) -> float | None:
    """Share of the rollouts that never got as far as an answer."""
    if not values.get("rollouts"):
        return None
    return values["outcomes"].get("model_failed", 0) / values["rollouts"]


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
