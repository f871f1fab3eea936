"""`item` is the whole row wherever a user's code or a template gets it; `sample` has the hosted keys."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentrft.data import Sample, load_samples
from agentrft.graders import check_templates, create_grader
from agentrft.job.check.attacks import Battery
from agentrft.rollout import grader_sample
from agentrft.spec import GraderSpec, HookSpec, HttpToolSpec
from agentrft.spec.graders import StringCheckGraderSpec
from agentrft.tools import RolloutHooks, oversized_rows
from tests.job.scripted import CALL, LIMITS, Write, roll_out
from tests.job.tiny_job import TOOL, prompt
from tests.job.tiny_job import tool_calls as requests_of
from tests.traffic.chaos_server import ChaosServer, json_body, ok

SPEC: TypeAdapter[Any] = TypeAdapter(GraderSpec)
ROW = {
    "messages": prompt("apple"),
    "tools": [{"type": "function", "function": TOOL}],
    "parallel_tool_calls": False,
    "word": "apple",
}
SOURCE = """
import json
from dataclasses import replace
def grade(sample, item):
    assert sample["output_json"] is None, "the key is there where the answer is no JSON"
    assert sample["finish_reason"] == sample["choices"][0]["finish_reason"] == "stop"
    return item["messages"][-1]["content"] == "Colour of apple?" and item["tools"][0]["function"]["name"] == "lookup"
"""


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


def sample_of(folder: Path, row: dict[str, Any]) -> Sample:
    path = folder / "train.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return load_samples(path)[0]


def equal(name: str, text: str, reference: str) -> dict[str, Any]:
    return {"type": "string_check", "name": name, "input": text, "reference": reference, "operation": "eq"}


async def test_tools_hooks_and_graders_of_every_kind_get_the_whole_row(write: Write, tmp_path: Path) -> None:
    sample = sample_of(tmp_path, ROW)
    async with ChaosServer(default=ok("a fruit")) as tool, ChaosServer() as hook, ChaosServer() as judge:
        judge.default = json_body({"score": 1.0})
        several = {
            "type": "multi",
            "calculate_output": "asked + parallel + code + mine",
            "graders": {
                "asked": equal("asked", "{{ item.messages[0].content }}", "Colour of apple?"),
                "parallel": equal(
                    "parallel", "{{ item.parallel_tool_calls }} {{ item.tools[0].type }}", "false function"
                ),
                "code": {"type": "python", "source": SOURCE},
                "mine": {"type": "endpoint", "url": judge.url},
            },
        }
        spec = SPEC.validate_python(several)
        check_templates(spec, [sample])
        grader = create_grader(spec, n_workers=1)
        hooks = RolloutHooks(HookSpec.model_validate(hook.url), None)
        rollout, _ = await roll_out(write, [CALL, "red"], tool, grader=grader, hooks=hooks, sample=sample)
        await grader.close()
        await hooks.close()
        (called,) = requests_of(tool)
    assert (rollout.reward, rollout.failure_message) == (4.0, None)
    assert called["item"] == ROW
    (begun,) = [one.body for one in hook.received if one.body]
    assert begun["item"] == ROW
    (graded,) = [one.body for one in judge.received if one.body]
    assert graded["item"] == ROW
    assert (graded["sample"]["output_json"], graded["sample"]["finish_reason"]) == (None, "stop")


async def test_the_finish_reason_is_that_of_the_last_turn(write: Write) -> None:
    checked = equal("reason", "{{ sample.finish_reason }}", "{{ sample.choices[0].finish_reason }}")
    unfinished = replace(LIMITS, max_episode_steps=1, grade_unfinished=True)
    async with ChaosServer(default=ok("a fruit")) as tool:
        grader = create_grader(SPEC.validate_python(checked))
        rollout, _ = await roll_out(write, [CALL], tool, grader=grader, limits=unfinished)
        assert (rollout.failure_kind, rollout.reward) == ("max_turns", 1.0)
        assert grader_sample(rollout).finish_reason == "tool_calls"
        reason = create_grader(SPEC.validate_python(equal("reason", "{{ sample.finish_reason }}", "length")))
        cut, _ = await roll_out(write, [write("red red red")[:-1]], tool, grader=reason, limits=unfinished)
    assert (cut.failure_kind, cut.reward) == ("max_tokens", 1.0)


def test_no_attack_answers_with_the_prompt_or_the_tools_as_another_rows_answer(tmp_path: Path) -> None:
    rows = [sample_of(tmp_path, {**ROW, "word": word}) for word in ("apple", "pear")]
    rows[1] = Sample("00002-b", rows[1].messages, rows[1].tools, rows[1].item)
    reads_messages = StringCheckGraderSpec.model_validate(equal("a", "{{ item.messages }}", "x"))
    for grader in (reads_messages, StringCheckGraderSpec.model_validate(equal("a", "{{ sample.output_text }}", "x"))):
        assert Battery(grader, rows, {}).attacks()["another row's answer"](rows[0]) == "pear"


def test_rows_that_make_every_call_too_large_are_named(tmp_path: Path) -> None:
    large = sample_of(tmp_path, {**ROW, "document": "x" * 1024**2})
    small = sample_of(tmp_path, ROW)
    tools = [HttpToolSpec.model_validate({**TOOL, "server_url": "http://127.0.0.1:1/"})]
    assert oversized_rows(tools, [small]) is None
    said = oversized_rows(tools, [large, small]) or ""
    assert said.startswith(
        f"1 row(s) are larger than 1 MB, the first of them {large.sample_id}: a row goes with each call"
    )
    plain = [tools[0].model_copy(update={"format": "plain"})]
    assert oversized_rows(plain, [large]) is None
