"""A learner of one rank and one of two, on equal policies of a tiny model that lies in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.cluster import RankedLearner, Ranks, RankSetup
from agentrft.cluster.rank_processes import RankPlaces
from agentrft.learner import Learner, Policy, UpdateMetrics
from agentrft.models.catalog import ModelSource
from agentrft.models.ready import ready_model
from tests.tiny_model import TinyModel

SETTINGS: dict[str, Any] = {"algorithm": "grpo", "learning_rate": 1e-3, "temperature": 1.0, "max_grad_norm": 100.0}
# Of what an update says of itself, what depends on which passes it was computed in, and on the clock.
OF_PASSES = {
    *("seconds", "unique_tokens", "total_tokens", "passes", "unique_tokens_per_s", "flops_per_s", "peak_share"),
    "passes_halved",
}


@dataclass
class TwoRanks:
    """Two ranks of a learner, of which this process is the first. Each test gets the weights that they began with."""

    folder: Path
    lora_rank: int | None
    ranks: Ranks
    policy: Policy
    begin: dict[str, Tensor]

    def learner(self, **settings: Any) -> RankedLearner:
        """Of both, with a fresh optimizer."""
        self.policy.load_master_state(self.begin)
        return RankedLearner(self.policy, self.ranks, **{**SETTINGS, **settings})

    def alone(self, **settings: Any) -> Learner:
        """Of one rank, which has the same weights."""
        policy = Policy(loaded(self.folder), lora_rank=self.lora_rank, seed=3, generates=False)
        policy.load_master_state(self.begin)
        return Learner(policy, **{**SETTINGS, **settings})


def save(model: TinyModel, folder: Path) -> Path:
    """The model as a folder that ranks can load."""
    model.plain.save_pretrained(folder)
    return folder


def source(folder: Path) -> ModelSource:
    return ModelSource(str(folder), str(folder), is_local=True, public_name="tiny")


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return ready_model(source(folder), dtype, torch.device("cpu"))


def setup(folder: Path, lora_rank: int | None, *, shards_base: bool = False, timeout_s: float = 120.0) -> RankSetup:
    return RankSetup(
        size=2,
        source=source(folder),
        dtype=torch.float32,
        on_gpus=False,
        lora_rank=lora_rank,
        lora_experts=True,
        seed=3,
        deterministic=False,
        threads=1,
        timeout_s=timeout_s,
        shards_base=shards_base,
    )


@contextmanager
def two_ranks(
    folder: Path,
    lora_rank: int | None,
    *,
    shards_base: bool = False,
    timeout_s: float = 120.0,
    places: RankPlaces | None = None,
) -> Iterator[TwoRanks]:
    ranks = Ranks(setup(folder, lora_rank, shards_base=shards_base, timeout_s=timeout_s), places)
    try:
        policy, _ = ranks.setup.make_policy(0, ranks.start)
        policy.followers = ranks
        begin = policy.master_state()
        if lora_rank is not None:
            # A new adapter changes nothing, and half of its gradients are zero.
            draw = torch.Generator().manual_seed(1)
            begin = {name: torch.randn(master.shape, generator=draw) * 0.1 for name, master in begin.items()}
        yield TwoRanks(folder, lora_rank, ranks, policy, begin)
    finally:
        ranks.close()


def gradients(learner: Learner) -> list[Tensor]:
    """Of the only optimizer step that was taken: its first moment is a tenth of it."""
    state = learner.state()["optimizer"]["state"]
    return [state[place]["exp_avg"] * 10 for place in sorted(state)]


def assert_close(found: list[Tensor], expected: list[Tensor], *, relative: float = 1e-4) -> None:
    """Each tensor to so much of its norm."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).norm()) <= relative * float(other.norm()) + 1e-9


def assert_same_numbers(
    found: UpdateMetrics, expected: UpdateMetrics, *, relative: float = 1e-4, absolute: float = 1e-7
) -> None:
    """What an update says of itself is the same, however many ranks there were."""
    one, other = found.as_dict(), expected.as_dict()
    assert one.keys() == other.keys()
    differing = {
        name: (one[name], other[name])
        for name in one.keys() - OF_PASSES
        if one[name] != other[name] != pytest.approx(one[name] or 0.0, rel=relative, abs=absolute)
    }
    assert not differing
