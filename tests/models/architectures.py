"""docs/models.md's columns and table of architectures: made by computing each of them here and with transformers.

python -m tests.models.architectures
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.learner import tree_forward
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models.architecture import Architecture, inspect_architecture, prove
from agentrft.models.forward import TransformersForward, forward_of
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, running_engine
from tests.learner.rows import group_of_depth_three, padded_sampled_logprobs
from tests.learner.test_tree_forward import relative_difference, token_weights
from tests.model_families import FAMILIES, REFUSED, family_model
from tests.tiny_model import TinyModel

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "models_architectures.json"
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- architectures: made by make test-models -->", "<!-- until here: architectures -->"
# Others than a family's own: a window beside none, and the text's part of models of images.
VARIANTS = ("_window", "_images", "_dense")


def known() -> dict[str, dict[str, str]]:
    """Columns of each architecture, as far as its configuration shows them."""
    return {
        family: _columns(inspect_architecture(config()))
        for family, config in FAMILIES.items()
        if not family.endswith(VARIANTS)
    }


def _columns(one: Architecture) -> dict[str, str]:
    states = bool(one.cache_shapes.states)
    windows = any(shape.window for shape in one.cache_shapes.keys.values())
    cached = ["keys and values"] + (["windows"] if windows else []) + (["states"] if states else [])
    return {
        "path": "fast" if one.path == "fast" else "modules",
        "tree": "node by node" if states else "one pass",
        "engine": ", ".join(cached),
        "adapters": _adapted(one),
    }


def _adapted(one: Architecture) -> str:
    if one.experts is None:
        return "all linear layers"
    parts = ["attention"] + (["recurrent layers"] if one.cache_shapes.states else [])
    return ", ".join(parts + (["experts"] if one.experts.parameters else []))


def measured(family: str) -> tuple[float, float, float]:
    """How far log-probabilities and gradients of a tree, and log-probabilities of an engine, are from transformers'."""
    model = family_model(family)
    prove(model.planned)
    worst = [tree_errors(model, recomputed) for recomputed in (False, True)]
    for side in (model.planned, model.plain):
        side.requires_grad_(False)
    transcripts = asyncio.run(_engine(model))
    return max(one[0] for one in worst), max(one[1] for one in worst), largest_error(model, transcripts)


def tree_errors(model: TinyModel, recomputed: bool) -> tuple[float, float]:
    """Of log-probabilities, and of gradients of all weights, which our own pass would leave to adapters."""
    rows, decide = group_of_depth_three(shared_results=True), tree_forward._too_large
    tree_forward._too_large = lambda *_: recomputed
    try:
        for side in (model.planned, model.plain):
            side.zero_grad()
            side.requires_grad_(True)
        sampled = tree_logprobs(TransformersForward(model.planned), build_token_tree(rows), rows, 1.0)
        expected = padded_sampled_logprobs(model.plain, rows, 1.0)
        weights = token_weights(len(expected))
        (sampled.logprobs * weights).sum().backward()
        (expected * weights).sum().backward()
    finally:
        tree_forward._too_large = decide
    ours, theirs = ({n: p.grad for n, p in side.named_parameters()} for side in (model.planned, model.plain))
    return float((sampled.logprobs - expected).abs().max().detach()), relative_difference(ours, theirs)


async def _engine(model: TinyModel) -> list[Transcript]:
    source = random.Random(2)
    prompts = [random_ids(source, source.randint(1, 60)) for _ in range(8)] + [random_ids(source, 50)] * 8
    async with running_engine(model, slots=6, batch=4, prefill_tokens=64, forward=forward_of) as engine:
        return await asyncio.gather(*(converse(engine, p, turns=1 + i % 4, seed=i) for i, p in enumerate(prompts)))


def table(architectures: dict[str, dict[str, str]]) -> str:
    """In Markdown, with what is refused."""
    columns = list(dict.fromkeys(column for one in architectures.values() for column in one))
    lines = [["architecture", *columns], ["---"] * (len(columns) + 1)]
    lines += [[family, *(one[column] for column in columns)] for family, one in architectures.items()]
    refused = [["refused", "why"], ["---", "---"]]
    for family, (config, _) in REFUSED.items():
        try:
            inspect_architecture(config())
        except UserError as error:
            refused.append([family, error.cause])
    return "\n\n".join("\n".join(f"| {' | '.join(line)} |" for line in rows) for rows in (lines, refused))


def rewrite(page: str, architectures: dict[str, dict[str, str]]) -> str:
    """The page with the tables."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(architectures)}\n{END}{after}"


def main() -> None:
    found: dict[str, Any] = known()
    for family, columns in found.items():
        variants = [one for one in FAMILIES if one == family or one.removesuffix("_images") == family]
        variants += [one for one in FAMILIES if one.removesuffix("_window").removesuffix("_dense") == family != one]
        worst = [max(numbers) for numbers in zip(*(measured(one) for one in variants), strict=True)]
        print(family, *(f"{number:.1e}" for number in worst), flush=True)
        if not max(worst) < 1e-4:
            raise SystemExit(f"{family} is computed otherwise than by transformers: the table stays as it is.")
        columns["off by"] = " / ".join(f"{number:.0e}" for number in worst)
    FILE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
