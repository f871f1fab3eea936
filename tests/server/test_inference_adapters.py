"""Fine-tuned models that are adapters on one base model, in one server."""

import asyncio
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import InternalServerError
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from agentrft.engine import EngineFailure, Sampling
from agentrft.models.packed import PackedModel
from agentrft.server.inference.errors import ApiError
from agentrft.server.inference.host import HostLimits, ModelHost
from agentrft.server.inference.weights import LoadedModel, Weights, load_weights
from tests.job.tiny_job import prompt
from tests.server.inference_models import checkpoint, greedy_by_transformers, plain, weights
from tests.server.inference_server import ask, headers, running


def eight(model: Path, folder: Path) -> list[Weights]:
    """Adapters that nobody trained, of ranks 1 to 8, every other one with rank-stabilised scaling."""
    made = []
    for rank in range(1, 9):
        torch.manual_seed(rank)
        network = plain(model)
        config = LoraConfig(r=rank, lora_alpha=8, use_rslora=rank % 2 == 0, target_modules="all-linear")
        network = get_peft_model(network, config)
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0.0, 0.3)
        network.save_pretrained(folder / str(rank) / "adapter")
        made.append(adapter_at(model, folder / str(rank)))
    return made


def adapter_at(model: Path, folder: Path) -> Weights:
    return weights(model).model_copy(update={"name": f"ft:{folder.name}", "folder": folder})


