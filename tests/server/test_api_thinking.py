"""A model that thinks, over the API: its job is created, trained, asked, trained further and fetched as it was told."""

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from agentrft.job.secrets import restored_spec
from agentrft.store import JobStore
from agentrft.template_variables import template_variables
from tests.job.thinking_model import THOUGHT
from tests.job.tiny_job import TOOL, prompt
from tests.server.live import MODEL, PATIENCE_S, Live, live, method, upload, wait_for
from tests.traffic.chaos_server import ChaosServer

OFF = {"enable_thinking": False}
TOOLS: Any = [{"type": "function", "function": TOOL}]
SHORT = {"max_steps": 1, "temperature": 0.8}


@pytest.fixture(scope="module")
def thinking_server(tmp_path_factory: pytest.TempPathFactory, thinking_model: Path) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("thinking-server") / "data", thinking_model) as started:
        yield started


@pytest.fixture(scope="module")
def sdk(thinking_server: Live) -> OpenAI:
    return thinking_server.client()


@pytest.fixture(scope="module")
def rows(sdk: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return upload(sdk, tmp_path_factory.mktemp("thinking-rows"))


def create(sdk: OpenAI, rows: dict[str, str], url: str, *, model: str = MODEL, inner: Any = None, **extra: Any) -> Any:
    """With `chat_template_kwargs` beside the method (`extra`), or inside it (`inner`)."""
    given = method(url, **{"hyperparameters": SHORT, **(inner or {})})
    return sdk.fine_tuning.jobs.create(
        model=model,
        training_file=rows["train"],
        validation_file=rows["validation"],
        method=given,  # type: ignore[arg-type]
        extra_body={"dtype": "float32", **extra},
    )


@pytest.fixture(scope="module")
def job(sdk: OpenAI, rows: dict[str, str], tools: ChaosServer) -> Any:
    made = create(sdk, rows, tools.url, chat_template_kwargs=OFF)
    return wait_for(sdk, made.id, "succeeded")


def setting(server: Live, job_id: str) -> dict[str, Any]:
    with JobStore(server.data_dir / "jobs", database=server.database, create=False) as store:
        return store.get_job(job_id).setting("chat_template_kwargs")


def asked(sdk: OpenAI, model: str, **extra: Any) -> Any:
    return sdk.chat.completions.create(
        model=model,
        messages=prompt("apple"),
        tools=TOOLS,
        temperature=0,
        max_tokens=64,
        extra_body=extra,  # type: ignore[arg-type]
    )


def thought(sdk: OpenAI, model: str, **extra: Any) -> str:
    return getattr(asked(sdk, model, **extra).choices[0].message, "reasoning_content", "").strip()


def prompt_tokens(sdk: OpenAI, model: str, **extra: Any) -> int:
    return asked(sdk, model, **extra).usage.prompt_tokens


def test_the_trained_model_talks_as_its_job_said_and_its_base_as_before(sdk: OpenAI, job: Any) -> None:
    tuned = job.fine_tuned_model
    assert thought(sdk, tuned) == "" and thought(sdk, f"{tuned}:ckpt-step-1") == ""
    assert thought(sdk, MODEL) == THOUGHT
    assert thought(sdk, MODEL, chat_template_kwargs=OFF) == ""
    assert prompt_tokens(sdk, tuned) == prompt_tokens(sdk, MODEL, chat_template_kwargs=OFF)
    for variables in ({"enable_thinking": True}, {"enable_thinking": None}):
        assert prompt_tokens(sdk, tuned, chat_template_kwargs=variables) == prompt_tokens(sdk, MODEL)
    events = sdk.fine_tuning.jobs.list_events(job.id, limit=100).data
    metrics = [event.data for event in events if event.type == "metrics"]
    assert metrics and all(data["reasoning_tokens_mean"] == 0 for data in metrics)  # type: ignore[index]


def test_the_downloaded_model_has_it_as_its_templates_default(sdk: OpenAI, job: Any) -> None:
    content = sdk.get(f"/models/{job.fine_tuned_model}/merged", cast_to=bytes)
    with zipfile.ZipFile(io.BytesIO(content)) as files:
        template = files.read(next(name for name in files.namelist() if name.endswith("chat_template.jinja"))).decode()
    assert template.startswith("{% if enable_thinking is not defined %}{% set enable_thinking = false %}{% endif %}\n")
    assert template_variables(template) == ["enable_thinking"]


def test_a_model_trained_further_keeps_it_unless_told_otherwise(
    sdk: OpenAI, job: Any, rows: dict[str, str], tools: ChaosServer, thinking_server: Live
) -> None:
    further = {"hyperparameters": {**SHORT, "lora_rank": "auto"}}
    kept = create(sdk, rows, tools.url, model=job.fine_tuned_model, inner=further)
    told = create(sdk, rows, tools.url, model=job.fine_tuned_model, inner=further, chat_template_kwargs={})
    for made, expected in ((kept, OFF), (told, {})):
        sdk.fine_tuning.jobs.cancel(made.id)
        assert setting(thinking_server, made.id) == expected


def test_a_hosted_effort_is_what_stands_for_it_in_the_template(
    sdk: OpenAI, job: Any, rows: dict[str, str], tools: ChaosServer, thinking_server: Live
) -> None:
    """The template has `enable_thinking` and no levels."""

    def variables(effort: Any, **extra: Any) -> tuple[dict[str, Any], list[str]]:
        hyperparameters = {**SHORT, "lora_rank": "auto", "reasoning_effort": effort}
        inner = {"hyperparameters": hyperparameters, **extra.pop("inner", {})}
        made = create(sdk, rows, tools.url, inner=inner, **extra)
        sdk.fine_tuning.jobs.cancel(made.id)
        events = [event.message for event in sdk.fine_tuning.jobs.list_events(made.id, limit=100).data]
        return setting(thinking_server, made.id), [text for text in events if "reasoning_effort" in text]

    assert variables("minimal") == (OFF, [])
    assert variables("default") == variables(None) == ({}, [])
    for effort in ("high", "much", 3):
        chosen, warnings = variables(effort)
        assert chosen == {} and len(warnings) == 1, "nothing stands for it, and an event says so"
    on = {"enable_thinking": True}
    for given in ({"chat_template_kwargs": on}, {"inner": {"chat_template_kwargs": on}}):
        assert variables("minimal", **given) == (on, []), "what is named goes before"
    null = {"chat_template_kwargs": {"enable_thinking": None}}
    assert variables("minimal", **null) == ({}, []), "a null is named, too"
    tuned = job.fine_tuned_model
    assert variables("high", model=tuned)[0] == OFF, "as it was trained"


@pytest.mark.parametrize("where", ["inner", "extra"])
def test_a_variable_that_the_template_lacks_fails_the_job_when_it_is_validated(
    sdk: OpenAI, rows: dict[str, str], tools: ChaosServer, where: str
) -> None:
    wrong = {"chat_template_kwargs": {"enable_thoughts": False}}
    made = create(sdk, rows, tools.url, **({"inner": wrong} if where == "inner" else wrong))
    failed = wait_for(sdk, made.id, "failed")
    assert (failed.error.code, failed.error.param) == ("invalid_chat_template_kwargs", "chat_template_kwargs")
    assert "no variable 'enable_thoughts'" in failed.error.message and "enable_thinking" in failed.error.message


def test_a_limit_above_the_models_fails_the_job_when_it_is_validated(
    sdk: OpenAI, rows: dict[str, str], tools: ChaosServer
) -> None:
    inner = {"hyperparameters": {**SHORT, "max_context_tokens": 513}}
    failed = wait_for(sdk, create(sdk, rows, tools.url, inner=inner).id, "failed")
    assert failed.error.code == "invalid_hyperparameters"
    assert "max_context_tokens=513 is more than the 512 tokens of the model" in failed.error.message


@pytest.mark.slow
def test_an_evals_run_thinks_as_its_model_does_unless_told_otherwise(sdk: OpenAI, job: Any) -> None:
    made = sdk.evals.create(
        name="thoughts",
        data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        testing_criteria=[
            {
                "type": "string_check",
                "name": "thought",
                "input": "{{ sample.reasoning }}",
                "reference": "",
                "operation": "eq",
            }
        ],
    )
    shares = []
    for model, ours in ((job.fine_tuned_model, {}), (MODEL, {}), (MODEL, {"chat_template_kwargs": OFF})):
        source: Any = {
            "type": "completions",
            "model": model,
            "source": {"type": "file_content", "content": [{"item": {"messages": prompt("apple")}}]},
            "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
            "sampling_params": {"temperature": 0, "tools": TOOLS, "max_completion_tokens": 64},
        }
        run = sdk.evals.runs.create(made.id, data_source=source, extra_body={"agentrft": {"dtype": "float32", **ours}})
        deadline = time.monotonic() + PATIENCE_S
        while run.status in ("queued", "in_progress"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
            run = sdk.evals.runs.retrieve(run.id, eval_id=made.id)
        assert run.status == "completed", run.error
        shares.append(run.result_counts.passed)
    assert shares == [1, 0, 1], "passed where there is no thought"


def test_a_stored_job_is_the_same_job_again(job: Any, thinking_server: Live) -> None:
    with JobStore(thinking_server.data_dir / "jobs", database=thinking_server.database, create=False) as store:
        stored = store.get_job(job.id)
        # Header values are elsewhere, and there are none here.
        assert restored_spec(stored.spec).chat_template_kwargs == OFF
        assert stored.hyperparameters is not None and stored.hyperparameters["max_tokens_per_turn"] == 48
