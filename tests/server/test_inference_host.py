import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agentrft.engine import EngineFailure
from agentrft.server.inference.errors import ApiError
from agentrft.server.inference.host import HostLimits, ModelHost
from agentrft.server.inference.weights import LoadedModel, Weights, load_weights
from tests.server.inference_models import weights


async def use(host: ModelHost, wanted: Weights) -> None:
    async with host.lease(wanted):
        pass


def of_context(model: Path, tokens: int) -> Weights:
    """A model of its own for each context."""
    return weights(model).model_copy(update={"name": f"of {tokens}", "max_context_tokens": tokens})


def names(host: ModelHost) -> list[str]:
    return [name for name, _ in host.in_memory]


async def test_the_least_recently_used_model_makes_place(tiny_model: Path) -> None:
    first, second, third = (of_context(tiny_model, tokens) for tokens in (64, 128, 256))
    host = ModelHost(HostLimits(max_models=2))
    await use(host, first)
    await use(host, second)
    await use(host, first)

    await use(host, third)

    assert names(host) == ["of 64", "of 256"]
    await host.close()


async def test_a_model_in_use_is_kept_and_others_wait_for_its_place(tiny_model: Path) -> None:
    host = ModelHost(HostLimits(max_models=1))
    async with host.lease(weights(tiny_model)):
        waiting = asyncio.create_task(use(host, of_context(tiny_model, 64)))
        await asyncio.sleep(0.05)
        assert names(host) == ["ft:base"]
    await waiting

    assert names(host) == ["of 64"]
    await host.close()


async def test_the_wait_for_a_place_has_a_deadline(tiny_model: Path) -> None:
    host = ModelHost(HostLimits(max_models=1))
    async with host.lease(weights(tiny_model)):
        host.limits = replace(host.limits, load_timeout_s=0.05)
        with pytest.raises(ApiError) as raised:
            await use(host, of_context(tiny_model, 64))

    assert (raised.value.status, raised.value.code) == (503, "model_not_ready")
    assert not raised.value.headers
    await host.close()


async def test_requests_at_the_same_time_load_a_model_once(tiny_model: Path) -> None:
    loads = []

    def load(wanted: Weights) -> LoadedModel:
        loads.append(wanted.name)
        return load_weights(wanted)

    host = ModelHost(load=load)
    await asyncio.gather(*(use(host, weights(tiny_model)) for _ in range(5)))

    assert loads == ["ft:base"]
    await host.close()


async def test_a_request_that_is_given_up_leaves_the_load_to_the_others(tiny_model: Path) -> None:
    host = ModelHost()
    given_up = asyncio.create_task(use(host, weights(tiny_model)))
    await asyncio.sleep(0)
    other = asyncio.create_task(use(host, weights(tiny_model)))
    await asyncio.sleep(0)
    given_up.cancel()

    await other
    await host.close()


async def test_weights_that_cannot_be_loaded_are_an_error_with_its_cause(tiny_model: Path, tmp_path: Path) -> None:
    host = ModelHost()
    missing = weights(tiny_model).model_copy(update={"name": "ft:missing", "folder": tmp_path})

    for _ in range(2):
        with pytest.raises(ApiError, match=f"ft:missing.*{tmp_path}") as raised:
            await use(host, missing)
    await use(host, weights(tiny_model))

    assert (raised.value.status, raised.value.code) == (500, "model_not_loadable")
    assert raised.value.headers["x-should-retry"] == "false"
    assert names(host) == ["ft:base"]
    await host.close()


async def test_an_adapter_of_another_model_is_an_error(tiny_model: Path) -> None:
    host = ModelHost()
    wrong = weights(tiny_model, "white").model_copy(update={"base": "smollm2-135m"})

    with pytest.raises(ApiError, match="does not fit"):
        await use(host, wrong)
    await host.close()


@pytest.mark.parametrize("name", ["base", "white"])
async def test_a_model_whose_engine_broke_is_loaded_again(name: str, tiny_model: Path) -> None:
    host = ModelHost()
    with pytest.raises(EngineFailure):
        async with host.lease(weights(tiny_model, name)) as broken:
            raise EngineFailure("broken", "a bug")
    async with host.lease(weights(tiny_model, name)) as model:
        assert model.engine is not broken.engine
    await host.close()


async def test_a_model_takes_a_bounded_number_of_requests(tiny_model: Path) -> None:
    host = ModelHost(HostLimits(max_requests=1))
    async with host.lease(weights(tiny_model)):
        with pytest.raises(ApiError) as raised:
            await use(host, weights(tiny_model))

    assert (raised.value.status, raised.value.code) == (503, "overloaded")
    await host.close()
