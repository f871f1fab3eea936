"""Log-probabilities from logits, with the entropy and the highest of all tokens', a few rows at a time.

With a vocabulary of 50,000 to 150,000 tokens a float32 copy of the logits is the largest tensor of an update, and
an ordinary log-softmax with its gradient makes half a dozen. Here only the logits themselves are kept.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# On a CPU what is in between stays in its caches; a GPU has a kernel to start for each part.
ROWS_AT_A_TIME = 32
GPU_ROWS_AT_A_TIME = 512


def token_logprobs(
    logits: Float[Tensor, "positions vocabulary"],
    position: Int[Tensor, "tokens"],
    token: Int[Tensor, "tokens"],
    temperature: float,
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "positions"], Float[Tensor, "positions"]]:
    """Log-probabilities of tokens; the entropy at each position, and the highest log-probability there.

    Args:
        logits: in any floating dtype; everything is computed in float32.
        position: which row of `logits` predicts each token; rows may predict several.
        token: ids of the tokens.
        temperature: divides the logits.

    Returns:
        log-probabilities with gradient, entropies in nats and highest log-probabilities without; all float32.
    """
    return _TokenLogprobs.apply(logits, position, token, temperature)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, position: Tensor, token: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        normaliser = torch.empty(len(logits), device=logits.device)
        entropy, highest = torch.empty_like(normaliser), torch.empty_like(normaliser)
        at_a_time = _rows_at_a_time(logits)
        for start in range(0, len(logits), at_a_time):
            rows = slice(start, start + at_a_time)
            scaled = _scaled(logits[rows], temperature)
            logprobs = scaled.log_softmax(dim=-1)
            normaliser[rows] = scaled[:, 0] - logprobs[:, 0]
            # As a token's own is computed, so that the likeliest one's is the very same number.
            highest[rows] = scaled.amax(dim=-1) - normaliser[rows]
            entropy[rows] = -torch.linalg.vecdot(logprobs.exp(), logprobs)
        ctx.save_for_backward(logits, position, token, normaliser)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy, highest)
        return _scaled(logits[position, token], temperature) - normaliser[position], entropy, highest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, position, token, normaliser = ctx.saved_tensors
        of_tokens = gradients[0]
        of_rows = torch.zeros_like(normaliser).index_add_(0, position, of_tokens)
        result = torch.empty_like(logits)
        at_a_time = _rows_at_a_time(logits)
        for start in range(0, len(logits), at_a_time):
            rows = slice(start, start + at_a_time)
            gradient = (_scaled(logits[rows], ctx.temperature) - normaliser[rows, None]).exp_()
            gradient.mul_((-of_rows[rows, None]).div_(ctx.temperature))
            here = ((position >= start) & (position < start + at_a_time)).nonzero().squeeze(1)
            own = of_tokens[here] / ctx.temperature
            gradient.index_put_((position[here] - start, token[here]), own, accumulate=True)
            result[rows] = gradient
        return result, None, None, None


def _rows_at_a_time(logits: Tensor) -> int:
    return ROWS_AT_A_TIME if logits.device.type == "cpu" else GPU_ROWS_AT_A_TIME


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.float()
    return logits if temperature == 1.0 else logits / temperature
