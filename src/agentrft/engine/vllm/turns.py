"""A turn as vLLM is asked for it, and its answer."""

import math
from typing import Any

from agentrft.engine.base import EngineFailure, Sampling


def completion(model: str, context: list[int], sampling: Sampling) -> dict[str, Any]:
    """The request for a turn."""
    return {
        "model": model,
        "prompt": context,
        "add_special_tokens": False,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # What a model's own generation config asks for would be another policy.
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": sorted(sampling.stop_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
    }


def read_answer(answer: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Token ids of the answer to `completion`, and the log-probability of each.

    Raises:
        EngineFailure: they are not there.
    """
    try:
        choice = answer["choices"][0]
        tokens = [int(token) for token in choice["token_ids"]]
        logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError):
        raise EngineFailure(
            "answer", "vLLM's answer has no token ids or log-probabilities; it takes version 0.10.2 or a later one"
        ) from None
    if len(tokens) != len(logprobs) or not tokens or not all(map(math.isfinite, logprobs)):
        raise EngineFailure("answer", f"vLLM gave {len(tokens)} tokens and {len(logprobs)} log-probabilities")
    return tokens, logprobs
