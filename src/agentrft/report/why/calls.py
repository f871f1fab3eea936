"""What a rollout calls: which tools, in which order, how often, at once or one after another."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from agentrft.graders import count_repeated
from agentrft.report.why.behaviour import Behaviour, counted, times
from agentrft.rollout.record import Rollout

# Of a sequence of tools so many are named.
SEQUENCE = 6
CALLED, FINE = "calls a tool", ("ok", "cut")


def call_behaviours(rollout: Rollout, tools: Sequence[str]) -> Iterator[Behaviour]:
    """What a rollout does with its tools.

    Args:
        tools: that it could have called.
    """
    calls = rollout.tool_calls
    names = [call.name for call in calls if call.name in tools]
    counts = Counter(names)
    yield Behaviour(f"takes {counted(len(rollout.turns), 'turn')}", "calls")
    if not names:
        yield Behaviour("calls no tool", "calls")
    else:
        yield Behaviour(CALLED, "calls")
    if len(tools) > 1:
        yield from (Behaviour(f"never calls {tool}", "calls") for tool in tools if tool not in counts)
        if names:
            yield Behaviour(f"calls {names[0]} first", "calls", CALLED)
            yield Behaviour(f"makes {counted(len(names), 'call')}", "calls")
    for tool, count in counts.items():
        yield Behaviour(f"calls {tool}", "calls")
        yield Behaviour(f"calls {tool} {times(count)}", "calls")
    if len(counts) > 1:
        order = [name for name, _ in groupby(names)]
        shown = ", ".join(order[:SEQUENCE]) + (", …" if len(order) > SEQUENCE else "")
        yield Behaviour(f"calls in this order: {shown}", "calls", CALLED)
    if any(len(turn.tool_calls) > 1 for turn in rollout.turns):
        yield Behaviour("makes several calls at once", "calls", CALLED)
    if count_repeated((call.name, call.arguments) for call in calls):
        yield Behaviour("repeats a call word for word", "calls", CALLED)
    failed = [number for number, call in enumerate(calls) if call.status not in FINE]
    if failed:
        yield Behaviour("makes a call that fails", "calls")
        if len(calls) > failed[0] + 1:
            yield Behaviour("calls again after a call that failed", "calls", "makes a call that fails")
