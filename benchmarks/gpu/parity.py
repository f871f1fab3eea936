"""Whether the device computes what the CPU does: tree learner and engine, by families, in float32 and bfloat16.

The reference is transformers' own attention on the CPU in float32, row by row, over weights with the adapter merged;
of gradients it is the learner there, row by row, which the project's tests hold against transformers.
"""

import asyncio
import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agentrft.engine import Sampling
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.learner import Policy, TrainingRow
from agentrft.learner.flex_attention import FlexTree
from agentrft.learner.fused_attention import FusedTiles
from agentrft.learner.policy import gradient_of
from agentrft.learner.tiles import tiles_of
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models.forward import TransformersForward
from agentrft.models.planned import use_planned_attention
from benchmarks.gpu.findings import Findings, Setting, say
from benchmarks.gpu.gradients import relative_difference
from benchmarks.gpu.models import FAMILIES, family_model

LORA_RANK = 4
ROLLOUTS = 6
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Tolerance:
    """Of log-probabilities the largest and the mean difference, of the whole gradient the relative one."""

    largest: float
    mean: float
    gradient: float


# bfloat16 keeps 8 bits. For that a router can send a token elsewhere, so single tokens say little; and where linear
# attention normalises what is small, transformers' own gradient on a CPU is 0.3 from the one in float32.
TOLERANCES = {
    torch.float32: Tolerance(largest=1e-3, mean=1e-4, gradient=1e-3),
    torch.bfloat16: Tolerance(largest=1.0, mean=0.05, gradient=0.6),
}


def run(setting: Setting, findings: Findings) -> None:
    """All families; one that cannot be computed fails by itself."""
    # A convolution in TensorFloat32, which is cuDNN's default, is no float32.
    torch.backends.cudnn.allow_tf32 = False
    looks = {family: partial(_family, family) for family in FAMILIES}
    if setting.device.type == "cuda":
        looks["long trees"] = _long_trees
    for name, look in looks.items():
        try:
            with findings.timed(name):
                look(setting, findings)
        except Exception as error:  # the others are looked at whatever it was
            findings.fail(name, error)


def _family(family: str, setting: Setting, findings: Findings) -> None:
    model = family_model(family, small=setting.small)
    rows = rows_of(model.config.vocab_size, small=setting.small)
    weights = torch.randn(sum(len(row.sampled_positions) for row in rows), generator=_source())
    masters = _adapter(model)
    plain = _merged(model, masters)
    expected = torch.cat([_plain_logprobs(plain, row.token_ids, row.sampled_positions) for row in rows])
    reference = _policy(model, torch.float32, CPU, masters)
    expected_gradient = _gradient(reference, [[row] for row in rows], weights)[1]
    for dtype, tolerance in TOLERANCES.items():
        name = f"{family}, {str(dtype).removeprefix('torch.')}"
        policy = _policy(model, dtype, setting.device, masters)
        logprobs, gradient = _gradient(policy, [rows], weights)
        difference = (logprobs - expected).abs()
        findings.check(f"{name}: tree, log-probabilities, largest", float(difference.max()), at_most=tolerance.largest)
        findings.check(f"{name}: tree, log-probabilities, mean", float(difference.mean()), at_most=tolerance.mean)
        relative = relative_difference(gradient, expected_gradient)
        findings.check(f"{name}: tree, gradient, relative", relative, at_most=tolerance.gradient)
        policy.write_to(policy.engine_forward)
        errors = asyncio.run(_engine_errors(policy, plain, setting))
        findings.check(f"{name}: engine, log-probabilities, largest", float(errors.max()), at_most=tolerance.largest)
        findings.check(f"{name}: engine, log-probabilities, mean", float(errors.mean()), at_most=tolerance.mean)
    say(f"parity of {family} was looked at")


def _long_trees(setting: Setting, findings: Findings) -> None:
    """The kernel for long trees, which no family's small one needs, beside tiles in float32."""
    tree = build_token_tree(rows_of(2048, small=False, times=8))
    heads, source = (16, 8, 8), _source()
    shapes = [(count, tree.unique_tokens, 128) for count in heads]
    exact = [torch.randn(shape, generator=source).to(setting.device).requires_grad_(True) for shape in shapes]
    rounded = [part.detach().bfloat16().requires_grad_(True) for part in exact]
    outer = torch.randn(tree.unique_tokens, heads[0], 128, generator=source).to(setting.device)
    expected = FusedTiles(tiles_of(tree), keep_copies=True).attend(exact[0], exact[1], exact[2], 0.09)
    found = FlexTree(tree, setting.device).attend(rounded[0], rounded[1], rounded[2], 0.09)
    pairs = {"result": (found, expected)}
    gradients = (torch.autograd.grad(found, rounded, outer.bfloat16()), torch.autograd.grad(expected, exact, outer))
    pairs |= {f"gradient of {name}": pair for name, *pair in zip(("query", "key", "value"), *gradients, strict=True)}
    for name, (left, right) in pairs.items():
        error = float(((left.float() - right).norm() / right.norm()).detach())
        findings.check(f"attention over {tree.unique_tokens} tokens, {name}", error, at_most=0.02)


