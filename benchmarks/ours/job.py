"""The quickstart's job as our workers run it."""

import tempfile
from pathlib import Path
from typing import Any

from agentrft.spec import JobSpec, parse_job


def job_spec(config: dict[str, Any], grader: dict[str, Any], **more: Any) -> JobSpec:
    """A job on the configured model, data and tool.

    Args:
        more: fields of the job besides; `hyperparameters` are added to the configured ones.
    """
    tool = {"server_url": config["tool"]["url"], **{k: v for k, v in config["tool"].items() if k != "url"}}
    names = ("max_tokens_per_turn", "max_context_tokens", "temperature", "top_p")
    hyperparameters = {name: config[name] for name in names} | more.pop("hyperparameters", {})
    raw = {
        "model": str(Path(config["model"]).resolve()),
        "training_file": config["data"],
        "dtype": config["dtype"],
        "output_dir": tempfile.mkdtemp(prefix="agentrft-bench-"),
        "method": {
            "type": "reinforcement",
            "reinforcement": {
                "tools": [tool],
                "grader": grader,
                "max_episode_steps": config["max_episode_steps"],
                "hyperparameters": hyperparameters,
            },
        },
        **more,
    }
    return parse_job(raw, folder=Path.cwd(), source="benchmark")
