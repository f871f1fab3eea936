"""Training that begins with the weights of an earlier job."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agentrft.errors import UserError
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.checkpoint import load_state
from agentrft.job.references import ModelReference, spec_for
from agentrft.job.run import _with_recorded_limits
from agentrft.spec import load_job
from agentrft.store.layout import step_folder
from tests.job.ended import Ended
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer

NEXT: dict[str, Any] = {"warm_start": None, "hyperparameters": {"max_steps": 1, "lora_rank": "auto"}}


def checkpoint(ended: Ended, step: int) -> Path:
    return step_folder(ended.folder, step)


@pytest.mark.parametrize("part", ["", "adapter"])
async def test_step_0_is_the_step_that_it_begins_with(
    uninterrupted: Ended, tiny_model: Path, tmp_path: Path, part: str
) -> None:
    start = checkpoint(uninterrupted, 3) / part
    async with ChaosServer() as server:
        spec = load_job(write_job(tmp_path, tiny_model, server.url, start_from=str(start), **NEXT))
        assert spec.hyperparameters.lora_rank == 4, "the rank is the weights'"
        store, job_id = create_job(spec)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            assert store.get_job(job_id).status == "succeeded"
            begun = load_state(step_folder(store.job_folder(job_id), 0))
            trained = load_state(step_folder(store.job_folder(job_id), 1))
    known = load_state(checkpoint(uninterrupted, 3))
    assert begun["policy_version"] == 0
    for name, master in known["masters"].items():
        assert torch.equal(begun["masters"][name], master)
    assert any(not torch.equal(trained["masters"][name], master) for name, master in known["masters"].items())


def refused(tmp_path: Path, tiny_model: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9/tool", **changes))
    return str(error.value)


def test_what_is_no_checkpoint_is_refused_when_the_job_is_read(tmp_path: Path, tiny_model: Path) -> None:
    assert "is no checkpoint and no adapter" in refused(tmp_path, tiny_model, start_from="nowhere")
    assert "a merged model is named by `model:`" in refused(tmp_path, tiny_model, start_from=str(tiny_model))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8}))
    assert "adapter_config.json cannot be read" in refused(tmp_path, tiny_model, start_from="broken")


def test_whether_experts_are_trained_is_the_weights_too(uninterrupted: Ended, tmp_path: Path, tiny_model: Path) -> None:
    start = str(checkpoint(uninterrupted, 3))
    spec = load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9/tool", **{**NEXT, "start_from": start}))
    assert spec.hyperparameters.lora_experts is False
    for given in (True, False):
        hyperparameters = {**NEXT["hyperparameters"], "lora_experts": given}
        path = write_job(
            tmp_path, tiny_model, "http://127.0.0.1:9/tool", start_from=start, hyperparameters=hyperparameters
        )
        assert load_job(path).hyperparameters.lora_experts is given, "a model without experts takes either"
    folder = tmp_path / "with-experts"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "target_parameters": ["experts.down_proj"]}))
    hyperparameters = {**NEXT["hyperparameters"], "lora_experts": False}
    message = refused(tmp_path, tiny_model, start_from=str(folder), hyperparameters=hyperparameters)
    assert "hyperparameters.lora_experts: False, but the weights of `start_from` have True" in message


def test_another_rank_than_that_of_the_weights_is_refused(
    uninterrupted: Ended, tmp_path: Path, tiny_model: Path
) -> None:
    start = str(checkpoint(uninterrupted, 3))
    message = refused(tmp_path, tiny_model, start_from=start, hyperparameters={"lora_rank": 8})
    assert "hyperparameters.lora_rank: 8, but the weights of `start_from` have 4" in message


def test_a_job_that_began_before_there_were_adapters_of_experts_goes_on_without(
    uninterrupted: Ended, tmp_path: Path, tiny_model: Path
) -> None:
    spec = load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9/tool"))
    assert spec.hyperparameters.adapts_experts
    for recorded, adapts in (({"lora_rank": 4}, False), ({"lora_experts": True}, True), (None, True)):
        begun: Any = SimpleNamespace(hyperparameters=recorded)
        assert _with_recorded_limits(spec, begun).hyperparameters.adapts_experts is adapts
    kept = {"model": spec.model, "hyperparameters": {"lora_rank": 4}}
    store: Any = SimpleNamespace(get_job=lambda _: SimpleNamespace(spec={"job": kept}))
    reference = ModelReference("x", job_id="ftjob-x", folder=checkpoint(uninterrupted, 3))
    assert not spec_for(reference, store, spec).hyperparameters.adapts_experts
