"""The agent loop, with an engine session that replays what a model would have sampled; all else is real."""

import asyncio
import itertools
import json
from typing import Any

import pytest

from agentrft.chat import ChatCodec
from agentrft.chat.hermes import write_call
from agentrft.graders import create_grader
from agentrft.job.training_data import training_rows
from agentrft.report import summarise
from agentrft.rollout import Rollout, RolloutLimits, RolloutRunner, RolloutTask
from agentrft.spec import HttpToolSpec
from agentrft.spec.graders import StringCheckGraderSpec
from agentrft.tools import HttpTool
from tests.job.scripted import CALL, LIMITS, SAMPLE, ScriptedEngine, WordGrader, Write, roll_out, toolbox_of
from tests.job.tiny_job import tool_calls as requests_of
from tests.traffic.chaos_server import ChaosServer, ok, raw, status


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


async def test_an_answered_rollout_is_graded_and_its_record_holds_what_happened(write: Write) -> None:
    grader = WordGrader()
    async with ChaosServer(default=ok("a fruit")) as server:
        rollout, _ = await roll_out(write, [CALL, "red"], server, grader=grader)
        (request,) = requests_of(server)
    assert (rollout.outcome, rollout.reward, rollout.failure_kind) == ("graded", 1.0, None)
    assert rollout.output_text == "red"
    assert [message["role"] for message in rollout.messages] == ["user", "assistant", "tool", "assistant"]
    (call,) = rollout.tool_calls
    assert (call.name, call.output, call.status, call.attempts) == ("lookup", "a fruit", "ok", 1)
    assert request["call_id"] == call.call_id == rollout.messages[2]["tool_call_id"]
    assert request["trace_id"] == request["headers"]["x-trace-id"] == rollout.trace_id
    assert request["item"] == {"word": "apple"}
    assert grader.samples[0].output_text == "red"
    assert [made["function"]["name"] for made in grader.samples[0].output_tools] == ["lookup"]
    assert Rollout.from_dict(json.loads(json.dumps(rollout.as_dict()))) == rollout


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "lookup", "arguments": {"word": }}\n</tool_call>',
        '<tool_call>\n{"name": "lookup", "arguments": "apple"}\n</tool_call>',
        '<tool_call>\n{"name": "lookup", "arguments": {"word": "apple"}}',
    ],
)
async def test_a_faulty_call_is_answered_with_an_error_text_and_is_not_made(write: Write, text: str) -> None:
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, [text, "red"], server)
        assert server.received == []
    assert (rollout.outcome, rollout.tool_requests) == ("graded", 0)
    (call,) = rollout.tool_calls
    assert (call.status, call.attempts) == ("bad_call", 0)
    assert "tool call" in json.loads(call.output)["error"]
    assert json.loads(call.output)["error"] in write.read(engine.contexts[1])


async def test_a_call_of_an_unknown_tool_is_answered_with_the_names_of_the_tools(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, [write_call("search", {}), "red"], server)
        assert server.received == []
    (call,) = rollout.tool_calls
    assert call.status == "unknown_tool"
    assert "'search'" in call.output and "lookup" in call.output
    assert "there are: lookup" in write.read(engine.contexts[1])


async def test_calls_of_one_turn_run_at_once_and_their_results_come_in_the_order_asked(write: Write) -> None:
    calls = "\n".join(write_call("lookup", {"word": word}) for word in ("one", "two", "three"))

    class Reversed(ChaosServer):
        """Answers no call before all three are there, and the last one first."""

        async def _serve(self, request: Any) -> Any:
            response = await super()._serve(request)
            place = len(self.received)
            word = json.loads(self.received[place - 1].body["arguments"])["word"]
            while len(self.received) < 3:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05 * (3 - place))
            response.text = f"about {word}"
            return response

    async with Reversed(default=raw(b"")) as server:
        rollout, engine = await roll_out(write, [calls, "red"], server)
        assert server.max_in_flight == 3
    assert [call.output for call in rollout.tool_calls] == ["about one", "about two", "about three"]
    assert [m["content"] for m in rollout.messages if m["role"] == "tool"] == ["about one", "about two", "about three"]
    assert len({call.call_id for call in rollout.tool_calls}) == 3
    seen = write.read(engine.contexts[1])
    assert seen.index("about one") < seen.index("about two") < seen.index("about three")


