"""Layers that carry a state from token to token: linear attention, state-space models, short convolutions.

transformers' modules of all these families ask one kind of object for the state that they begin with, and give it the
state that they end with. `MixerStates` is such an object for one run, so that a run can begin anywhere: at the end of a
token tree's node, or of what the engine has of a sequence. Gradients flow through the states.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

# A layer can have several states of a kind, each with an index.
States = dict[tuple[str, int], Tensor]
CONVOLUTION, RECURRENT = "convolution", "recurrent"


@dataclass
class MixerStates:
    """The states of a batch of runs of one layer, in the part of transformers' `Cache` that such layers use.

    Attributes:
        states: before a run what it begins with, none for that of a sequence's first token; afterwards what it ended
            with. Each [batch, ...].
        in_place: let modules change states of a single token's run where they stand, as their fastest path does.
    """

    states: States = field(default_factory=dict)
    in_place: bool = False

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.states.get((CONVOLUTION, state_idx))

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.states.get((RECURRENT, state_idx))

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int = 0) -> bool:
        return bool(self.states)

    def is_recording_past(self, layer_idx: int) -> bool:
        """Whether states must be left as they are: modules then take their path for many tokens."""
        return not self.in_place

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, conv_kernel_size: int | None = None
    ) -> Tensor:
        """Take the inputs of a convolution, [batch, channels, tokens]; return them after those before them."""
        if conv_kernel_size is None:
            raise ValueError("a convolution that does not say its length")
        before = self.states.get((CONVOLUTION, state_idx))
        whole = conv_states if before is None else torch.cat((before, conv_states), dim=-1)
        missing = max(0, conv_kernel_size - whole.shape[-1])
        kept = torch.nn.functional.pad(whole, (missing, 0))[..., -conv_kernel_size:]
        self.states[CONVOLUTION, state_idx] = kept
        return whole

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0) -> Tensor:
        self.states[RECURRENT, state_idx] = recurrent_states
        return recurrent_states


@dataclass(frozen=True, eq=False)
class Mixer:
    """One recurrent layer of a model.

    Attributes:
        index: among the model's recurrent layers, from 0.
        run: the module over [batch, tokens, width], beginning and ending with the states.
    """

    index: int
    run: Callable[[Tensor, MixerStates], Tensor]


def run_from(mixer: Mixer, hidden: Tensor, begin: States) -> tuple[Tensor, States]:
    """One run over [batch, tokens, width]; the states that it begins with stay as they are.

    Returns:
        [batch, tokens, width], and the states that it ends with; gradients flow through both.
    """
    if hidden.shape[1] > 1 or not begin:
        states = MixerStates(dict(begin))
        return mixer.run(hidden, states), states.states
    # Some modules write a single token's new state over the one that they were given.
    own = {key: state.clone() for key, state in begin.items()}
    states = MixerStates(own)
    with _saved_before_it_changes(list(own.values())):
        return mixer.run(hidden, states), states.states


@contextmanager
def _saved_before_it_changes(tensors: list[Tensor]) -> Iterator[None]:
    """Let autograd keep copies of these, so that they may be written over before the backward pass."""
    places = {tensor.data_ptr() for tensor in tensors}

    def copy(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.data_ptr() in places else tensor

    with torch.autograd.graph.saved_tensors_hooks(copy, lambda tensor: tensor):
        yield
