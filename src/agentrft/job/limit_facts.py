"""What decides how long a job's turns and rollouts may be: its model, its data, its tools, and the memory here."""

from itertools import groupby
from typing import TYPE_CHECKING

from agentrft.errors import UserError
from agentrft.job.memory_budget import tokens_in_memory
from agentrft.job.token_limits import CHARACTERS_PER_TOKEN, MOST_TOOL_TOKENS, TOOL_TOKENS, LimitFacts
from agentrft.models.architecture import Architecture
from agentrft.tools import Toolbox

if TYPE_CHECKING:
    from agentrft.job.runtime import Runtime

# Demonstrations that are looked at for how long turns are.
MOST_SHOWN = 64


def limit_facts(runtime: "Runtime", architecture: Architecture, *, calls_end: bool) -> LimitFacts:
    """What is known of a job before its model is loaded.

    Args:
        architecture: the model's.
        calls_end: whether a turn that calls ends a rollout.
    """
    spec = runtime.spec
    memory_tokens, at_once = tokens_in_memory(
        spec,
        architecture,
        runtime.dtype.itemsize,
        engine_device=runtime.engine_device,
        device=runtime.device,
    )
    has_calls = runtime.call_rules.shows_tools and bool(runtime.toolbox.tools) and not calls_end
    return LimitFacts(
        model_tokens=architecture.context_tokens,
        memory_tokens=memory_tokens,
        at_once=at_once,
        thinks=runtime.codec.proof is not None and runtime.codec.proof.thinks,
        longest_prompt=max(runtime.prompt_tokens, default=0),
        longest_shown_turn=_longest_shown_turn(runtime),
        tool_tokens=_tool_tokens(runtime.toolbox) if has_calls else 0,
        turns=spec.hyperparameters.episode_steps if has_calls else 1,
    )


def _tool_tokens(toolbox: Toolbox) -> int:
    """What an answer of the most talkative tool takes."""
    bounds = [toolbox.max_output_characters.get(name) for name in toolbox.tools]
    tokens = [TOOL_TOKENS if bound is None else bound // CHARACTERS_PER_TOKEN for bound in bounds]
    return min(MOST_TOOL_TOKENS, max(tokens, default=0))


def _longest_shown_turn(runtime: "Runtime") -> int:
    """Of the demonstrations, in tokens that the model would sample."""
    lengths = [0]
    for sample in runtime.demonstrations[:MOST_SHOWN]:
        try:
            rows = runtime.codec.training_rows(sample.messages, runtime.tools_of(sample))
        except UserError:
            continue  # what cannot be trained on is for the warm start to say, which an eval does not make
        lengths += [len(list(run)) for _, mask in rows for sampled, run in groupby(mask) if sampled]
    return max(lengths)