LONG = [1000] * 500  # ids of ordinary tokens: a turn that does not end by itself


@pytest.mark.parametrize(
    ("turns", "limits", "kind"),
    [
        ([CALL] * 4, {}, "max_turns"),
        ([LONG], {"max_tokens_per_turn": 20}, "max_tokens"),
        ([LONG], {"max_tokens_per_turn": 500, "max_context_tokens": 150}, "context"),
        ([CALL, CALL, CALL], {"max_context_tokens": 160}, "context"),
        ([""], {}, "no_answer"),
        ([CALL, " \n"], {}, "no_answer"),
    ],
)
async def test_an_agent_that_hits_a_bound_gets_the_reward_of_a_failure_and_the_bound_is_named(
    write: Write, turns: list[Any], limits: dict[str, int], kind: str
) -> None:
    grader = WordGrader()
    async with ChaosServer() as server:
        rollout, engine = await roll_out(
            write, turns, server, grader=grader, limits=RolloutLimits(**{**vars(LIMITS), **limits})
        )
    assert (rollout.outcome, rollout.failure_kind, rollout.reward) == ("model_failed", kind, -0.25)
    assert rollout.attempt == 1 and grader.samples == []
    bound = limits.get("max_context_tokens", LIMITS.max_context_tokens)
    assert all(len(context) <= bound for context in engine.contexts)


async def test_a_tool_that_keeps_failing_drops_the_rollout_after_a_second_attempt(write: Write) -> None:
    async with ChaosServer(default=status(503)) as server:
        rollout, engine = await roll_out(write, [CALL, CALL], server)
        requests = requests_of(server)
    assert (rollout.outcome, rollout.reward, rollout.failure_kind) == ("infra_failed", None, "tool:server_error")
    assert rollout.attempt == 2 and engine.restarts == 1
    assert [request["headers"]["x-attempt"] for request in requests] == ["1", "1", "2", "2"]
    assert rollout.tool_requests == len(requests) == 4
    assert (rollout.faults, rollout.given_up) == ({"tool:server_error": 4}, ["tool:server_error"])
    assert {request["trace_id"] for request in requests} == {rollout.trace_id}
    assert len({request["call_id"] for request in requests}) == 2
    assert engine.samplings[0].seed != engine.samplings[1].seed
    assert "503" in (rollout.failure_message or "")


async def test_a_rollout_whose_second_attempt_succeeds_counts_the_requests_of_both(write: Write) -> None:
    async with ChaosServer(script=[status(503), status(503)]) as server:
        rollout, _ = await roll_out(write, [CALL, CALL, "red"], server)
    assert (rollout.outcome, rollout.attempt, rollout.tool_requests) == ("graded", 2, 3)
    assert (rollout.faults, rollout.given_up) == ({"tool:server_error": 2}, ["tool:server_error"])
    assert len(rollout.turns) == 2


async def test_a_call_that_may_have_happened_and_must_not_be_repeated_ends_the_rollout(write: Write) -> None:
    async with ChaosServer(default=status(503)) as server:
        rollout, _ = await roll_out(write, [CALL, CALL], server, idempotent=False)
        assert len(server.received) == 1
    assert (rollout.outcome, rollout.attempt, rollout.failure_kind) == ("infra_failed", 1, "tool:server_error")


