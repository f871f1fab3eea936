"""A step's metrics as the hosted API tells them: a `metrics` event, a checkpoint's metrics.

Everything here is a pure function of the committed metrics, so what a killed worker did not tell is told by the next.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.server.objects.grader_panels import (
    GraderNames,
    grader_errors,
    grader_scores,
    grader_timing,
    grader_usage,
    tokens_by_model,
)
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
    """As hosted Agent RFT writes it, with the space before the first comma: programs take it apart."""
    parts = [f"Step {told['step']}/{total_steps} "]
    if told["train"] is not None:
        parts.append(f"train mean reward={told['train']['reward_mean']:.2f}")
    if told["validation"] is not None:
        valid = told["validation"]
        parts.append(f"full validation mean reward={valid['reward_mean']:.2f}")
        parts.append(f"full validation mean parse error={valid.get('parse_error_share', 0.0):.2f}")
    return ", ".join(parts)


def event_data(told: Mapping[str, Any], total_steps: int, graders: GraderNames) -> dict[str, Any]:
    """`data` of a metrics event.

    Args:
        graders: as the job has them; those inside a `multi` one by one.
    """
    train, valid = told["train"] or {}, told["validation"] or {}
    either = train or valid
    return {
        "step": told["step"],
        "total_steps": total_steps,
        "train_mean_reward": train.get("reward_mean"),
        "full_valid_mean_reward": valid.get("reward_mean"),
        "full_valid_mean_parse_error": valid.get("parse_error_share"),
        "reasoning_tokens_mean": either.get("reasoning_tokens_mean", 0.0),
        "valid_reasoning_tokens_mean": valid.get("reasoning_tokens_mean", 0.0),
        "completion_tokens_mean": either.get("sampled_tokens_mean"),
        "mean_unresponsive_rewards": unresponsive_share(either),
        "model_graders_token_usage": tokens_by_model(graders, train, valid),
        "scores": {
            "train_reward_mean": train.get("reward_mean"),
            "valid_reward_mean": valid.get("reward_mean"),
            "graders": grader_scores(graders, train, valid),
        },
        "usage": {
            "graders": grader_usage(graders, train, valid),
            "samples": {
                "train_completion_tokens_mean": train.get("sampled_tokens_mean"),
                "valid_completion_tokens_mean": valid.get("sampled_tokens_mean"),
                **_reasoning("train", train),
                **_reasoning("valid", valid),
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


def _reasoning(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Older steps, which counted none, have zeros; a phase that the step does not have has nothing."""
    count = values.get("agent_usage", {}).get("reasoning_tokens", 0)
    return {
        f"{prefix}_reasoning_tokens_mean": values.get("reasoning_tokens_mean", 0.0) if values else None,
        f"{prefix}_reasoning_tokens_count": count if values else None,
    }


def _own(values: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if name not in ("phase", "step")} or None


def unresponsive_share(values: Mapping[str, Any]) -> float | None:
    """Share of the rollouts that never got as far as an answer."""
    if not values.get("rollouts"):
        return None
    return values["outcomes"].get("model_failed", 0) / values["rollouts"]


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
