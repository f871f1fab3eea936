"""Demonstrations by a scripted agent that is mediocre on purpose.

It writes C in the right form and knows the order of the calls, which is what the warm start has to teach. It often
writes another operator than it was asked for, or double precision, repairs most of what `run` finds, and does nothing
about what `time` says: that is left for reinforcement to find out.

What the tools say in a transcript is written by the script, so that the same seed gives the same bytes without a
compiler or a clock: the wanted value is PyTorch's, the wrong one and the times are drawn. None of it is trained on.
"""

import json
import random
from typing import Any

import torch

from examples.kernels.c_source import Habits, write
from examples.kernels.graphs import Graph
from examples.kernels.prompts import prompt_messages

FIRST = Habits(wrong=0.5, slow=0.6, careless=0.5)
SECOND = Habits(wrong=0.3, slow=0.6, careless=0.25)
REPAIR_SHARE, RUN_SHARE, TIME_SHARE = 0.8, 0.9, 0.5
SLOW_TIMES, QUICK_TIMES = (0.2, 1.2), (2.0, 6.0)


def demonstrate(graph: Graph, script: random.Random) -> list[dict[str, Any]]:
    """A whole conversation."""
    messages: list[dict[str, Any]] = [*prompt_messages(graph)]

    def call(name: str, arguments: dict[str, str], result: str) -> None:
        messages.extend(call_messages(f"call_{len(messages)}", name, arguments, result))

    written = write(graph, FIRST, script)
    call("compile", {"source": written.source}, "ok")
    if script.random() < RUN_SHARE:
        call("run", {}, _run_result(graph, written.is_right, script))
        if not written.is_right and script.random() < REPAIR_SHARE:
            written = write(graph, SECOND, script)
            call("compile", {"source": written.source}, "ok")
    if script.random() < TIME_SHARE:
        low, high = SLOW_TIMES if written.is_slow else QUICK_TIMES
        call("time", {}, f"{script.uniform(low, high):.2g}x PyTorch")
    return [*messages, {"role": "assistant", "content": "submit"}]


def call_messages(call_id: str, name: str, arguments: dict[str, str], result: str) -> list[dict[str, Any]]:
    """A call and what it brought, as two messages."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    made = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": "", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


def _run_result(graph: Graph, is_right: bool, script: random.Random) -> str:
    if is_right:
        return f"ok, max error {script.choice(('6e-08', '1e-07', '2e-07'))}"
    n = 2 * script.randint(16, 150) + 1
    where = f"r={script.randint(2, 9)} n={n}" if graph.over_row else f"n={n}"
    x, other = (torch.tensor([script.gauss(0, 1) for _ in range(4)], dtype=torch.float64) for _ in range(2))
    x = x.abs() + 0.05 if graph.positive else x
    wanted = graph.compute(x[None] if graph.over_row else x, other).flatten()[0].item()
    return f"wrong: {where} y[0]={wanted + script.gauss(0, 1):.4g}, want {wanted:.4g}"