async def test_one_unrepeatable_call_among_several_broken_ones_forbids_a_second_attempt(write: Write) -> None:
    turn = "\n".join([CALL, write_call("pay", {})])
    async with ChaosServer(default=status(503)) as server:
        engine = ScriptedEngine([write(turn)] * 2)
        specs = [
            HttpToolSpec.model_validate(
                {"name": name, "server_url": server.url, "retries": 0, "idempotent": idempotent}
            )
            for name, idempotent in (("lookup", True), ("pay", False))
        ]
        tools = {spec.name: HttpTool(spec, backoff_s=0.01) for spec in specs}
        runner = RolloutRunner(
            codec=write.codec,
            toolbox=toolbox_of(*tools.values()),
            grader=WordGrader(),
            limits=LIMITS,
        )
        rollout = await runner.run(RolloutTask(SAMPLE, 1, 0, 1.0, 1.0, 0, 3), await engine.open())
        for tool in tools.values():
            await tool.close()
        assert [request["name"] for request in requests_of(server)].count("pay") == 1
    assert (rollout.outcome, rollout.attempt, rollout.tool_requests) == ("infra_failed", 1, 2)
    assert rollout.faults == {"tool:server_error": 2}


async def test_a_broken_grader_gives_no_reward_and_is_asked_twice(write: Write) -> None:
    grader = WordGrader(broken=True)
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, ["red", "red"], server, grader=grader)
    assert (rollout.outcome, rollout.reward, rollout.grade) == ("infra_failed", None, None)
    assert rollout.failure_kind == "grader:exception"
    assert len(grader.samples) == 2
    assert (rollout.faults, rollout.given_up) == ({"grader:exception": 2}, ["grader:exception"])


async def test_tokens_of_an_older_policy_than_was_promised_are_never_used(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, ["red", "red"], server, engine=ScriptedEngine([], version=2))
    assert (rollout.outcome, rollout.failure_kind, rollout.reward) == ("infra_failed", "engine:policy_version", None)
    assert rollout.turns == []


async def test_tokens_of_newer_policies_are_kept_with_the_version_of_each(write: Write) -> None:
    engine = ScriptedEngine([], version=4, versions=[[4, 2], [6, 1]])
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, ["red"], server, engine=engine)
    assert rollout.outcome == "graded" and rollout.oldest_version == 4
    stored = rollout.as_dict()
    assert Rollout.from_dict(stored) == rollout
    assert rollout.turns[0].version_spans == [[4, 2], [6, 1]]
    # Records of older runs know of no spans.
    for turn in stored["turns"]:
        del turn["versions"]
    assert Rollout.from_dict(stored).turns[0].version_spans == [[4, len(rollout.turns[0].sampled_ids)]]


async def test_training_rows_are_the_very_ids_that_the_engine_saw(write: Write) -> None:
    # Ids that no encoder would choose for this text: decoding and encoding again would change them.
    odd = [token for letter in "green" for token in write.tokenizer.encode(letter, add_special_tokens=False)]
    async with ChaosServer(default=ok("a fruit")) as server:
        rollout, engine = await roll_out(write, [CALL, CALL, [*odd, write.end]], server)
    (row,) = training_rows(rollout, 5)
    assert row.token_ids == engine.contexts[-1]
    sampled = list(itertools.chain.from_iterable(engine.turns))
    assert [row.token_ids[position] for position in row.sampled_positions] == sampled
    assert row.sampling_logprobs == [value for turn in rollout.turns for value in turn.sampled_logprobs]
    assert row.rollout == 5
    starts = [context[: -len(turn)] for context, turn in zip(engine.contexts, engine.turns, strict=True)]
    assert row.sampled_positions == [
        len(start) + place for start, turn in zip(starts, engine.turns, strict=True) for place in range(len(turn))
    ]


async def test_a_turn_that_was_cut_off_keeps_its_ids_and_is_closed(write: Write) -> None:
    turn = write(CALL)[:-1]
    limits = RolloutLimits(**{**vars(LIMITS), "max_tokens_per_turn": len(turn)})
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, [turn, "red"], server, limits=limits)
    (row,) = training_rows(rollout, 0)
    assert row.token_ids == engine.contexts[-1]
    assert row.token_ids[len(engine.contexts[0])] == write.end
    assert len(engine.contexts[0]) not in row.sampled_positions


