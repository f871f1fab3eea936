"""The grade: F1 of files that were seen, a price for turns and none for calls, and nothing for what games it."""

import json
from typing import Any

import pytest

from examples.file_planning.grader import PARALLEL_BONUS, PRICE_PER_FILE_TOO_MANY, PRICE_PER_TURN, UNSEEN_CREDIT, grade

Call = tuple[str, dict[str, Any], str]
ITEM = {"files": ["core.py", "inner/types.py"]}
LIST: Call = ("shell", {"command": "ls"}, "core.py\ninner\nother.py")
CORE: Call = ("shell", {"command": "grep -rlw Group ."}, "./core.py\n./other.py")
TYPES: Call = ("shell", {"command": "grep -rn 'class Path' ."}, "./inner/types.py:7:class Path:")
RIGHT = "core.py\ninner/types.py"


def graded(text: str, *turns: list[Call], item: dict[str, Any] = ITEM, status: str = "ok") -> float:
    """The grade of an answer after turns of calls with these results."""
    calls, tools, messages = [], [], []
    for number, turn in enumerate(turns):
        for name, arguments, result in turn:
            call_id = f"call_{len(tools)}"
            function = {"name": name, "arguments": json.dumps(arguments)}
            tools.append({"id": call_id, "type": "function", "function": function})
            calls.append({**function, "status": status, "latency_s": 0.0, "turn": number})
            messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
    trace = {"calls": calls, "turns": len(turns) + 1, "sampled_tokens": 9, "latency_s": 0.1}
    return grade({"output_text": text, "output_tools": tools, "messages": messages, "trace": trace}, item)


def test_all_files_after_one_search_for_each_in_one_turn_is_the_most_there_is() -> None:
    assert graded(RIGHT, [CORE, TYPES]) == pytest.approx(1 + PARALLEL_BONUS)


def test_turns_beyond_the_second_cost_and_calls_do_not() -> None:
    assert graded(RIGHT, [CORE], [TYPES]) == pytest.approx(1 - PRICE_PER_TURN)
    assert graded(RIGHT, [CORE], [TYPES], [LIST]) == pytest.approx(1 - 2 * PRICE_PER_TURN)
    assert graded(RIGHT, [CORE, TYPES, LIST]) == graded(RIGHT, [CORE, TYPES])


def test_the_bonus_is_for_different_calls_that_succeed_and_bounded() -> None:
    assert graded(RIGHT, [CORE, TYPES], [LIST]) == pytest.approx(1 - PRICE_PER_TURN + PARALLEL_BONUS / 2)
    core_alone = {"files": ["core.py"]}
    assert graded("core.py", [CORE, CORE], item=core_alone) == pytest.approx(1)
    assert graded("core.py", [CORE, LIST] * 9, item=core_alone) == pytest.approx(1 + PARALLEL_BONUS)
    assert graded("other.py", [CORE, TYPES]) == 0


@pytest.mark.parametrize(
    ("text", "f1"),
    [
        ("core.py", 2 / 3),
        ("core.py\nother.py", 1 / 2),
        ("core.py\ninner/types.py\nother.py", 4 / 5 - PRICE_PER_FILE_TOO_MANY),
        ("core.py\ncore.py\n./core.py\n\n`core.py`", 2 / 3),
        ("- core.py\n- ./inner/types.py\n", 1),
        ("The file is\ncore.py", 1 / 2),
        ("The file is core.py", 0),
        ("core.py, inner/types.py", 0),
        ("types.py", 0),
        ('["core.py"]', 0),
        ("other.py", 0),
        ("", 0),
        ("\n \n", 0),
    ],
)
def test_an_answer_is_worth_the_f1_of_its_lines(text: str, f1: float) -> None:
    # In two turns that search one thing each, with the price of the second.
    assert graded(text, [CORE], [TYPES]) == pytest.approx(max(0, f1 - PRICE_PER_TURN))


def test_a_right_file_that_no_search_showed_counts_a_part() -> None:
    core_alone = {"files": ["core.py"]}
    assert graded("core.py", item=core_alone) == pytest.approx(UNSEEN_CREDIT)
    assert graded("core.py", [TYPES], item=core_alone) == pytest.approx(UNSEEN_CREDIT)
    # Names alone are no look, an error is none, and neither is a search that finds nothing.
    assert graded("core.py", [LIST], item=core_alone) == pytest.approx(UNSEEN_CREDIT)
    assert graded("core.py", [CORE], item=core_alone, status="client_error") == pytest.approx(UNSEEN_CREDIT)
    nothing: Call = ("shell", {"command": "grep x core.py"}, "(nothing)")
    assert graded("core.py", [nothing], item=core_alone) == pytest.approx(UNSEEN_CREDIT)
    found: Call = ("shell", {"command": "ls && grep -n x core.py"}, "3: x")
    assert graded("core.py", [found], item=core_alone) == 1
    read: Call = ("read_file", {"path": "./core.py"}, "import os")
    assert graded("core.py", [read], item=core_alone) == 1


def test_after_cd_a_file_is_known_by_the_end_of_its_path() -> None:
    inside: Call = ("shell", {"command": "cd inner && grep -n Path *.py"}, "types.py:7:class Path:")
    assert graded("inner/types.py", [inside], item={"files": ["inner/types.py"]}) == 1
    other: Call = ("shell", {"command": "grep -rn Path ."}, "./subtypes.py:7:class Path:")
    assert graded("inner/types.py", [other], item={"files": ["inner/types.py"]}) == UNSEEN_CREDIT


def test_naming_many_files_is_worth_less_than_one_of_the_right_ones() -> None:
    many = "\n".join(["core.py", *(f"f{n}.py" for n in range(20))])
    shown: Call = ("shell", {"command": "grep -rl '' ."}, many)
    assert graded(many, [shown]) < graded("core.py", [CORE]) / 5


def test_arguments_that_are_no_json_and_results_that_are_missing_are_no_looks() -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "shell", "arguments": "{grep"}}
    trace = {"calls": [{"name": "shell", "arguments": "{grep", "status": "bad_arguments", "turn": 0}], "turns": 2}
    sample = {"output_text": "core.py", "output_tools": [call], "messages": [], "trace": trace}
    assert grade(sample, {"files": ["core.py"]}) == UNSEEN_CREDIT
