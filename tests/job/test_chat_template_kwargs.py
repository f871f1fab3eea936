"""A job's variables of its chat template: in every rollout, in the warm start, in evals, and in what is exported."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.cli.targets import check_inputs
from agentrft.errors import UserError
from agentrft.job import NoProgress, Stop, create_job, evaluate, resolve_reference, resume_job, run_job
from agentrft.job.check import check_job
from agentrft.job.export import describe_weights, export_adapter, export_merged
from agentrft.job.references import spec_for
from agentrft.job.runtime import Runtime
from agentrft.job.training_data import training_rows
from agentrft.job.warm_start import demonstration_rows
from agentrft.rollout import Rollout
from agentrft.server.creation.model_validation import problem_of_model
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import TRAIN, VALIDATION, rollouts_file
from tests.job.thinking_model import THOUGHT, conversation
from tests.job.tiny_job import COLOURS, WORDS, prompt, write_job, write_rows
from tests.traffic.chaos_server import ChaosServer, ok

OFF = {"enable_thinking": False}
ONE_STEP = {"max_steps": 1, "max_tokens_per_turn": 64, "max_context_tokens": 512, "temperature": 0.8}
URL = "http://127.0.0.1:9/"


def thinking_job(folder: Path, model: Path, url: str = URL, **changes: Any) -> Path:
    hyperparameters = {**ONE_STEP, **changes.pop("hyperparameters", {})}
    path = write_job(folder, model, url, hyperparameters=hyperparameters, **changes)
    rows = [{"messages": conversation(word, colour, None)} for word, colour in zip(WORDS, COLOURS, strict=False)]
    write_rows(folder / "demonstrations.jsonl", rows)
    return path


async def trained(folder: Path, model: Path, **changes: Any) -> tuple[JobStore, str]:
    async with ChaosServer(default=ok("fine")) as server:
        spec = load_job(thinking_job(folder, model, server.url, **changes))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    return store, job_id


def rollouts_of(store: JobStore, job_id: str, phase: str, step: int) -> list[Rollout]:
    rows = read_rollouts(rollouts_file(store.job_folder(job_id), phase, step))
    return [Rollout.from_dict(row["record"]) for row in rows]


@pytest.mark.parametrize(("variables", "thought"), [({}, THOUGHT), (OFF, "")])
async def test_all_of_a_job_thinks_or_all_does_not(
    thinking_model: Path, tmp_path: Path, variables: dict[str, Any], thought: str
) -> None:
    store, job_id = await trained(tmp_path, thinking_model, chat_template_kwargs=variables, warm_start=None)
    with store:
        metrics = {(row["phase"], row["step"]): row for row in store.metrics(job_id)}
        tokenizer = AutoTokenizer.from_pretrained(thinking_model)
        for phase, step in ((VALIDATION, 0), (TRAIN, 1), (VALIDATION, 1)):
            rollouts = rollouts_of(store, job_id, phase, step)
            thoughts = [message.get("reasoning_content", "").strip() for r in rollouts for message in r.messages]
            assert thought in thoughts and (thought or not any(thoughts))
            for rollout in rollouts:
                begun = tokenizer.decode(rollout.turns[0].prompt_ids)
                assert begun.endswith("</think>\n\n") is not bool(thought)
                sampled = [token for turn in rollout.turns for token in turn.sampled_ids]
                rows = training_rows(rollout, 0)
                assert [row.token_ids[place] for row in rows for place in row.sampled_positions] == sampled
                # The template takes back the empty thought behind which a turn was sampled.
                assert rollout.forks == ({} if thought or len(rollout.row_starts) == 1 else rollout.forks)
            forks = sum(len(rollout.row_starts) - 1 for rollout in rollouts)
            assert metrics[phase, step]["forks"] == ({"rewritten": forks} if forks else {})
            assert bool(forks) is not bool(thought)
            counted = metrics[phase, step]["agent_usage"]["reasoning_tokens"]
            assert (counted > 0) is bool(thought) and counted == sum(r.reasoning_tokens for r in rollouts)
        assert store.get_job(job_id).setting("chat_template_kwargs") == variables
        assert resume_job(store, job_id).chat_template_kwargs == variables


async def test_what_is_exported_talks_as_it_was_trained_and_can_be_told_otherwise(
    thinking_model: Path, tmp_path: Path
) -> None:
    store, job_id = await trained(tmp_path, thinking_model, chat_template_kwargs=OFF)
    with store:
        weights = describe_weights(resolve_reference(f"{job_id}@last", store), store)
        assert weights.chat_template_kwargs == OFF
        export_merged(weights, tmp_path / "merged")
        export_adapter(weights, tmp_path / "adapter")
        of_adapter = describe_weights(resolve_reference(str(tmp_path / "adapter"), store), store)
        export_merged(of_adapter, tmp_path / "merged-later")
    expected = load_codec(AutoTokenizer.from_pretrained(thinking_model), "m", template_kwargs=OFF).prompt_ids(
        prompt("x")
    )
    for name in ("merged", "adapter", "merged-later"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        by_template = tokenizer.apply_chat_template(prompt("x"), add_generation_prompt=True, tokenize=False)
        assert load_codec(tokenizer, str(tmp_path / name)).prompt_ids(prompt("x")) == expected, name
        assert tokenizer.encode(by_template, add_special_tokens=False) == expected
        assert load_codec(tokenizer, "m", template_kwargs={"enable_thinking": True}).prompt_ids(prompt("x")) != expected


async def test_weights_are_evaluated_as_their_job_says_and_the_base_as_the_data_says(
    thinking_model: Path, tmp_path: Path
) -> None:
    store, job_id = await trained(tmp_path, thinking_model, chat_template_kwargs=OFF)
    with store:
        async with ChaosServer(default=ok("fine")) as server:
            data = load_job(thinking_job(tmp_path / "data", thinking_model, server.url, warm_start=None))
            counts = []
            for name in (f"{job_id}@last", "base"):
                reference = resolve_reference(name, store)
                spec = spec_for(reference, store, data)
                found = await evaluate(
                    spec, reference, rollouts_per_sample=1, temperature=0, progress=NoProgress(), stop=Stop(), limit=2
                )
                counts.append(found.summary.agent_usage["reasoning_tokens"])
    assert counts[0] == 0 < counts[1]


async def test_demonstrations_are_trained_on_behind_the_prompt_that_rollouts_get(
    thinking_model: Path, tmp_path: Path
) -> None:
    for variables, before in (({}, "assistant\n"), (OFF, "</think>\n\n")):
        runtime = Runtime(load_job(thinking_job(tmp_path / before[:2], thinking_model, chat_template_kwargs=variables)))
        try:
            for row in demonstration_rows(runtime, runtime.demonstrations):
                assert runtime.tokenizer.decode(row.token_ids[: row.sampled_positions[0]]).endswith(before)
        finally:
            await runtime.close()


async def test_a_variable_that_the_template_lacks_is_refused_before_anything_is_loaded(
    thinking_model: Path, tmp_path: Path
) -> None:
    spec = load_job(thinking_job(tmp_path, thinking_model, chat_template_kwargs={"enable_thoughts": False}))
    message = "no variable 'enable_thoughts', which `chat_template_kwargs` sets"
    for look in (Runtime, check_inputs):
        with pytest.raises(UserError, match=message) as raised:
            look(spec)
        assert raised.value.remedy == "Use one of: enable_thinking."
    problem = problem_of_model(spec)
    assert problem is not None and message in problem.message
    assert (problem.code, problem.param) == ("invalid_chat_template_kwargs", "chat_template_kwargs")
    async with ChaosServer(default=ok("fine")) as server:
        live = load_job(
            thinking_job(tmp_path, thinking_model, server.url, chat_template_kwargs={"enable_thoughts": False})
        )
        report = await check_job(live, burst=0)
    assert report.exit_code == 1 or report.exit_code == 2
    assert any(message in finding.text for finding in report.findings if finding.level == "error")


@pytest.mark.parametrize("name", ["max_tokens_per_turn", "max_context_tokens"])
def test_a_limit_above_the_models_is_found_in_its_files(thinking_model: Path, tmp_path: Path, name: str) -> None:
    spec = load_job(thinking_job(tmp_path, thinking_model, hyperparameters={name: 513}))
    problem = problem_of_model(spec)
    assert problem is not None and f"{name}=513 is more than the 512 tokens of the model" in problem.message
    assert (problem.code, problem.param) == ("invalid_hyperparameters", "method.reinforcement.hyperparameters")
    with pytest.raises(UserError, match=f"{name}=513"):
        check_inputs(spec)
    assert problem_of_model(load_job(thinking_job(tmp_path, thinking_model, hyperparameters={name: 512}))) is None


def test_a_model_that_is_not_here_is_left_to_the_job(tmp_path: Path, thinking_model: Path) -> None:
    spec = load_job(thinking_job(tmp_path, thinking_model, chat_template_kwargs={"anything": 1}))
    for model in ("someone/not-here", "/no/such/folder"):
        assert problem_of_model(spec.model_copy(update={"model": model})) is None


async def test_check_says_what_was_cut_off_in_mid_thought_and_how_to_mend_it(
    thinking_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer(default=ok("fine")) as server:
        short = thinking_job(tmp_path, thinking_model, server.url, hyperparameters={"max_tokens_per_turn": 5})
        report = await check_job(load_job(short), burst=0)
        whole = await check_job(load_job(thinking_job(tmp_path, thinking_model, server.url)), burst=0)
    (cut,) = [finding for finding in report.findings if finding.part == "rollouts"]
    assert cut.level == "warning"
    assert cut.text == "8 rollouts were cut off before the answer (100%): 8 by max_tokens_per_turn, 8 in mid-thought."
    assert "max_tokens_per_turn" in cut.remedy and "chat_template_kwargs: {enable_thinking: false}" in cut.remedy
    assert not [finding for finding in whole.findings if finding.part == "rollouts"]


async def test_the_automatic_limits_know_whether_the_model_thinks(thinking_model: Path, tmp_path: Path) -> None:
    auto = {"max_tokens_per_turn": "auto", "max_context_tokens": "auto"}
    whys = []
    for variables in ({}, OFF):
        path = thinking_job(
            tmp_path, thinking_model, hyperparameters=auto, chat_template_kwargs=variables, tools=[], warm_start=None
        )
        runtime = Runtime(load_job(path))
        whys.append(runtime.token_limits.why[0])
        await runtime.close()
    assert all("beside the longest prompt" in why for why in whys), "the tiny model's context bounds both"
