"""What a job allows of the model's calls, and what the model reads in place of those that are not made."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from agentrft.chat.hermes import write_call
from agentrft.rollout import CallRules, Rollout, RolloutLimits
from agentrft.spec import HookSpec
from agentrft.tools import RolloutHooks
from tests.job.scripted import CALL, LIMITS, WordGrader, Write, roll_out
from tests.job.tiny_job import tool_calls as requests_of
from tests.traffic.chaos_server import Behaviour, ChaosServer, ok, status

TWO_CALLS = "\n".join([CALL, write_call("lookup", {"word": "pear"})])


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


def limits(**rules: Any) -> RolloutLimits:
    return replace(LIMITS, calls=CallRules(**rules))


def told(rollout: Rollout) -> list[tuple[str, str | None]]:
    """Status of each call, and the error that the model read."""
    return [
        (call.status, json.loads(call.output)["error"] if call.output.startswith("{") else None)
        for call in rollout.tool_calls
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"word": 5}, 'lookup: word: 5 is not of type "string"'),
        ({}, 'lookup: "word" is a required property'),
        ({"word": "apple", "colour": "red"}, "lookup: Additional properties are not allowed ('colour' was unexpected)"),
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_answered_with_why(
    write: Write, arguments: dict[str, Any], error: str
) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string"}},
        "required": ["word"],
        "additionalProperties": False,
    }
    async with ChaosServer() as server:
        turns = [write_call("lookup", arguments), CALL, "red"]
        rollout, _ = await roll_out(write, turns, server, parameters=schema)
        assert len(server.received) == 1
    assert rollout.outcome == "graded"
    assert told(rollout) == [("bad_arguments", error), ("ok", None)]


async def test_calls_beyond_the_limit_of_a_rollout_are_not_made(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [CALL, TWO_CALLS, "red"], server, limits=limits(max_calls=2))
        assert len(server.received) == 2
    assert told(rollout)[:2] == [("ok", None), ("ok", None)]
    assert told(rollout)[2] == ("over_limit", "no calls are left: 2 were made; answer now")


async def test_calls_beyond_the_limit_of_a_tool_are_not_made(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [TWO_CALLS, "red"], server, max_calls=1)
        assert len(server.received) == 1
    assert told(rollout) == [("ok", None), ("over_limit", "no calls of 'lookup' are left: 1 were made")]


async def test_without_parallel_calls_only_the_first_of_a_turn_is_made(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [TWO_CALLS, "red"], server, limits=limits(parallel=False))
        assert [json.loads(request["arguments"])["word"] for request in requests_of(server)] == ["apple"]
    assert [status for status, _ in told(rollout)] == ["ok", "not_allowed"]


async def test_an_answer_before_the_call_that_is_required_is_a_failure_of_the_model(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, ["red"], server, limits=limits(choice="required"))
        assert (rollout.outcome, rollout.failure_kind) == ("model_failed", "no_tool_call")
        rollout, _ = await roll_out(write, [CALL, "red"], server, limits=limits(choice="required"))
        assert rollout.outcome == "graded"


async def test_a_tool_that_must_come_first_is_asked_for_by_name(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [CALL, "red"], server, limits=limits(choice="pay", named=True))
        assert server.received == []
    assert told(rollout) == [("not_allowed", "call 'pay' first")]
    assert rollout.failure_kind == "no_tool_call"


async def test_a_job_without_tool_calls_shows_the_model_no_tools(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, [CALL, "red"], server, limits=limits(choice="none"))
        assert server.received == []
    assert "lookup" not in write.read(rollout.turns[0].prompt_ids)
    assert told(rollout) == [("unknown_tool", "no tool 'lookup'; there are: none")]


async def test_an_output_that_is_too_long_is_cut_with_a_notice_and_counted(write: Write) -> None:
    async with ChaosServer(default=ok("x" * 250)) as server:
        rollout, engine = await roll_out(write, [CALL, "red"], server, max_output_characters=100)
    (call,) = rollout.tool_calls
    assert call.status == "cut"
    assert call.output == "x" * 100 + "\n[cut: 100 of 250 characters are shown]"
    assert "[cut: 100 of 250 characters are shown]" in write.read(engine.contexts[1])


class HookServer(ChaosServer):
    """A tool and hook server in one; `hooks` are the hooks' requests as (type, attempt, outcome)."""

    @property
    def hooks(self) -> list[tuple[str, int, str | None]]:
        bodies = [received.body for received in self.received if received.body.get("type", "").startswith("rollout_")]
        return [(body["type"], body["attempt"], body.get("outcome")) for body in bodies]


def hooks_at(server: ChaosServer) -> RolloutHooks:
    spec = HookSpec.model_validate(server.url)
    return RolloutHooks(spec, spec)


async def test_begin_and_end_of_a_rollout_are_told_once_each(write: Write) -> None:
    async with HookServer() as server:
        rollout, _ = await roll_out(write, [CALL, "red"], server, hooks=hooks_at(server))
        assert server.hooks == [("rollout_start", 1, None), ("rollout_end", 1, "graded")]
        start, call, end = [received.body for received in server.received]
        assert start["trace_id"] == call["trace_id"] == end["trace_id"] == rollout.trace_id
        assert start["item"] == {"word": "apple"}


async def test_a_rollout_that_fails_is_ended_and_its_second_attempt_begins_anew(write: Write) -> None:
    async with HookServer() as server:
        await roll_out(write, [CALL, "red"] * 2, server, hooks=hooks_at(server), grader=WordGrader(broken=True))
        assert server.hooks == [
            ("rollout_start", 1, None),
            ("rollout_end", 1, "infra_failed"),
            ("rollout_start", 2, None),
            ("rollout_end", 2, "infra_failed"),
        ]


async def test_a_rollout_that_cannot_begin_is_infra_failed_and_ended(write: Write) -> None:
    class Full(HookServer):
        def _behaviour(self, key: str) -> Behaviour:
            return status(500, "no room") if self.received[-1].body["type"] == "rollout_start" else ok()

    async with Full() as server:
        rollout, _ = await roll_out(write, [CALL, "red"] * 2, server, hooks=hooks_at(server))
        assert [kind for kind, _, _ in server.hooks] == ["rollout_start", "rollout_end"] * 2
    assert (rollout.outcome, rollout.failure_kind) == ("infra_failed", "tool:hook")
    assert "no room" in (rollout.failure_message or "")


async def test_a_rollout_that_is_cancelled_is_ended(write: Write) -> None:
    async with HookServer(script=[ok(), ok(delay_s=30)]) as server:
        running = asyncio.create_task(roll_out(write, [CALL, "red"], server, hooks=hooks_at(server)))
        while len(server.received) < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [kind for kind, _, _ in server.hooks] == ["rollout_start", "rollout_end"]
