"""Whether a job can be trained with a server, before its first rollout."""

from agentrft.engine.base import Sampling
from agentrft.engine.vllm.client import ASKING_TIMEOUT_S, Client
from agentrft.engine.vllm.turns import completion
from agentrft.errors import EndpointError

# From how much of what a temperature does to two log-probabilities on it is applied before they are told.
IS_APPLIED = 1.5


async def prove(
    client: Client, model: str, *, temperature: float, top_p: float, context_tokens: int, sleeps: bool
) -> None:
    """See that a server is one that a job can train with.

    Args:
        model: as the server calls it.
        temperature, top_p: that the job samples at.
        context_tokens: of its longest sequence.
        sleeps: whether it lets the server sleep.

    Raises:
        EndpointError: it cannot be reached, has not the model, not the room, cannot sleep, or tells other
            log-probabilities than a policy gradient needs.
    """
    try:
        models = {one["id"]: one for one in (await client.ask("/v1/models", None))["data"]}
        applies_temperature = await _applies_temperature(client, model) if model in models else True
    except (LookupError, TypeError, ValueError) as error:
        raise client.no_server(f"{type(error).__name__}: {error}") from None
    if model not in models:
        known = ", ".join(models) or "none"
        raise EndpointError(
            f"engine: the server at {client.shown_url} has no model '{model}', but {known}.",
            "Start it with the job's model, or say as which it is served: engine.model.",
        )
    room = models[model].get("max_model_len")
    if room is not None and room < context_tokens:
        raise EndpointError(
            f"engine: the sequences of the server at {client.shown_url} have {room} tokens, and the job's "
            f"{context_tokens}.",
            f"Start it with --max-model-len {context_tokens}, or lower hyperparameters.max_context_tokens.",
        )
    if sleeps and (await client.request("/is_sleeping", None, ASKING_TIMEOUT_S))[0] != 200:
        raise EndpointError(
            f"engine.sleep: the server at {client.shown_url} cannot sleep.",
            "Start it with --enable-sleep-mode, and with VLLM_SERVER_DEV_MODE=1 in its environment.",
        )
    if applies_temperature and top_p < 1:
        raise EndpointError(
            "engine: the server tells log-probabilities behind top_p, under which tokens are likelier than the "
            "policy makes them.",
            "Leave hyperparameters.top_p at 1, or start the server with --logprobs-mode raw_logprobs and keep "
            "hyperparameters.temperature at 1.",
        )
    if not applies_temperature and temperature not in (0.0, 1.0):
        raise EndpointError(
            f"engine: the server tells log-probabilities of temperature 1, and the job samples at {temperature:g}.",
            "Start it with --logprobs-mode processed_logprobs, or leave hyperparameters.temperature at 1.",
        )


async def _applies_temperature(client: Client, model: str) -> bool:
    """Whether the temperature is in the log-probabilities: at a half the first two are then told twice as far apart
    as at 1, and else as far."""
    spread: list[float] = []
    for at in (1.0, 0.5):
        body = completion(model, [1], Sampling(at, 1.0, 1, frozenset(), 0, ASKING_TIMEOUT_S))
        body |= {"logprobs": 2, "return_tokens_as_token_ids": True}
        told = (await client.ask("/v1/completions", body))["choices"][0]["logprobs"]["top_logprobs"][0]
        first, second = sorted(told.values(), reverse=True)[:2]
        spread.append(first - second)
    return spread[1] > IS_APPLIED * spread[0]
