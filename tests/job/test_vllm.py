"""A job whose rollouts a vLLM server samples: the same job but for `engine`."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrft.errors import EndpointError, Interrupted, JobFailedError, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job, vllm_servers
from agentrft.job.check import check_job
from agentrft.models import resolve_model
from agentrft.models.load import load_model
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.engine.test_vllm_process import PROGRAM, is_alive, until
from tests.engine.vllm_stand_in import StandIn
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer


def stand_in(model: Path) -> StandIn:
    return StandIn(load_model(resolve_model(str(model)), torch.float32))


async def ran(
    path: Path, *, stop: Stop | None = None, resumed: tuple[JobStore, str] | None = None
) -> tuple[JobStore, str]:
    spec = load_job(path)
    if resumed is None:
        store, job_id = create_job(spec)
    else:
        store, job_id = resumed
        spec = resume_job(store, job_id)
    await run_job(spec, store, job_id, progress=NoProgress(), stop=stop or Stop())
    return store, job_id


def engine(server: StandIn, **settings: Any) -> dict[str, Any]:
    return {"type": "vllm", "url": server.url, "model": "tiny", **settings}


async def test_a_job_is_trained_through_a_server_that_is_given_each_version(tiny_model: Path, tmp_path: Path) -> None:
    adapters = tmp_path / "adapters"
    async with ChaosServer() as tools, stand_in(tiny_model) as server:
        path = write_job(
            tmp_path,
            tiny_model,
            tools.url,
            engine=engine(server, adapters=str(adapters), headers={"Authorization": "Bearer planted"}),
            hyperparameters={"batch_size": 2, "max_steps": 2, "temperature": 1.2},
        )
        store, job_id = await ran(path)
        assert not server.adapters, "none is left behind"
    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert len(steps) == 2 and any(row["groups_trained"] for row in steps)
    assert all(row["logprob_gap_mean"] < 1e-3 and row["infra_failure_share"] == 0 for row in steps)
    assert all(row["engine_busy_s"] > 0 for row in steps)
    asked = [body["model"] for body in server.bodies]
    versions = [name.rpartition("-v")[2] for name in dict.fromkeys(asked) if "-v" in name]
    assert len(versions) >= 3 and versions == sorted(versions, key=int), "one adapter after another"
    for step, row in enumerate(steps, start=1):
        rollouts = read_rollouts(store.job_folder(job_id) / "rollouts" / f"train-{step:05d}.parquet")
        of_turns = {turn["policy_version"] for one in rollouts for turn in one["record"]["turns"]}
        assert of_turns == {row["policy_version"] - 1}
    assert list(adapters.iterdir()) == [], "what was written for the server is gone"
    stored = b"".join(file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file())
    assert b"Bearer planted" not in stored


async def test_all_weights_are_trained_through_a_server_that_reads_each_version(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    server = stand_in(tiny_model)
    server.is_developed = True
    async with ChaosServer() as tools, server:
        path = write_job(
            tmp_path,
            tiny_model,
            tools.url,
            engine=engine(server, adapters=str(folder), sleep=True),
            hyperparameters={"batch_size": 2, "max_steps": 2, "lora_rank": "full"},
        )
        store, job_id = await ran(path)
    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert len(steps) == 2 and any(row["groups_trained"] for row in steps)
    assert all(row["logprob_gap_mean"] < 1e-3 and row["infra_failure_share"] == 0 for row in steps)
    assert server.asked["reload"] >= 3 and server.asked["sleep"] == server.asked["wake"] == 2
    assert list(folder.iterdir()) == []


async def test_a_job_starts_its_server_and_ends_it(tiny_model: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    command = f"{shlex.join(PROGRAM)} serve --record {record}"
    async with ChaosServer() as tools:
        path = write_job(
            tmp_path,
            tiny_model,
            tools.url,
            engine={"type": "vllm", "command": command, "model": "tiny"},
            baseline={"enabled": False},
            hyperparameters={"batch_size": 2, "max_steps": 1},
        )
        store, job_id = await ran(path)
    assert [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"] == [1]
    (start,) = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    words = start["arguments"]
    assert words[:2] == ["serve", str(tiny_model)] and words[words.index("--max-lora-rank") + 1] == "8"
    await until(lambda: not is_alive(start["pid"]))
    assert list((tmp_path / "runs").glob("vllm-*.log"))


async def test_a_job_without_a_server_says_how_to_have_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_job(tmp_path, tiny_model, "http://127.0.0.1:9/", engine={"type": "vllm"})
    monkeypatch.setattr(vllm_servers, "installed_command", lambda: ())
    with pytest.raises(UserError, match="none was installed") as told:
        await ran(path)
    assert "agentrft engines install vllm" in told.value.remedy


async def test_a_stopped_job_goes_on_with_the_same_server(tiny_model: Path, tmp_path: Path) -> None:
    class StopAfterOne(NoProgress):
        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if (phase, step) == ("train", 1):
                stop.request()

    stop = Stop()
    async with ChaosServer() as tools, stand_in(tiny_model) as server:
        path = write_job(
            tmp_path, tiny_model, tools.url, engine=engine(server), hyperparameters={"batch_size": 2, "max_steps": 2}
        )
        spec = load_job(path)
        store, job_id = create_job(spec)
        with pytest.raises(Interrupted):
            await run_job(spec, store, job_id, progress=StopAfterOne(), stop=stop)
        assert [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"] == [1]
        await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
    assert [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"] == [1, 2]


async def test_a_server_that_is_not_there_is_told_before_anything_is_sampled(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as tools:
        path = write_job(tmp_path, tiny_model, tools.url, engine={"type": "vllm", "url": "http://127.0.0.1:9"})
        with pytest.raises(EndpointError, match="no vLLM server answers at"):
            await ran(path)


async def test_a_server_that_loads_no_adapters_ends_the_job_with_what_to_do(tiny_model: Path, tmp_path: Path) -> None:
    server = stand_in(tiny_model)
    server.loads_adapters = False
    async with ChaosServer() as tools, server:
        path = write_job(tmp_path, tiny_model, tools.url, engine=engine(server))
        with pytest.raises(JobFailedError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await ran(path)


@pytest.mark.parametrize("loads", [True, False])
async def test_check_looks_at_the_engine(tiny_model: Path, tmp_path: Path, loads: bool) -> None:
    server = stand_in(tiny_model)
    server.loads_adapters = loads
    async with ChaosServer() as tools, server:
        path = write_job(tmp_path, tiny_model, tools.url, engine=engine(server))
        report = await check_job(load_job(path))
    (found,) = [one for one in report.findings if one.part == "engine"]
    assert found.level == ("ok" if loads else "error")
    assert any(one.part == "learning rate" for one in report.findings) is loads


async def test_a_server_that_dies_in_mid_step_costs_time_alone(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as tools, stand_in(tiny_model) as server:
        path = write_job(
            tmp_path, tiny_model, tools.url, engine=engine(server), hyperparameters={"batch_size": 2, "max_steps": 1}
        )
        server.fails_with = [200] * 20 + [0, 500, 0, 503] * 5
        store, job_id = await ran(path)
    (step,) = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert step["infra_failure_share"] == 0 and step["rollouts"] == 8
    assert not server.fails_with


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": {"type": "vllm", "url": "http://h", "command": "vllm serve"}}, "not url and command"),
        ({"engine": {"type": "vllm", "command": "vllm 'serve"}}, "no command that a shell takes"),
        ({"engine": {"type": "vllm", "urls": ["http://h", "http://h"]}}, "there twice"),
        ({"engine": {"type": "vllm", "urls": ["http://a", "http://me:word@h"]}}, "belongs into headers"),
        ({"engine": {"url": "http://h"}}, "url is not a setting of an engine of type 'embedded'"),
        ({"engine": {"type": "vllm", "url": "http://h", "kv_cache_mb": 9}}, "kv_cache_mb is not a setting"),
        ({"engine": {"type": "vllm", "url": "127.0.0.1:8000"}}, "engine.url"),
        ({"engine": {"type": "vllm", "url": "http://h"}, "deterministic": True}, "`deterministic` is refused"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load_job(write_job(tmp_path, tiny_model, "http://127.0.0.1:9/", **changes))
