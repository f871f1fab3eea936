"""How long a turn and a rollout may be where the job does not say: by the model, the job and the memory."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.job.memory_budget import tokens_in_memory
from agentrft.job.progress import NoProgress
from agentrft.job.run import create_job, resume_job, run_job
from agentrft.job.runtime import Runtime
from agentrft.job.stop import Stop
from agentrft.job.token_limits import LimitFacts, token_limits
from agentrft.models import resolve_model
from agentrft.models.architecture import inspect_architecture
from agentrft.models.load import load_config
from agentrft.models.memory import most_tokens_within
from agentrft.spec import Hyperparameters, load_job
from tests.job.tiny_job import write_job

URL = "http://127.0.0.1:9/"
FACTS = LimitFacts(
    model_tokens=40960,
    memory_tokens=100_000,
    at_once=8,
    thinks=False,
    longest_prompt=300,
    longest_shown_turn=0,
    tool_tokens=256,
    turns=10,
)
AUTO = {"max_tokens_per_turn": "auto", "max_context_tokens": "auto"}


def test_a_model_that_thinks_gets_thousands_of_tokens_a_turn() -> None:
    plain, thinking = (
        token_limits(Hyperparameters(), FACTS),
        token_limits(Hyperparameters(), replace(FACTS, thinks=True)),
    )
    assert (plain.max_tokens_per_turn, thinking.max_tokens_per_turn) == (512, 4096)
    assert thinking.max_context_tokens > plain.max_context_tokens >= 300 + 512 + 9 * 256
    assert "thinks before it answers" in thinking.why[0] and "thinks" not in plain.why[0]


def test_turns_are_as_long_as_the_demonstrations_show_them() -> None:
    found = token_limits(Hyperparameters(), replace(FACTS, longest_shown_turn=900))
    assert found.max_tokens_per_turn == 2048
    assert "the demonstrations' longest turn has 900 tokens" in found.why[0]


@pytest.mark.parametrize(
    ("facts", "context", "why"),
    [
        ({"model_tokens": 2048}, 2048, "all that the model takes"),
        ({"memory_tokens": 3000}, 3000, "the memory has room for 8 rollouts at once of no more; the model takes 40960"),
        ({"memory_tokens": 3000, "model_tokens": None}, 3000, "the memory has room for 8 rollouts at once of no more"),
        ({"turns": 1, "tool_tokens": 0}, 1024, "the longest prompt of 300 tokens and an answer; the model takes 40960"),
        ({}, 4352, "the longest prompt of 300 tokens and 10 turns with what tools answer; the model takes 40960"),
    ],
)
def test_the_context_is_what_the_job_needs_as_far_as_model_and_memory_have_it(
    facts: dict[str, Any], context: int, why: str
) -> None:
    found = token_limits(Hyperparameters(), replace(FACTS, **facts))
    assert (found.max_context_tokens, found.why[1]) == (context, f"max_context_tokens={context}: {why}")


def test_a_turn_leaves_room_for_the_next_one() -> None:
    found = token_limits(Hyperparameters(), replace(FACTS, thinks=True, model_tokens=2300))
    assert (found.max_context_tokens, found.max_tokens_per_turn) == (2300, 1000)
    assert "beside the longest prompt, halved for a second turn" in found.why[0]
    single = token_limits(Hyperparameters(), replace(FACTS, thinks=True, model_tokens=2300, turns=1))
    assert single.max_tokens_per_turn == 2000


def test_what_the_job_says_stays_and_needs_no_reason() -> None:
    given = Hyperparameters(max_tokens_per_turn=56, max_context_tokens=640)
    assert token_limits(given, replace(FACTS, memory_tokens=10)) == type(found := token_limits(given, FACTS))(56, 640)
    assert found.why == ()
    of_turns = token_limits(Hyperparameters(max_tokens_per_turn=8000), FACTS)
    assert of_turns.max_tokens_per_turn == 8000 and of_turns.max_context_tokens >= 8300
    of_context = token_limits(Hyperparameters(max_context_tokens=700), FACTS)
    assert (of_context.max_context_tokens, of_context.max_tokens_per_turn) == (700, 200)


@pytest.mark.parametrize("name", ["max_tokens_per_turn", "max_context_tokens"])
def test_more_than_the_model_takes_is_an_error_that_names_what_it_takes(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}=40961 is more than the 40960 tokens of the model") as raised:
        token_limits(Hyperparameters.model_validate({name: 40961}), FACTS)
    assert "at most 40960" in raised.value.remedy
    token_limits(Hyperparameters.model_validate({name: 40960}), FACTS)
    token_limits(Hyperparameters.model_validate({name: 40961}), replace(FACTS, model_tokens=None))


def test_a_prompt_for_which_the_memory_has_no_room_is_an_error() -> None:
    with pytest.raises(
        UserError, match="the memory has room for 8 rollouts at once of 200 tokens each, and the longest"
    ):
        token_limits(Hyperparameters(), replace(FACTS, memory_tokens=200))


@pytest.mark.parametrize("budget", [0, 1, 63, 64, 1000, 10**9])
def test_the_most_tokens_within_a_budget_are_found(budget: int) -> None:
    def bytes_of(tokens: int) -> int:
        return 64 + -(-tokens // 16) * 32

    found = most_tokens_within(budget, bytes_of, most=5000)
    assert found == max([n for n in range(5001) if bytes_of(n) <= budget], default=0)


def auto_job(folder: Path, model: Path, **changes: Any) -> Path:
    return write_job(folder, model, URL, hyperparameters={**AUTO, **changes.pop("hyperparameters", {})}, **changes)


async def test_a_job_without_limits_runs_with_what_its_model_takes_and_says_why(
    tiny_model: Path, tmp_path: Path
) -> None:
    runtime = Runtime(load_job(auto_job(tmp_path, tiny_model)))
    told: list[str] = []
    runtime.notices.listen(lambda level, text: told.append(f"{level} {text}"))
    try:
        limits = runtime.hyperparameters
        assert limits.max_context_tokens == 512, "the tiny model takes no more"
        assert limits.max_tokens_per_turn == (512 - max(runtime.prompt_tokens)) // 2
        assert told == [f"info {why}" for why in runtime.token_limits.why] and len(told) == 2
        assert runtime.engine._cache.max_tokens == 512
    finally:
        await runtime.close()


async def test_a_prompt_that_the_model_cannot_take_is_an_error_that_does_not_ask_for_more_of_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    path = auto_job(tmp_path, tiny_model)
    row = {"messages": [{"role": "user", "content": "very " * 600}], "word": "x"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"1 prompt\(s\) do not fit into max_context_tokens=512: row 00001") as raised:
        Runtime(load_job(path))
    assert "this one takes no more" in raised.value.remedy


async def test_a_limit_above_the_models_is_refused_before_the_model_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    for name in AUTO:
        path = write_job(tmp_path / name, tiny_model, URL, hyperparameters={name: 513})
        with pytest.raises(UserError, match=f"{name}=513 is more than the 512 tokens of the model"):
            Runtime(load_job(path))


def test_the_memory_holds_a_group_at_once_in_the_cache_and_in_an_update(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    cpu = torch.device("cpu")
    config = load_config(resolve_model(str(tiny_model)))
    architecture = inspect_architecture(config)

    def tokens(**changes: Any) -> tuple[int, int]:
        spec = load_job(auto_job(tmp_path, tiny_model, **changes))
        return tokens_in_memory(spec, architecture, 4, engine_device=cpu, device=cpu)

    # 2 x 2 layers x 2 heads x 12 dimensions x 4 bytes a token, in blocks of 64 tokens.
    (few, at_once), (more, _) = tokens(engine={"kv_cache_mb": 1}), tokens(engine={"kv_cache_mb": 2})
    assert at_once == 4, "compute_multiplier is 0.5"
    assert few == 1_000_000 // (4 * 384 * 64) * 64 and more == 2_000_000 // (4 * 384 * 64) * 64
    assert tokens(engine={"kv_cache_mb": 1}, deterministic=True)[1] == 16
    assert tokens(engine={"kv_cache_mb": 10**9})[0] < 10**9, "the update takes memory, too"


async def test_a_resumed_job_keeps_the_limits_that_it_began_with(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_job(auto_job(tmp_path, tiny_model))
    store, job_id = create_job(spec)
    store.record_hyperparameters(job_id, {"max_tokens_per_turn": 33, "max_context_tokens": 222})
    resumed = resume_job(store, job_id)
    assert resumed.hyperparameters.max_context_tokens == 222, "what is measured of it has the same"
    seen: list[Hyperparameters] = []

    def stop_here(spec: Any) -> None:
        seen.append(spec.hyperparameters)
        raise UserError("that is far enough.", "")

    monkeypatch.setattr("agentrft.job.run.Runtime", stop_here)
    with pytest.raises(UserError, match="far enough"):
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    assert (seen[0].max_tokens_per_turn, seen[0].max_context_tokens) == (33, 222)
