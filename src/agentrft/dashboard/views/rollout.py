"""One rollout by its record: the conversation token by token, its calls, times, grade, and its group's tree."""

import json
import math
from typing import Any

from agentrft import wire
from agentrft.dashboard.queries import records_of
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.token_texts import token_texts
from agentrft.dashboard.views.tree import tree
from agentrft.errors import UserError
from agentrft.store.artifacts import read_rollout

# What tokens can be shaded by, and what of the record it takes.
SHADES = {"surprise": "sampled_logprobs", "advantage": "advantages", "entropy": "entropies", "moved": "moved"}
# Of a turn so many tokens are drawn one by one.
MOST_TOKENS = 4000


def rollout(job: JobData, trace_id: str) -> dict[str, Any] | None:
    """The page of a rollout; None where there is none of this id.

    Raises:
        UserError: its record cannot be read.
        ArtifactsError: it lies in a bucket, which does not answer.
    """
    row = job.rollouts.find(trace_id)
    source = None if row is None else job.source(row["phase"], row["step"])
    try:
        record = None if source is None else read_rollout(source, trace_id)
        siblings = [] if row is None or source is None else records_of(source, row["sample_id"])
    except UserError as error:
        raise UserError(f"{source} cannot be read: {error.cause}", "Restore it from a copy.") from error
    if row is None or record is None:
        return None
    _complete(record["turns"], row["advantage"])
    most = max((abs(value) for turn in record["turns"] for value in turn["advantages"]), default=0.0)
    return {
        "rollout": row,
        "turns": [_turn(turn, job.row.model, most) for turn in record["turns"]],
        "shades": [
            name for name in SHADES if name == "surprise" or any(turn.get(SHADES[name]) for turn in record["turns"])
        ],
        "messages": record["messages"],
        "answer": record["output_text"],
        "grade": record["grade"],
        "holdout_scores": record.get("holdout_scores") or {},
        "failure": record.get("failure_message"),
        "faults": record.get("faults") or {},
        "forks": record.get("forks") or {},
        "waterfall": _waterfall(record),
        "group": [
            {"trace_id": one["trace_id"], "reward": one["reward"], "outcome": one["outcome"], "index": one["index"]}
            for one in siblings
        ],
        "tree": tree(siblings, trace_id),
    }


def _turn(turn: dict[str, Any], model: str, most: float) -> dict[str, Any]:
    """A turn; `most` is the largest advantage of the rollout, either way."""
    sampled = turn["sampled_ids"][:MOST_TOKENS]
    texts = token_texts(model, sampled)
    given = token_texts(model, turn["prompt_ids"])
    paid = turn["advantages"]
    columns = {
        "logprob": turn["sampled_logprobs"],
        "advantage": paid * len(turn["sampled_ids"]) if len(paid) == 1 else paid,
        "entropy": turn.get("entropies") or [],
        "moved": turn.get("moved") or [],
    }
    return {
        "given": None if given is None else "".join(given),
        "given_tokens": len(turn["prompt_ids"]),
        "tokens": [
            _token(number, f"{number} " if texts is None else texts[place], _at(columns, place), most)
            for place, number in enumerate(sampled)
        ],
        "not_shown": len(turn["sampled_ids"]) - len(sampled),
        "has_text": texts is not None,
        "finish_reason": turn["finish_reason"],
        "policy_version": turn["policy_version"],
        "generation_s": turn.get("generation_s", 0.0),
        "reasoning_tokens": turn.get("reasoning_tokens", 0),
        "calls": [{**call, "arguments_shown": _pretty(call["arguments"])} for call in turn["tool_calls"]],
    }


def _complete(turns: list[dict[str, Any]], advantage: float | None) -> None:
    """Older records do not say what the update paid each token: there it is what the rollout's reward was worth."""
    if advantage is not None and not any(turn.get("advantages") for turn in turns):
        for turn in turns:
            turn["advantages"] = [advantage]
    for turn in turns:
        turn.setdefault("advantages", [])


def _at(columns: dict[str, list[float]], place: int) -> dict[str, float | None]:
    return {name: values[place] if place < len(values) else None for name, values in columns.items()}


def _token(number: int, text: str, known: dict[str, float | None], most: float) -> dict[str, Any]:
    """A token with what is known of it, and how strongly each shades it: 0 to 1, or -1 to 1 where it has a sign."""
    paid, entropy, moved = (known[name] or 0.0 for name in ("advantage", "entropy", "moved"))
    return {
        "text": text,
        "id": number,
        **known,
        "shade": {
            "surprise": _surprise(known["logprob"]),
            "advantage": round(paid / most, 3) if most else 0.0,
            "entropy": round(1 - math.exp(-max(0.0, entropy)), 3),
            "moved": round(math.tanh(moved), 3),
        },
    }


def _surprise(logprob: float | None) -> float:
    """0 for a token that was sure, towards 1 for one that was not; 0 where it was not finite."""
    return 0.0 if logprob is None else round(1 - math.exp(max(-20.0, min(0.0, logprob))), 3)


def _waterfall(record: dict[str, Any]) -> list[dict[str, Any]]:
    """When what ran, in seconds from the beginning; calls of a turn run side by side."""
    bars: list[dict[str, Any]] = []
    at = 0.0
    for number, turn in enumerate(record["turns"], 1):
        length = turn.get("generation_s", 0.0)
        bars.append({"name": f"turn {number}", "kind": "generation", "start": at, "seconds": length})
        at += length
        longest = 0.0
        for call in turn["tool_calls"]:
            bars.append({"name": call["name"], "kind": "tool", "start": at, "seconds": call["latency_s"]})
            longest = max(longest, call["latency_s"])
        at += longest
    if record["grade"] is not None:
        bars.append({"name": "grade", "kind": "grade", "start": at, "seconds": record["grade"]["latency_s"]})
        at += record["grade"]["latency_s"]
    whole = max(at, 1e-9)
    for bar in bars:
        bar["left"], bar["width"] = (
            round(100 * bar["start"] / whole, 2),
            max(0.4, round(100 * bar["seconds"] / whole, 2)),
        )
    return bars


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(wire.parse(arguments, lossy=True), indent=1, ensure_ascii=False)
    except wire.WireError:
        return arguments