class Unbridged(ChatCodec):
    """A codec that can append to nothing."""

    def append(self, *_: Any, **__: Any) -> None:
        return None


async def test_where_the_ids_cannot_go_on_the_rollout_forks_into_a_second_row(write: Write) -> None:
    odd = [token for letter in CALL for token in write.tokenizer.encode(letter, add_special_tokens=False)]
    turns = [[*odd, write.end], [*odd, write.end], "red"]
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, turns, server, codec=Unbridged(write.codec.renderer))
    assert rollout.outcome == "graded" and engine.restarts == 2
    assert rollout.forks == {"rewritten": 2}, "another tokenization of the same text"
    rows = training_rows(rollout, 0)
    assert [row.token_ids for row in rows] == engine.contexts
    assert [[row.token_ids[position] for position in row.sampled_positions] for row in rows] == list(engine.turns)


async def test_where_the_whole_conversation_begins_with_the_same_ids_the_row_goes_on(write: Write) -> None:
    async with ChaosServer() as server:
        bridged, _ = await roll_out(write, [CALL, CALL, "red"], server)
        whole, engine = await roll_out(write, [CALL, CALL, "red"], server, codec=Unbridged(write.codec.renderer))
    assert (whole.row_starts, whole.forks, engine.restarts) == ([0], {}, 0)
    assert [turn.prompt_ids for turn in whole.turns] == [turn.prompt_ids for turn in bridged.turns]


async def test_rollouts_have_trace_ids_of_their_own(write: Write) -> None:
    async with ChaosServer() as server:
        rollouts = [(await roll_out(write, [CALL, "red"], server))[0] for _ in range(5)]
        seen = [request["trace_id"] for request in requests_of(server)]
        keys = [request["headers"]["idempotency-key"] for request in requests_of(server)]
    assert seen == [rollout.trace_id for rollout in rollouts]
    assert len(set(seen)) == len(set(keys)) == 5
    assert all(trace_id in key for trace_id, key in zip(seen, keys, strict=True))


async def test_a_turn_asks_for_no_more_tokens_than_the_context_has_room_for(write: Write) -> None:
    async with ChaosServer() as server:
        rollout, engine = await roll_out(
            write, [CALL, "red"], server, limits=RolloutLimits(**{**vars(LIMITS), "max_context_tokens": 200})
        )
    assert rollout.outcome == "graded"
    room = [200 - (len(context) - len(turn)) for context, turn in zip(engine.contexts, engine.turns, strict=True)]
    assert [sampling.max_tokens for sampling in engine.samplings] == room


async def test_an_unrepeatable_call_that_succeeded_forbids_a_second_attempt_when_the_grader_breaks(
    write: Write,
) -> None:
    grader = WordGrader(broken=True)
    async with ChaosServer() as server:
        rollout, _ = await roll_out(write, [CALL, "red"], server, grader=grader, idempotent=False)
        assert len(requests_of(server)) == 1
    assert (rollout.outcome, rollout.attempt, rollout.failure_kind) == ("infra_failed", 1, "grader:exception")


async def test_a_rollout_that_lacks_what_its_grader_reads_is_graded_lowest_once_and_counted(write: Write) -> None:
    spec = StringCheckGraderSpec(type="string_check", input="{{ sample.output_json.k }}", reference="x", operation="ne")
    async with ChaosServer() as server:
        rollout, engine = await roll_out(write, ["no JSON"], server, grader=create_grader(spec))
    assert (rollout.outcome, rollout.reward, rollout.attempt) == ("graded", 0.0, 1)
    assert rollout.faults == {"grader:missing_sample_key": 1}
    summary = summarise([rollout])
    assert summary.missing_sample_key_share == 1.0
    assert summary.graders["string_check"]["faults"] == {"missing_sample_key": 1}
    assert engine.restarts == 0