def rows_of(vocabulary: int, *, small: bool, times: int = 1) -> list[TrainingRow]:
    """Rollouts of a group: pairs make the same call and see the same result, and answer each for itself; `times` as
    long."""
    source = random.Random(0)
    prompt, result, answer = (times * count for count in ((24, 10, 5) if small else (300, 90, 40)))

    def tokens(count: int) -> list[int]:
        return [source.randrange(3, vocabulary) for _ in range(count)]

    shared, pairs = tokens(prompt), [(tokens(answer), tokens(result)) for _ in range(ROLLOUTS // 2)]
    rows = []
    for rollout in range(ROLLOUTS):
        call, seen = pairs[rollout // 2]
        ids = [*shared, *call, *seen, *tokens(answer)]
        positions = [*range(prompt, prompt + answer), *range(len(ids) - answer, len(ids))]
        rows.append(TrainingRow(ids, positions, [-1.0] * len(positions), rollout))
    return rows


def _source() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _policy(model: PreTrainedModel, dtype: torch.dtype, device: torch.device, masters: dict[str, Tensor]) -> Policy:
    own = copy.deepcopy(model).to(dtype=dtype)  # pyright: ignore[reportCallIssue]  # as in Runtime
    own.to(device=device)
    use_planned_attention(own)
    policy = Policy(own, lora_rank=LORA_RANK, seed=0)
    policy.load_master_state(masters)
    return policy


def _adapter(model: PreTrainedModel) -> dict[str, Tensor]:
    """An adapter's weights that change something, unlike fresh ones."""
    own = copy.deepcopy(model)
    use_planned_attention(own)
    source = _source()
    fresh = Policy(own, lora_rank=LORA_RANK, seed=0).master_state()
    return {name: torch.randn(one.shape, generator=source) * 0.05 for name, one in fresh.items()}


def _merged(model: PreTrainedModel, masters: dict[str, Tensor]) -> PreTrainedModel:
    """The model with the adapter in its weights and its own attention."""
    plain = copy.deepcopy(model)
    _policy(model, torch.float32, CPU, masters).write_to(TransformersForward(plain))
    return plain


@torch.no_grad()
def _plain_logprobs(model: PreTrainedModel, token_ids: Sequence[int], positions: Sequence[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0]
    predicted = logits[[position - 1 for position in positions]].float().log_softmax(dim=-1)
    return predicted.gather(1, torch.tensor([[token_ids[position]] for position in positions])).squeeze(1)


def _gradient(policy: Policy, packs: list[list[TrainingRow]], weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and the gradient of their weighted sum, on the CPU; each pack of rows is a tree."""
    parts, start = [], 0
    for rows in packs:
        sampled = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0)
        own = weights[start : start + len(sampled.logprobs)].to(sampled.logprobs.device)
        (sampled.logprobs * own).sum().backward()
        parts.append(sampled.logprobs.detach().float().cpu())
        start += len(own)
    gradient = torch.cat([gradient_of(master).float().cpu().flatten() for master in policy.masters])
    return torch.cat(parts), gradient


async def _engine_errors(policy: Policy, plain: PreTrainedModel, setting: Setting) -> Tensor:
    """How far the engine's log-probabilities are from a plain pass over what each session saw."""
    small, vocabulary = setting.small, plain.config.vocab_size
    prompt, sampled = (20, 4) if small else (200, 24)
    limits = EngineLimits(prompt + 6 * sampled, max_sequences=4, max_batch_size=4, prefill_tokens_per_step=prompt // 2)
    engine = EmbeddedEngine(policy.engine_forward, limits)
    source = random.Random(2)
    group = [source.randrange(3, vocabulary) for _ in range(prompt)]

    async def session(number: int) -> Tensor:
        # Half of them are a group; more than the engine has slots for, so that some begin where others ended.
        own = random.Random(number)
        seen = group[:] if number % 2 else [own.randrange(3, vocabulary) for _ in range(own.randint(8, prompt))]
        new, positions, logprobs = seen[:], list[int](), list[float]()
        opened = await engine.open()
        try:
            for turn in range(2):
                wanted = Sampling(1.0, 1.0, sampled, frozenset(), 100 * number + turn, deadline_s=60.0)
                generated = await opened.generate(new, wanted)
                positions += range(len(seen), len(seen) + len(generated.token_ids))
                logprobs += generated.logprobs
                new = [own.randrange(3, vocabulary) for _ in range(sampled)]
                seen += [*generated.token_ids, *new]
        finally:
            opened.close()
        return (_plain_logprobs(plain, seen, positions) - torch.tensor(logprobs)).abs()

    try:
        return torch.cat(await asyncio.gather(*(session(number) for number in range(ROLLOUTS))))
    finally:
        await engine.close()
