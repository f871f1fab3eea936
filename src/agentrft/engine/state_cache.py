"""The engine's memory for recurrent layers: what each sequence's state is, and what it was where its prompt ended.

Unlike keys and values a state is of one position only, and cannot be cut back. So that rollouts of one prompt need not
compute it each, a sequence's state is kept a second time where others may begin: see `Sequence.forkable`.
"""

from collections.abc import Sequence

import torch

from agentrft.models.cache_shapes import CacheShapes
from agentrft.models.recurrence import States


class StateCache:
    """Two states of each recurrent layer for each slot: the live one, and a kept one. Empty for other models."""

    def __init__(self, shapes: CacheShapes, *, slots: int, device: torch.device) -> None:
        self.device = device
        self._slots = slots
        self._layers = [
            {
                key: torch.zeros((2 * slots, *state.shape), dtype=state.dtype, device=device)
                for key, state in states.items()
            }
            for states in shapes.states
        ]

    def take(self, layer: int, slots: Sequence[int]) -> States:
        """Copies of the live states of these slots, [slots, ...] each."""
        return {key: state[list(slots)] for key, state in self._layers[layer].items()}

    def put(self, layer: int, slots: Sequence[int], states: States) -> None:
        """Set the live states of these slots."""
        for key, state in self._layers[layer].items():
            state[list(slots)] = states[key].to(state.dtype)

    def keep(self, slot: int) -> None:
        """Keep the live state of a slot."""
        for state in self._everything():
            state[self._slots + slot] = state[slot]

    def fork(self, source: int, target: int, *, kept: bool) -> None:
        """Let `target` begin, live and kept, with what `source` has kept, or has now."""
        origin = self._slots + source if kept else source
        for state in self._everything():
            state[target] = state[origin]
            state[self._slots + target] = state[origin]

    def wipe(self, slot: int) -> None:
        """Back to the state before the first token."""
        for state in self._everything():
            state[slot] = 0
            state[self._slots + slot] = 0

    def _everything(self) -> list[torch.Tensor]:
        return [state for layer in self._layers for state in layer.values()]
