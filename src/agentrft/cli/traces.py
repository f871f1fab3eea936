"""One rollout as a person reads it."""

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

ROLE_STYLES = {"system": "dim", "developer": "dim", "user": "cyan", "assistant": "green", "tool": "yellow"}
MAX_CHARACTERS = 2000


def trace(record: dict[str, Any]) -> RenderableType:
    """A rollout record (`Rollout.as_dict()`) as a panel: the conversation, then the grade."""
    lines = [line for message in record["messages"] for line in _message(message)]
    lines += [Text(), *_verdict(record)]
    title = f"{record['sample_id']}/{record['index']}  step {record['step']}  {_reward(record)}"
    return Panel(
        Group(*lines), title=Text(title), title_align="left", subtitle=record["trace_id"], subtitle_align="left"
    )


def _message(message: dict[str, Any]) -> list[Text]:
    role = message["role"]
    style = ROLE_STYLES.get(role, "")
    name = f" {message['name']}" if message.get("name") else ""
    lines = []
    if message.get("reasoning_content"):
        lines.append(Text.assemble((f"{role} thinks: ", "bold dim"), (_shortened(message["reasoning_content"]), "dim")))
    if message.get("content"):
        lines.append(Text.assemble((f"{role}{name}: ", f"bold {style}"), _shortened(message["content"])))
    for call in message.get("tool_calls") or []:
        function = call["function"]
        arguments = function["arguments"]
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        lines.append(Text.assemble((f"{role} calls ", f"bold {style}"), f"{function['name']}({_shortened(shown)})"))
    return lines or [Text(f"{role}{name}: (nothing)", style=style)]


def _verdict(record: dict[str, Any]) -> list[Text]:
    failure = f" ({record['failure_kind']})" if record["failure_kind"] else ""
    lines = [Text.assemble(("outcome ", "bold"), record["outcome"], failure, f"  {_reward(record)}")]
    if record["failure_message"]:
        lines.append(Text.assemble(("failure ", "bold red"), record["failure_message"]))
    if record["faults"]:
        faults = ", ".join(f"{count} x {kind}" for kind, count in record["faults"].items())
        lines.append(Text.assemble(("broke on the way ", "bold"), faults, f"; attempt {record['attempt']}"))
    grade = record["grade"]
    if grade:
        parts = "".join(f"  {name} {score:.3f}" for name, score in grade["sub_scores"].items())
        lines.append(Text.assemble(("grade ", "bold"), f"{grade['score']:.3f}{parts}"))
        if grade["reason"]:
            lines.append(Text.assemble(("reason ", "bold"), grade["reason"]))
        lines += [Text.assemble(("grader error ", "bold red"), error) for error in grade["errors"]]
    turns = record["turns"]
    tokens = " + ".join(str(len(turn["sampled_ids"])) for turn in turns) or "0"
    calls = [call for turn in turns for call in turn["tool_calls"]]
    slow = ", ".join(f"{call['name']} {call['status']} {call['latency_s']:.2f} s" for call in calls)
    lines.append(
        Text.assemble(("tokens per turn ", "bold"), tokens, ("  latency ", "bold"), f"{record['latency_s']:.2f} s")
    )
    if slow:
        lines.append(Text.assemble(("calls ", "bold"), slow))
    return lines


def _reward(record: dict[str, Any]) -> str:
    return "no reward" if record["reward"] is None else f"reward {record['reward']:.3f}"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ... ({len(text)} characters)"
