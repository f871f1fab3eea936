"""How systems are run: their job files at other servers and with other data, and their servers as processes."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrft.spec import JobSpec
from examples.common import running
from examples.common.running import (
    Lines,
    Settings,
    _begun,
    _told,
    grader_server,
    job_of,
    readdressed,
    run_system,
    tool_server,
)
from examples.results import NAMES, system_named

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize("name", NAMES)
def test_a_systems_job_runs_with_other_data_and_another_server(name: str, tmp_path: Path) -> None:
    settings = Settings(seed=7, out=tmp_path / "runs", data=tmp_path / "data", hyperparameters=(("max_steps", 3),))
    job = job_of(system_named(name), settings, URL)
    assert (job.seed, job.hyperparameters.max_steps, job.output_dir) == (7, 3, tmp_path / "runs")
    assert job.warm_start is not None
    files = [job.training_file, job.validation_file, job.test_file, job.warm_start.training_file]
    assert files == [
        tmp_path / "data" / f"{split}.jsonl" for split in ("train", "validation", "test", "demonstrations")
    ]
    addresses = [value for value in texts(job.model_dump(mode="json")) if value.startswith("http://")]
    assert addresses
    assert all(address.startswith(f"{URL}/") for address in addresses)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_system_tells_is_named_once_and_says_where_it_should_go(name: str) -> None:
    told = system_named(name).told
    assert len({measure.name for measure in told}) == len({measure.label for measure in told}) == len(told)


def test_graders_inside_graders_get_the_address_too() -> None:
    inner = {"type": "endpoint", "url": "http://127.0.0.1:8770/grade"}
    method = {"grader": {"type": "multi", "graders": {"one": inner}}, "tools": [{"server_url": "http://h:1/tools/a"}]}
    assert readdressed(method, URL) == {
        "grader": {"type": "multi", "graders": {"one": {"type": "endpoint", "url": f"{URL}/grade"}}},
        "tools": [{"server_url": f"{URL}/tools/a"}],
    }


def test_the_tools_and_the_grader_of_a_system_are_servers_that_end_with_their_block(tmp_path: Path) -> None:
    system = system_named("finance")
    system.write_data(tmp_path, 0, "small")
    with tool_server(system, tmp_path) as tools, grader_server(system) as grader:
        called = httpx.post(f"{tools}/tools/calculate", json={"call_id": "c", "arguments": '{"expression": "6 * 7"}'})
        assert called.json()["output"] == "42"
        sample = {"output_text": "no answer", "messages": [], "output_tools": [], "trace": {"calls": [], "turns": 1}}
        item = {"answer": 1.0, "unit": "", "sources": [], "evidence": [], "turns": 1}
        assert httpx.post(f"{grader}/grade", json={"sample": sample, "item": item}).json() == {"score": 0.0}
    for url in (tools, grader):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


async def test_a_run_that_was_interrupted_goes_on_with_the_same_job(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, data = system_named("finance"), tmp_path / "data"
    system.write_data(data, 0, "small")
    for name, rows in (("train", 4), ("validation", 2), ("test", 3), ("demonstrations", 2)):
        path = data / f"{name}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))
    small = {
        "batch_size": 2,
        "compute_multiplier": 0.25,
        "max_steps": 2,
        "lora_rank": 4,
        "max_tokens_per_turn": 24,
        "max_context_tokens": 500,
    }
    settings = Settings(0, tmp_path / "runs", data, model=str(tiny_model), hyperparameters=tuple(small.items()))
    done: list[tuple[str, int]] = []

    def committed(_: Lines, phase: str, step: int, metrics: dict[str, Any]) -> None:
        done.append((phase, step))
        if done.count(("train", 1)) == 1 and (phase, step) == ("train", 1) and len(done) < 10:
            raise asyncio.CancelledError

    def without_baseline(*asked: Any) -> JobSpec:
        spec = job_of(*asked)
        return spec.model_copy(update={"baseline": spec.baseline.model_copy(update={"enabled": False})})

    # The tiny model knows none of it.
    monkeypatch.setattr(running, "job_of", without_baseline)
    monkeypatch.setattr(Lines, "committed", committed)
    with pytest.raises(asyncio.CancelledError):
        await run_system(system, settings)
    first = json.loads((tmp_path / "runs" / "finance-seed-0.json").read_text())["job"]
    monkeypatch.setattr(Lines, "committed", lambda _, phase, step, metrics: done.append((phase, step)))
    outcome = await run_system(system, settings)
    assert outcome.job_id == first and outcome.changes["reward"].samples == 3
    assert [step for phase, step in done if phase == "train"] == [1, 2]
    assert not (tmp_path / "runs" / "finance-seed-0.json").exists(), "it has ended"


def test_only_a_run_with_the_same_settings_goes_on(tmp_path: Path) -> None:
    settings = Settings(0, tmp_path, tmp_path, hyperparameters=(("max_steps", 2),))
    known = {"job": "ftjob-1", "port": 1, "settings": _told(settings)}
    path = tmp_path / "begun.json"
    assert _begun(path, settings) is None
    path.write_text(json.dumps(known))
    assert _begun(path, settings) == known
    assert _begun(path, replace(settings, hyperparameters=(("max_steps", 3),))) is None


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make_data"), tool_server(system_named("finance"), tmp_path):
        pass


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts(part)]
