"""What a model thinks is counted turn by turn, kept apart from its answer, and forks a rollout where it is dropped."""

from dataclasses import replace
from typing import Any

import pytest

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.template import TemplateRenderer
from agentrft.graders import create_grader
from agentrft.job.training_data import training_rows
from agentrft.report import summarise
from agentrft.rollout import Rollout, grader_sample
from agentrft.spec.graders import PythonGraderSpec, StringCheckGraderSpec
from tests.chat.templated import tokenizer_like
from tests.chat.templates import THINKING, Family
from tests.job.scripted import LIMITS, ScriptedEngine, WordGrader, Write, roll_out
from tests.traffic.chaos_server import ChaosServer, ok

CALL = '<tool_call>\n{"name": "lookup", "arguments": {"word": "apple"}}\n</tool_call><|im_end|>'
THOUGHT = "<think>\nHm.\n</think>\n\n"
# As templates of models that think only once: what stands before the last turn has no thoughts.
FORGETFUL = replace(
    THINKING,
    template=THINKING.template.replace(
        "loop.index0 > last.user and message.reasoning_content", "loop.last and message.reasoning_content"
    ),
)


async def test_a_rollout_has_the_reasoning_tokens_of_each_turn() -> None:
    write = Write()
    tokenizer = tokenizer_like("qwen3", write.tokenizer)
    codec = load_codec(tokenizer, "Qwen/Qwen3-0.6B")

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    thought = ids("<think>\nI had better look it up.\n</think>")
    call = ids('\n\n<tool_call>\n{"name": "lookup", "arguments": {"word": "apple"}}\n</tool_call><|im_end|>')
    async with ChaosServer(default=ok("a fruit")) as server:
        rollout, _ = await roll_out(write, [thought + call, ids("red<|im_end|>")], server, codec=codec)
    assert (rollout.outcome, rollout.output_text) == ("graded", "red")
    assert [turn.reasoning_tokens for turn in rollout.turns] == [len(thought), 0]
    assert summarise([rollout]).reasoning_tokens_mean == len(thought)


NEVER = replace(
    THINKING, template=THINKING.template.replace("loop.index0 > last.user and message.reasoning_content", "false")
)


class Scripted:
    """Rollouts whose turns are texts, by a template's codec."""

    def __init__(self, family: Family, **variables: Any) -> None:
        self.write = Write()
        self.tokenizer = family.tokenizer(self.write.tokenizer)
        self.codec = ChatCodec(TemplateRenderer(self.tokenizer, variables=variables))

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    async def run(self, *turns: str, **options: Any) -> tuple[Rollout, ScriptedEngine]:
        async with ChaosServer(default=ok("a fruit")) as server:
            return await roll_out(self.write, [self.ids(one) for one in turns], server, codec=self.codec, **options)


async def test_graders_see_the_answer_without_the_thought_and_may_ask_for_that() -> None:
    grader = WordGrader()
    rollout, _ = await Scripted(THINKING).run(f"{THOUGHT}red<|im_end|>", grader=grader)
    assert (rollout.outcome, rollout.output_text) == ("graded", "red")
    sample = grader.samples[0]
    assert (sample.output_text, sample.reasoning.strip()) == ("red", "Hm.")
    for value in (sample.as_template_value(), sample.as_payload()):
        assert value["reasoning"].strip() == "Hm."
        assert value["choices"][0]["message"]["content"] == "red"
    stored = grader_sample(Rollout.from_dict(rollout.as_dict()))
    assert (stored.output_text, stored.reasoning) == (sample.output_text, sample.reasoning)


async def test_a_template_and_a_python_grader_read_the_reasoning() -> None:
    of_text = {"type": "string_check", "name": "t", "operation": "like"}
    by_template = StringCheckGraderSpec.model_validate(
        {**of_text, "input": "{{ sample.reasoning }}", "reference": "Hm."}
    )
    source = (
        "def grade(sample, item):\n    return float('Hm.' in sample['reasoning'] and sample['output_text'] == 'red')"
    )
    by_python = PythonGraderSpec.model_validate({"type": "python", "name": "p", "source": source, "trusted": True})
    for spec in (by_template, by_python):
        grader = create_grader(spec)
        try:
            rollout, _ = await Scripted(THINKING).run(f"{THOUGHT}red<|im_end|>", grader=grader)
            silent, _ = await Scripted(THINKING).run("red<|im_end|>", grader=grader)
        finally:
            await grader.close()
        assert (rollout.reward, silent.reward) == (1.0, 0.0)
        assert silent.outcome == "graded", "a model that did not think lacks nothing"


async def test_a_thought_that_was_cut_off_is_no_answer_and_all_of_it_is_reasoning() -> None:
    scripted = Scripted(THINKING)
    text = "<think>\nThe word is in the list, or is it"
    limits = replace(LIMITS, max_tokens_per_turn=len(scripted.ids(text)), grade_unfinished=True)
    grader = WordGrader()
    rollout, _ = await scripted.run(text, limits=limits, grader=grader)
    assert (rollout.outcome, rollout.failure_kind, rollout.output_text) == ("model_failed", "max_tokens", "")
    assert "in the list" in grader.samples[0].reasoning and grader.samples[0].output_text == ""
    assert rollout.reasoning_tokens == rollout.sampled_tokens == len(scripted.ids(text))
    summary = summarise([rollout])
    assert (summary.truncated_in_thought, summary.agent_usage["reasoning_tokens"]) == (1, rollout.sampled_tokens)


