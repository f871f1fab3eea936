"""Families whose heads are as wide as the processor's own kernels take them, in bfloat16, as real ones are."""

import asyncio
import copy
import random

import pytest
import torch

from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models.auto import auto_class
from agentrft.models.forward import TransformersForward
from agentrft.models.planned import use_planned_attention
from tests.engine.sessions import converse, errors, random_ids, running_engine
from tests.learner.rows import group_of_depth_three, padded_sampled_logprobs
from tests.model_families import FAMILIES
from tests.tiny_model import TinyModel

# Of the mean difference; what rounding does to these models is a third of it.
TOLERANCE = 0.03


def wide_model(family: str) -> TinyModel:
    """Planned in bfloat16, and plain in float32; weights such that rounding stays small."""
    config = FAMILIES[family]()
    config.update({"hidden_size": 128, "head_dim": 32})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto_class(config).from_config(config, attn_implementation="eager").eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.6 / parameter.shape[-1] ** 0.5)
    planned = copy.deepcopy(model).to(torch.bfloat16)
    use_planned_attention(planned)
    return TinyModel(planned, model)


# The first ones make their rotated keys out of parts, so that heads do not stand next to each other.
@pytest.mark.parametrize("family", ["gpt_oss", "qwen3_5", "glm4_moe", "phi3", "gemma3", "olmo2"])
async def test_learner_and_engine_compute_what_transformers_does(family: str) -> None:
    model, rows = wide_model(family), group_of_depth_three(shared_results=True)
    with torch.no_grad():
        sampled = tree_logprobs(TransformersForward(model.planned), build_token_tree(rows), rows, 1.0)
        expected = padded_sampled_logprobs(model.plain, rows, 1.0)
    assert float((sampled.logprobs - expected).abs().mean()) < TOLERANCE
    source = random.Random(1)
    async with running_engine(model, slots=4, batch=3, prefill_tokens=64, forward=TransformersForward) as engine:
        prompts = [random_ids(source, 40) for _ in range(5)]
        transcripts = await asyncio.gather(*(converse(engine, prompt, seed=i) for i, prompt in enumerate(prompts)))
    found = errors(model.plain, transcripts)
    assert sum(found) / len(found) < TOLERANCE
