"""A rollout as a person reads it."""

from dataclasses import asdict

from rich.console import Console

from agentrft.cli.traces import trace
from agentrft.rollout import Rollout, Turn


def shown(*messages: dict[str, str]) -> str:
    rollout = Rollout("trace_1", 1, "s", 1, 0, "graded", [Turn([1], [2], [0.0], "stop", 0)], list(messages), reward=1.0)
    console = Console(width=100, record=True)
    console.print(trace(asdict(rollout)))
    return console.export_text()


def test_what_the_model_thought_stands_before_what_it_said() -> None:
    text = shown({"role": "assistant", "content": "Red.", "reasoning_content": "It is an apple."})
    assert text.index("assistant thinks: It is an apple.") < text.index("assistant: Red.")


def test_a_thought_that_was_cut_off_is_shown_alone() -> None:
    text = shown({"role": "assistant", "content": "", "reasoning_content": "It is an"})
    assert "assistant thinks: It is an" in text and "(nothing)" not in text