class CountedLoads:
    """Loads models, and counts them by name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, wanted: Weights) -> LoadedModel:
        self.names.append(wanted.name)
        return load_weights(wanted)


async def use(host: ModelHost, wanted: Weights) -> None:
    async with host.lease(wanted):
        pass


async def generate(host: ModelHost, wanted: Weights, *, tokens: int = 12) -> list[int]:
    async with host.lease(wanted) as model:
        session = await model.open()
        try:
            ids = model.loaded.codec.prompt_ids(prompt("apple"))
            sampling = Sampling(0.0, 1.0, tokens, frozenset(), 0, 60.0)
            return (await session.generate(ids, sampling)).token_ids
        finally:
            session.close()


async def test_eight_adapters_are_served_from_one_base_at_once(tiny_model: Path, tmp_path: Path) -> None:
    load, adapters = CountedLoads(), eight(tiny_model, tmp_path)
    host = ModelHost(HostLimits(max_models=1), load=load)

    said = await asyncio.gather(*(generate(host, wanted) for wanted in [*adapters, adapters[0].of_base]))

    assert load.names == [str(tiny_model)]
    assert [(name, sorted(own)) for name, own in host.in_memory] == [
        (str(tiny_model), [f"ft:{n}" for n in range(1, 9)])
    ]
    assert len({tuple(ids) for ids in said}) == 9, "all say something else"
    async with host.lease(adapters[0]) as model:
        assert model.engine.counters["tokens_sampled"] == 9 * 12
        for wanted, ids in zip(adapters, said, strict=False):
            expected = greedy_by_transformers(tiny_model, wanted.folder, prompt("apple"), 12)
            assert model.loaded.codec.parse(ids, [], new_call_id=lambda: "").content.startswith(expected)
    await host.close()


async def test_the_least_recently_used_adapter_makes_place_for_another(tiny_model: Path, tmp_path: Path) -> None:
    first, second, third, *_ = eight(tiny_model, tmp_path)
    host = ModelHost(HostLimits(max_adapters=2))
    for wanted in (first, second, first, third):
        await use(host, wanted)

    assert [own for _, own in host.in_memory] == [["ft:1", "ft:3"]]
    await host.close()


async def test_adapters_that_are_answering_stay_and_others_wait_with_a_deadline(
    tiny_model: Path, tmp_path: Path
) -> None:
    first, second, *_ = eight(tiny_model, tmp_path)
    host = ModelHost(HostLimits(max_adapters=1))
    async with host.lease(first):
        waiting = asyncio.create_task(use(host, second))
        await asyncio.sleep(0.05)
        assert [own for _, own in host.in_memory] == [["ft:1"]]
        assert not waiting.done()
    await waiting
    async with host.lease(second):
        host.limits = replace(host.limits, load_timeout_s=0.05)
        with pytest.raises(ApiError) as raised:
            await use(host, first)

    assert [own for _, own in host.in_memory] == [["ft:2"]]
    assert (raised.value.status, raised.value.code) == (503, "model_not_ready")
    await host.close()


async def test_a_base_with_an_adapter_that_is_answering_is_not_given_up(tiny_model: Path, tmp_path: Path) -> None:
    adapter, *_ = eight(tiny_model, tmp_path)
    other = weights(tiny_model).model_copy(update={"max_context_tokens": 64})
    host = ModelHost(HostLimits(max_models=1))
    async with host.lease(adapter):
        waiting = asyncio.create_task(use(host, other))
        await asyncio.sleep(0.05)
        assert [name for name, _ in host.in_memory] == [str(tiny_model)]
    await waiting

    assert [name for name, _ in host.in_memory] == ["ft:base"]
    await host.close()


def change_config(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(adapter: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    path = adapter / "adapter_model.safetensors"
    changed = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no LoRA": (lambda a: change_config(a, use_dora=True), "use_dora=True is no plain LoRA"),
    "another rank": (lambda a: change_config(a, r=3), "is no LoRA of rank 3"),
    "half of it": (lambda a: change_tensors(a, lambda n, t: None if "lora_B" in n else t), "is no LoRA of rank"),
    "not finite": (lambda a: change_tensors(a, lambda n, t: t * float("inf")), "no finite numbers"),
    "wide": (
        lambda a: change_tensors(a, lambda n, t: torch.cat([t, t], dim=1) if "lora_A" in n else t),
        "does not fit",
    ),
    "cut off": (lambda a: (a / "adapter_model.safetensors").write_bytes(b"\x10" + bytes(9)) and None, "cannot be read"),
}


@pytest.mark.parametrize("broken", list(BROKEN))
async def test_a_broken_adapter_is_an_error_and_others_go_on(broken: str, tiny_model: Path, tmp_path: Path) -> None:
    load, folder = CountedLoads(), tmp_path / "broken"
    shutil.copytree(checkpoint(tiny_model, "white"), folder)
    spoil, message = BROKEN[broken]
    spoil(folder / "adapter")
    host = ModelHost(load=load)
    white = weights(tiny_model, "white")
    before = await generate(host, white)

    with pytest.raises(ApiError, match=f"ft:broken cannot be loaded: .*{message}") as raised:
        await use(host, adapter_at(tiny_model, folder))

    assert (raised.value.status, raised.value.code) == (500, "model_not_loadable")
    assert await generate(host, white) == before
    assert host.in_memory == [(str(tiny_model), ["ft:white"])]
    assert load.names == [str(tiny_model)]
    await host.close()


async def test_an_adapter_whose_products_overflow_fails_its_own_requests(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint(tiny_model, "white"), folder)
    change_tensors(folder / "adapter", lambda _, tensor: tensor * 1e20)
    host = ModelHost()
    white, broken = weights(tiny_model, "white"), adapter_at(tiny_model, folder)
    before = await generate(host, white)

    results = await asyncio.gather(
        *(generate(host, wanted) for wanted in (broken, white, broken, white)), return_exceptions=True
    )

    assert [isinstance(result, EngineFailure) for result in results] == [True, False, True, False]
    assert results[1] == results[3] == before == await generate(host, white)
    await host.close()


async def test_where_the_architecture_takes_no_adapters_each_is_merged_into_a_copy(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackedModel, "supports_config", staticmethod(lambda config: False))
    load = CountedLoads()
    host = ModelHost(load=load)
    base, white = await generate(host, weights(tiny_model)), await generate(host, weights(tiny_model, "white"))

    assert load.names == ["ft:base", "ft:white"]
    assert host.in_memory == [("ft:base", []), ("ft:white", [])]
    assert base != white
    await host.close()


def test_requests_to_several_models_at_once_get_each_its_own_answer(tiny_model: Path) -> None:
    base = greedy_by_transformers(tiny_model, None, prompt("apple"), 20)
    expected = {"white": "white", "green": "light green", "base": base}
    with running(tiny_model) as server, ThreadPoolExecutor(12) as pool:
        answers = [(name, pool.submit(ask, server.client(name), max_tokens=20)) for name in [*expected] * 4]

        for name, answer in answers:
            assert answer.result().choices[0].message.content == expected[name], name
        assert len(server.host.in_memory) == 1


def test_a_broken_adapter_is_an_error_to_its_clients_alone(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint(tiny_model, "white"), tmp_path / "broken")
    change_config(tmp_path / "broken" / "adapter", use_dora=True)
    with running(tiny_model) as server:
        broken = server.client().with_options(default_headers=headers(adapter_at(tiny_model, tmp_path / "broken")))
        with pytest.raises(InternalServerError, match="no plain LoRA"):
            ask(broken)
        assert ask(server.client("white")).choices[0].message.content == "white"