async def test_a_thought_that_ends_the_turn_is_no_answer() -> None:
    rollout, _ = await Scripted(THINKING).run("<think>\nIt is red.<|im_end|>")
    assert (rollout.outcome, rollout.failure_kind, rollout.output_text) == ("model_failed", "no_answer", "")
    assert rollout.reasoning_tokens > 0


def assert_trained_as_sampled(rollout: Rollout, engine: ScriptedEngine) -> None:
    """Each row is the context of its last turn, and all sampled tokens are trained on, once."""
    rows = training_rows(rollout, 0)
    ends = [*rollout.row_starts[1:], len(rollout.turns)]
    assert [row.token_ids for row in rows] == [engine.contexts[end - 1] for end in ends]
    trained = [row.token_ids[place] for row in rows for place in row.sampled_positions]
    assert trained == [token for turn in rollout.turns for token in turn.sampled_ids]
    logprobs = [logprob for row in rows for logprob in row.sampling_logprobs]
    assert logprobs == [logprob for turn in rollout.turns for logprob in turn.sampled_logprobs]


async def test_thoughts_between_calls_stay_where_the_template_shows_them() -> None:
    scripted = Scripted(THINKING)
    rollout, engine = await scripted.run(f"{THOUGHT}{CALL}", f"{THOUGHT}{CALL}", f"{THOUGHT}red<|im_end|>")
    assert (rollout.outcome, rollout.row_starts, rollout.forks) == ("graded", [0], {})
    assert scripted.text(engine.contexts[-1]).count("Hm.") == 3
    assert_trained_as_sampled(rollout, engine)


@pytest.mark.parametrize("family", [FORGETFUL, NEVER], ids=["all but the last", "all"])
async def test_a_rollout_whose_template_drops_thoughts_forks_and_counts_why(family: Family) -> None:
    scripted = Scripted(family)
    rollout, engine = await scripted.run(f"{THOUGHT}{CALL}", f"{THOUGHT}{CALL}", f"{THOUGHT}red<|im_end|>")
    assert (rollout.outcome, rollout.row_starts, rollout.forks) == ("graded", [0, 1, 2], {"reasoning_dropped": 2})
    assert [scripted.text(context).count("Hm.") for context in engine.contexts] == [1, 1, 1]
    assert_trained_as_sampled(rollout, engine)
    assert summarise([rollout, rollout]).forks == {"reasoning_dropped": 4}
    assert summarise([Rollout.from_dict(rollout.as_dict())]).forks == {"reasoning_dropped": 2}


async def test_a_turn_without_a_thought_does_not_fork_where_thoughts_are_dropped() -> None:
    rollout, engine = await Scripted(FORGETFUL).run(CALL, f"{THOUGHT}{CALL}", "red<|im_end|>")
    assert (rollout.row_starts, rollout.forks) == ([0, 2], {"reasoning_dropped": 1})
    assert_trained_as_sampled(rollout, engine)


async def test_a_model_told_not_to_think_forks_where_its_template_takes_back_the_empty_thought() -> None:
    scripted = Scripted(THINKING, enable_thinking=False)
    rollout, engine = await scripted.run(CALL, "red<|im_end|>")
    assert (rollout.row_starts, rollout.forks) == ([0, 1], {"rewritten": 1})
    assert scripted.text(rollout.turns[0].prompt_ids).endswith("<think>\n\n</think>\n\n")
    assert_trained_as_sampled(rollout, engine)


async def test_a_rollout_that_ends_at_its_last_turn_does_not_fork() -> None:
    limits = replace(LIMITS, max_episode_steps=1)
    rollout, engine = await Scripted(FORGETFUL).run(f"{THOUGHT}{CALL}", limits=limits)
    assert (rollout.failure_kind, rollout.row_starts, rollout.forks, engine.restarts) == ("max_turns", [0], {}, 0)


@pytest.mark.parametrize("enable_thinking", [True, False])
async def test_the_packages_renderer_of_qwen3_goes_on_from_the_same_row(enable_thinking: bool) -> None:
    scripted = Scripted(THINKING)
    tokenizer = tokenizer_like("qwen3", scripted.write.tokenizer)
    codec = load_codec(tokenizer, "Qwen/Qwen3-0.6B")
    codec.renderer = type(codec.renderer)(
        tokenizer, codec.renderer.config.model_copy(update={"enable_thinking": enable_thinking})
    )
    scripted.tokenizer, scripted.codec = tokenizer, codec
    thought = THOUGHT if enable_thinking else ""
    rollout, engine = await scripted.run(f"{thought}{CALL}", f"{thought}red<|im_end|>")
    assert (rollout.outcome, rollout.output_text, rollout.forks) == ("graded", "red", {})
    assert (rollout.reasoning_tokens > 0) is enable_thinking
    assert_trained_as_sampled(rollout, engine)
