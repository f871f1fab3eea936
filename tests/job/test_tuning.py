"""Whole jobs that learn from files alone, on the tiny model."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from agentrft.cli.overrides import load_job_with
from agentrft.errors import Interrupted, JobFailedError, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job, tuning
from agentrft.job.checkpoint import load_state
from agentrft.job.tuning import TuningRuntime
from agentrft.job.tuning_examples import Demonstrations
from agentrft.spec import TuningSpec, load_any_job, load_job
from agentrft.store import JobStore
from agentrft.store.layout import step_folder
from tests.job.ended import Ended
from tests.job.fork_server import ForkServer
from tests.job.tiny_job import COLOURS, WORDS, demonstration, prompt, write_rows

METHODS = ["supervised", "dpo"]
MEASURED = {"supervised": "token_accuracy", "dpo": "preference_accuracy"}


def preference(word: str, better: str, worse: str) -> dict[str, Any]:
    answers = {"preferred_output": better, "non_preferred_output": worse}
    said = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
    return {"input": {"messages": prompt(word)}, **said}


ROWS: dict[str, list[dict[str, Any]]] = {
    "supervised": [{"messages": demonstration(word, COLOURS[0])} for word in WORDS],
    "dpo": [preference(word, COLOURS[0], COLOURS[1 + index % 3]) for index, word in enumerate(WORDS)],
}


def write_tuning(folder: Path, model: Path, kind: str, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", ROWS[kind][:7])
    write_rows(folder / "validation.jsonl", ROWS[kind][7:])
    hyperparameters = {
        "batch_size": 2,
        "n_epochs": 2,
        "eval_interval": 3,
        "lora_rank": 4,
        "learning_rate_multiplier": 4 if kind == "supervised" else 100,
        **changes.pop("hyperparameters", {}),
    }
    job = {
        "model": str(model),
        "training_file": "train.jsonl",
        "validation_file": "validation.jsonl",
        "seed": 7,
        "dtype": "float32",
        "deterministic": True,
        "output_dir": "runs",
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        **changes,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


async def run(job_file: Path, stop: Stop | None = None, progress: Any = None) -> tuple[JobStore, str]:
    spec = load_any_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    await run_job(spec, store, job_id, progress=progress or NoProgress(), stop=stop or Stop())
    return store, job_id


def timeless(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.endswith("_s")} for row in metrics]


@pytest.mark.parametrize("method", METHODS)
async def test_a_job_learns_and_leaves_its_checkpoints(tiny_model: Path, tmp_path: Path, method: str) -> None:
    store, job_id = await run(write_tuning(tmp_path, tiny_model, method))
    with store:
        job = store.get_job(job_id)
        assert (job.status, job.total_steps, job.step) == ("succeeded", 8, 8)
        metrics = store.metrics(job_id)
        trained = [row for row in metrics if row["phase"] == "train"]
        validated = [row for row in metrics if row["phase"] == "validation"]
        assert [row["step"] for row in trained] == list(range(1, 9))
        assert [row["step"] for row in validated] == [0, 3, 6, 8]
        assert [row["examples"] for row in trained] == [2, 2, 2, 1] * 2
        assert validated[-1]["loss"] < validated[0]["loss"] - 0.1
        assert validated[-1][MEASURED[method]] >= validated[0][MEASURED[method]]
        assert all(row["total_tokens"] > row["learned_tokens"] > 0 for row in trained)
        # The start, the validated ones, and the ends of epochs.
        assert sorted(store.checkpoints(job_id)) == [0, 3, 4, 6, 8]
        texts = [event.message for event in store.events(job_id)]
        assert "The result is step 8, the last one" in texts
        assert job.hyperparameters and job.hyperparameters["beta"] == (0.1 if method == "dpo" else None)


# At which step the record is: the fifth step was under way, and the fourth had ended an epoch; or the checkpoint of the
# fourth was written, and the third was the last that was recorded.
KILLED = {"in a tuning step": 4, "before a tuning record": 3}


@pytest.mark.parametrize(
    ("method", "moments"),
    [
        ("dpo", list(KILLED)[:1]),
        *(pytest.param(method, list(KILLED), marks=pytest.mark.slow) for method in ("dpo", "supervised")),
    ],
)
def test_a_killed_job_goes_on_as_if_nothing_had_been(
    fork_server: ForkServer, tiny_model: Path, tmp_path: Path, method: str, moments: list[str]
) -> None:
    folders = [write_tuning(tmp_path / "whole", tiny_model, method).parent]
    assert fork_server.run(folders[0] / "job.yaml") == 0, (folders[0] / "log.txt").read_text()
    for number, moment in enumerate(moments):
        broken = write_tuning(tmp_path / f"broken-{number}", tiny_model, method)
        folders.append(broken.parent)
        assert fork_server.run(broken, kill_at=moment) == -signal.SIGKILL
        with JobStore(broken.parent / "runs", create=False) as store:
            job = store.find_job("latest")
            assert (job.status, job.step) == ("running", KILLED[moment])
        assert fork_server.run(broken, job_id=job.job_id) == 0, (broken.parent / "log.txt").read_text()
    found = []
    for folder in folders:
        with JobStore(folder / "runs", create=False) as store:
            job = store.find_job("latest")
            state = load_state(step_folder(store.job_folder(job.job_id), 8))
            found.append((timeless(store.metrics(job.job_id)), state["masters"]))
    for metrics, masters in found[1:]:
        assert metrics == found[0][0]
        assert all(torch.equal(one, masters[name]) for name, one in found[0][1].items())


async def test_updates_that_no_checkpoint_has_are_made_again_from_the_file(tiny_model: Path, tmp_path: Path) -> None:
    class Crashing(NoProgress):
        """Ends the job when a step is recorded that has no checkpoint, as a kill would."""

        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if (phase, step) == ("train", 6):
                raise ZeroDivisionError

    changes: dict[str, Any] = {"eval_interval": 99, "n_epochs": 3, "batch_size": 1, "lora_rank": "full"}
    found: list[tuple[list[dict[str, Any]], dict[str, torch.Tensor]]] = []
    for name, progress in {"whole": NoProgress(), "crashed": Crashing()}.items():
        job_file = write_tuning(
            tmp_path / name, tiny_model, "dpo", hyperparameters={**changes, "checkpoint_interval": 4, "max_steps": 10}
        )
        spec = load_any_job(job_file)
        store, job_id = create_job(spec, source=job_file)
        with store:
            if name == "crashed":
                with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
                    # So that each step is recorded by itself.
                    patch.setattr(tuning, "RECORD_S", -1.0)
                    await run_job(spec, store, job_id, progress=progress, stop=Stop())
                assert sorted(store.checkpoints(job_id)) == [0, 4] and store.get_job(job_id).step == 6
                spec = resume_job(store, job_id)
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            texts = [event.message for event in store.events(job_id)]
            again = [text for text in texts if text.startswith("made the updates of steps 5 to 6 again")]
            assert len(again) == (name == "crashed")
            # The start, the end of the first epoch, and the last one.
            assert sorted(store.checkpoints(job_id)) == [0, 7, 10]
            state = load_state(step_folder(store.job_folder(job_id), 10))
            found.append((timeless(store.metrics(job_id)), state["masters"]))
    (metrics, masters), (again_metrics, again_masters) = found
    assert again_metrics == metrics
    assert all(torch.equal(again_masters[name], one) for name, one in masters.items())


async def test_a_loss_that_is_no_number_ends_the_job_and_says_what_to_lower(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Demonstrations.measure
    calls: list[int] = []

    def broken(self: Demonstrations, *arguments: Any) -> dict[str, Any]:
        calls.append(1)
        return {**original(self, *arguments), **({"loss": float("nan")} if len(calls) == 2 else {})}

    monkeypatch.setattr(Demonstrations, "measure", broken)
    with pytest.raises(JobFailedError, match="validation, step 3: the loss is not finite"):
        await run(write_tuning(tmp_path, tiny_model, "supervised"))
    with JobStore(tmp_path / "runs", create=False) as store:
        job = store.find_job("latest")
        assert (job.status, job.step) == ("failed", 3)


async def test_a_job_that_is_stopped_keeps_the_step_that_it_was_at(tiny_model: Path, tmp_path: Path) -> None:
    job_file = write_tuning(tmp_path, tiny_model, "supervised", hyperparameters={"eval_interval": 100})
    stop = Stop()

    class Stopping(NoProgress):
        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if step == 4:
                stop.request()

    with pytest.raises(Interrupted):
        await run(job_file, stop, Stopping())
    with JobStore(tmp_path / "runs", create=False) as store:
        job = store.find_job("latest")
        assert job.status == "interrupted" and job.step >= 4
        spec = resume_job(store, job.job_id)
        assert isinstance(spec, TuningSpec)
        await run_job(spec, store, job.job_id, progress=NoProgress(), stop=Stop())
        assert [row["step"] for row in store.metrics(job.job_id) if row["phase"] == "train"] == list(range(1, 9))


async def test_it_begins_with_the_weights_of_a_job_of_another_method(
    uninterrupted: Ended, tiny_model: Path, tmp_path: Path
) -> None:
    start = step_folder(uninterrupted.folder, 3)
    job_file = write_tuning(
        tmp_path, tiny_model, "dpo", start_from=str(start), hyperparameters={"max_steps": 1, "lora_rank": "auto"}
    )
    store, job_id = await run(job_file)
    with store:
        begun = load_state(step_folder(store.job_folder(job_id), 0))["masters"]
        assert all(torch.equal(begun[name], one) for name, one in load_state(start)["masters"].items())
        first = store.metrics(job_id)[0]
        assert first["phase"] == "validation" and first["loss"] == pytest.approx(0.6931, abs=1e-3)


REFUSED = [
    ({"method": {"type": "supervised", "supervised": {"grader": {}}}}, "unknown field 'grader'"),
    ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"beta": 0.1}}}}, "with the method dpo alone"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}}, "beta"),
    ({"method": {"type": "dpo", "supervised": {}}}, "unknown field 'supervised'"),
    ({"method": {"type": "sft"}}, "`type: reinforcement`, `supervised` or `dpo`, found a mapping with 'type'"),
    ({"test_file": "test.jsonl"}, "unknown field 'test_file'"),
    ({"method": {"type": "supervised", "supervised": 3}}, "method.supervised: expected a mapping"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED)
def test_a_faulty_job_is_refused_when_it_is_read(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_any_job(write_tuning(tmp_path, tiny_model, "supervised", **changes))
    assert text in str(refused.value)


def test_the_method_alone_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    job = load_any_job(write_tuning(tmp_path, tiny_model, "supervised", method={"type": "supervised"}))
    assert isinstance(job, TuningSpec) and job.hyperparameters.n_epochs == "auto"
    assert load_any_job(write_tuning(tmp_path, tiny_model, "dpo", method={"type": "dpo", "dpo": None})).method == "dpo"


def test_what_rolls_out_refuses_a_job_without_tools(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a job of the method supervised has no tools and no grader"):
        load_job(write_tuning(tmp_path, tiny_model, "supervised"))


@pytest.mark.parametrize("method", METHODS)
def test_an_example_that_does_not_fit_is_named_before_the_model_is_loaded(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    path = write_tuning(tmp_path, tiny_model, method, hyperparameters={"max_context_tokens": 60})
    rows = json.loads(json.dumps(ROWS[method][:3]))
    where = rows[1]["messages"] if method == "supervised" else rows[1]["input"]["messages"]
    where[0]["content"] = "long " * 100
    write_rows(tmp_path / "train.jsonl", rows)
    spec = load_any_job(path)
    assert isinstance(spec, TuningSpec)
    with pytest.raises(UserError) as refused:
        TuningRuntime(spec)
    assert "training_file: 1 example(s) do not fit into 60 tokens: line 2: " in refused.value.cause
    assert "raise hyperparameters.max_context_tokens" in refused.value.remedy


def test_an_example_without_a_turn_that_can_be_trained_on_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = write_tuning(tmp_path, tiny_model, "supervised")
    spec = load_any_job(path)
    assert isinstance(spec, TuningSpec)

    class Odd(TuningRuntime):
        """As a template is that takes a turn before the first question for none."""

        def read_tokenizer(self) -> None:
            super().read_tokenizer()
            original = self.codec.training_rows

            def training_rows(messages: Any, tools: Any = ()) -> Any:
                if messages[0]["content"] == "Colour of river?":
                    raise UserError("A demonstration holds no token that the model would write.", "Give it one.")
                return original(messages, tools)

            self.codec.training_rows = training_rows  # type: ignore[method-assign]

    with pytest.raises(UserError) as refused:
        Odd(spec)
    assert "training_file: 1 example(s) cannot be trained on: line 3: A demonstration holds" in refused.value.cause


def test_a_field_can_be_set_where_a_method_has_none(tiny_model: Path, tmp_path: Path) -> None:
    path = write_tuning(tmp_path, tiny_model, "supervised", method={"type": "supervised"})
    spec = load_job_with(path, ["hyperparameters.n_epochs=2"])
    assert isinstance(spec, TuningSpec) and spec.hyperparameters.n_epochs == 2
