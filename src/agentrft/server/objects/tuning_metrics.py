"""Steps of jobs without rollouts as the hosted API tells them: `metrics` events, checkpoints' metrics, the result file.

Names are the hosted ones; what a preference job measures beside its loss has names of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.server.objects.result_csv import csv_of

PREFERENCE = ("preference_accuracy", "reward_margin", "preferred_reward", "other_reward")


def tuning_metrics(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of a step, and of its validation, which is of all rows.

    Args:
        told: of `told_steps`.
    """
    train, valid = told["train"] or {}, told["validation"] or {}
    found: dict[str, Any] = {
        "step": told["step"],
        "train_loss": train.get("loss"),
        "train_mean_token_accuracy": train.get("token_accuracy"),
        "valid_loss": valid.get("loss"),
        "valid_mean_token_accuracy": valid.get("token_accuracy"),
        "full_valid_loss": valid.get("loss"),
        "full_valid_mean_token_accuracy": valid.get("token_accuracy"),
    }
    for name in PREFERENCE:
        if name in train or name in valid:
            found |= {f"train_{name}": train.get(name), f"valid_{name}": valid.get(name)}
    return found


def tuning_message(told: Mapping[str, Any], total_steps: int) -> str:
    """As the hosted service writes it: programs take it apart."""
    parts = [
        f"{name} loss={phase['loss']:.2f}"
        for name, phase in (("training", told["train"]), ("full validation", told["validation"]))
        if phase is not None
    ]
    return f"Step {told['step']}/{total_steps}: {', '.join(parts)}"


def tuning_data(told: Mapping[str, Any], total_steps: int) -> dict[str, Any]:
    """`data` of a metrics event."""
    own = {name: _own(told[name]) for name in ("train", "validation")}
    return {**tuning_metrics(told), "total_steps": total_steps, "agentrft": own}


def tuning_csv(told: Sequence[Mapping[str, Any]]) -> str:
    """The result file: a row for each training step."""
    return csv_of([_row(one) for one in told if one["train"] is not None])


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the hosted file first, which says `train_accuracy` for what is `train_mean_token_accuracy`."""
    found = tuning_metrics(told)
    hosted = {name: found[name] for name in ("step", "train_loss")}
    hosted["train_accuracy"] = found["train_mean_token_accuracy"]
    return hosted | {name: found[name] for name in ("valid_loss", "valid_mean_token_accuracy")} | found


def _own(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: one for name, one in values.items() if name not in ("phase", "step")}
