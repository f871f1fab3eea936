"""Talking to a job's checkpoints with its tools, two beside each other."""

from typing import Any

from agentrft.dashboard.runs import JobData
from agentrft.dashboard.server_side import ServerSide
from agentrft.dashboard.views.first_rows import first_samples

MOST_TURNS, MOST_TOKENS = 8, 512


def chat(job: JobData, server: ServerSide | None, *, a: str = "", b: str = "", sample: str = "") -> dict[str, Any]:
    """The page.

    Args:
        a, b: names of models; the best and what it began with without them.
        sample: the row that it begins from; the first without it.
    """
    models = [] if server is None else server.chat_models(job.job_id)
    rows = first_samples(job) if models else []
    chosen = next((one for one in rows if one.sample_id == sample), next(iter(rows), None))
    settings = job.row.hyperparameters if isinstance(job.row.hyperparameters, dict) else {}
    return {
        "has_server": server is not None,
        "models": models,
        "a": a if a in models else next(iter(models), ""),
        "b": b if b in models else next(reversed(models), ""),
        "samples": [{"sample_id": one.sample_id, "says": _said(one.messages)[:80]} for one in rows],
        "sample": "" if chosen is None else chosen.sample_id,
        "messages": [] if chosen is None else chosen.messages,
        "item": {} if chosen is None else chosen.item,
        "own_tools": [] if chosen is None else chosen.tools,
        "max_turns": job.row.setting("max_episode_steps") or MOST_TURNS,
        "max_tokens": settings.get("max_tokens_per_turn") or MOST_TOKENS,
    }


def _said(messages: list[dict[str, Any]]) -> str:
    said = [one.get("content") for one in messages if one.get("role") == "user"]
    return next((text for text in reversed(said) if isinstance(text, str)), "")
