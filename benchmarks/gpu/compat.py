"""What stands between our pins and a machine that has older packages: worked around here, not in the product.

transformers before 5.23 lets recurrent layers reach into the cache's layers, where later releases ask the cache.
"""

from dataclasses import dataclass
from typing import Any

from agentrft.models.recurrence import CONVOLUTION, RECURRENT, MixerStates


class _ByIndex:
    """The states of a kind."""

    def __init__(self, states: MixerStates, kind: str) -> None:
        self._states, self._kind = states, kind

    def __getitem__(self, index: int) -> Any:
        return self._states.states.get((self._kind, index))


@dataclass(frozen=True)
class _Layer:
    states: MixerStates

    @property
    def conv_states(self) -> _ByIndex:
        return _ByIndex(self.states, CONVOLUTION)

    @property
    def recurrent_states(self) -> _ByIndex:
        return _ByIndex(self.states, RECURRENT)

    @property
    def record_past(self) -> bool:
        return self.states.is_recording_past(0)


class _Layers:
    """All layers of a cache that is one layer's."""

    def __init__(self, states: MixerStates) -> None:
        self._layer = _Layer(states)

    def __getitem__(self, index: int) -> _Layer:
        return self._layer


def work_around() -> None:
    """Before anything is computed."""
    setattr(MixerStates, "layers", property(_Layers))  # noqa: B010  # not among the class's own attributes
