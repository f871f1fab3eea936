"""What an engine keeps of a sequence for a model: keys and values of each layer, and states of its recurrent layers.

It is not read from configurations, which say it differently in each family, but seen in a pass over two tokens.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from agentrft.models.attention import PLAIN, ScoreRules
from agentrft.models.recurrence import Mixer, MixerStates


@dataclass(frozen=True)
class KeyShape:
    """Keys and values of one layer.

    Attributes:
        heads: that query.
        kv_heads: with keys and values of their own.
        key_dim, value_dim: of each.
        window: how many tokens are seen; None all.
        shared_with: the earlier layer whose keys and values these are; None where they are the layer's own.
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    shared_with: int | None = None


@dataclass(frozen=True)
class StateShape:
    """One state of a recurrent layer, without its batch dimension."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class CacheShapes:
    """Of a whole model.

    Attributes:
        keys: by layer; recurrent ones have none.
        states: of each recurrent layer, by kind and index.
    """

    keys: dict[int, KeyShape]
    states: list[dict[tuple[str, int], StateShape]] = field(default_factory=list)

    def of(self, dtype: torch.dtype) -> "CacheShapes":
        """As they are where the model is of `dtype` and not of bfloat16. States of other types stay as they are."""
        states = [
            {key: replace(one, dtype=dtype) if one.dtype == torch.bfloat16 else one for key, one in layer.items()}
            for layer in self.states
        ]
        return replace(self, states=states)

    @property
    def elements_per_token(self) -> int:
        """Numbers that each token of a sequence adds to its keys and values."""
        own = [shape for shape in self.keys.values() if shape.shared_with is None]
        return sum(shape.kv_heads * (shape.key_dim + shape.value_dim) for shape in own)

    @property
    def state_bytes(self) -> int:
        """Of all states of one sequence, however long it is."""
        return sum(math.prod(one.shape) * one.dtype.itemsize for states in self.states for one in states.values())


class ShapesPlan:
    """A plan that computes nothing and notes what it is asked for; see `ContextPlan`."""

    def __init__(self) -> None:
        self.keys: dict[int, KeyShape] = {}
        self.states: dict[int, dict[tuple[str, int], StateShape]] = {}
        self._places: dict[int, int] = {}
        # Kept, so that no two layers' keys can stand in the same place one after the other.
        self._alive: list[Tensor] = []

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        self._alive.append(key)
        shared = self._places.setdefault(key.untyped_storage()._cdata, layer)
        self.keys[layer] = KeyShape(
            len(query), len(key), key.shape[2], value.shape[2], rules.window, shared if shared != layer else None
        )
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[2])

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        states = MixerStates()
        result = mixer.run(hidden, states)
        self.states[mixer.index] = {
            key: StateShape(tuple(state.shape[1:]), state.dtype) for key, state in states.states.items()
        }
        return result

    def seen(self) -> CacheShapes:
        return CacheShapes(dict(sorted(self.keys.items())), [states for _, states in sorted(self.states.items())])


def probe_tokens(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and positions for a pass that shows shapes."""
    ids = torch.zeros(count, dtype=torch.long, device=device)
    return ids, torch.arange(count, device=device)
