"""What a rollout can have, as templates read it: to tell a reference that never has a value from one that may have."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.data.templates import Reference

# As in `GraderSample.as_template_value`: a mapping has these keys, a list of one shape entries of that shape.
TEXT = "text"
ANYTHING = "anything"
CALL = {"id": TEXT, "type": TEXT, "function": {"name": TEXT, "arguments": TEXT}}
CALL_FACT = dict.fromkeys(("name", "arguments", "status", "latency_s", "turn"), TEXT)
MESSAGE = {"role": TEXT, "content": TEXT, "tool_calls": [CALL]}
SAMPLE: Mapping[str, Any] = {
    "output_text": TEXT,
    "output_json": ANYTHING,
    "output_tools": [CALL],
    "reasoning": TEXT,
    "choices": [{"index": TEXT, "finish_reason": TEXT, "message": MESSAGE}],
    "finish_reason": TEXT,
    "messages": [ANYTHING],
    "trace": {"calls": [CALL_FACT], "turns": TEXT, "sampled_tokens": TEXT, "latency_s": TEXT},
}


def never_there(reference: Reference) -> str | None:
    """Why a reference to `sample` has no value in any rollout, in words; None if some rollout can have one."""
    shape: Any = SAMPLE
    for n_steps, step in enumerate(reference.steps):
        path = reference.text(n_steps)
        if shape is ANYTHING:
            return None
        if shape is TEXT:
            return f"'{path}' is a single value, without keys or indexes."
        if isinstance(shape, Mapping):
            if step not in shape:
                return f"'{path}' has {', '.join(shape)} and nothing else."
            shape = shape[step]
        elif isinstance(step, int) and isinstance(shape, Sequence):
            shape = shape[0]
        else:
            return f"'{path}' is a list, which takes an index."
    return None
