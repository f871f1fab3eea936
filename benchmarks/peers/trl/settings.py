"""What all of TRL's trainers here are told."""

from typing import Any


def quiet_on_a_cpu(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer's configuration: it computes on a CPU, keeps activations, and reports and saves nothing.

    Args:
        config: of the worker; `dtype` is in it.
    """
    return {
        "use_cpu": True,
        "bf16": config["dtype"] == "bfloat16",
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
    }
