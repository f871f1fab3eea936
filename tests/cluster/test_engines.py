"""vLLM servers as actors of a Ray cluster: their places, the weights that they are sent, and how they are lost."""

import json
import shlex
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrft.cluster.engines import host as engine_host
from agentrft.cluster.engines.actor import EngineActor, Refused
from agentrft.cluster.engines.shipments import Shipment
from agentrft.errors import EndpointError, JobFailedError, UserError
from agentrft.spec import load_job
from tests.cluster.engine_process import COMMAND
from tests.cluster.ray_jobs import cluster_of, events, records_of, run, wait_for
from tests.engine.test_vllm_process import is_alive
from tests.job.tiny_job import serving, write_job
from tests.traffic.chaos_server import ChaosServer

SHORT = {"max_steps": 2, "eval_interval": 2}


class Engines:
    """A job's, of a command that keeps a record."""

    def __init__(self, folder: Path) -> None:
        self._record = folder / "record"
        self.engine = {"type": "vllm", "command": shlex.join([*COMMAND, "--record", str(self._record)])}

    def lines(self, field: str) -> list[dict[str, Any]]:
        if not self._record.exists():
            return []
        lines = map(json.loads, self._record.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if field in line]

    def starts(self) -> list[dict[str, Any]]:
        return self.lines("url")

    def loaded(self) -> list[dict[str, Any]]:
        return self.lines("read")


def actor_of(pid: int) -> psutil.Process:
    """The process of Ray's that has this server."""
    return next(one for one in psutil.Process(pid).parents() if one.name().startswith("ray::EngineActor"))


def job(folder: Path, model: Path, url: str, engines: Engines, address: str, **changes: Any) -> Path:
    cluster = {"engines": 2, "gpus_per_engine": 0, "address": address, **changes.pop("cluster", {})}
    return write_job(
        folder,
        model,
        url,
        engine={**engines.engine, **changes.pop("engine", {})},
        cluster=cluster,
        baseline={"enabled": False},
        hyperparameters={**SHORT, **changes.pop("hyperparameters", {})},
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("rank", [4, "full"])
def test_engines_are_sent_each_version_and_leave_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: Any
) -> None:
    engines = Engines(tmp_path)
    with cluster_of(2, monkeypatch) as cluster, serving(ChaosServer()) as server:
        job_file = job(tmp_path, tiny_model, server.url, engines, cluster.address, hyperparameters={"lora_rank": rank})
        ended = run(job_file)
    starts, loaded = engines.starts(), engines.loaded()
    assert len(starts) == 2 and len({start["url"] for start in starts}) == 2
    (key,) = {start["environment"]["VLLM_API_KEY"] for start in starts}
    assert len(key) >= 24
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert written and not any(key.encode() in path.read_bytes() for path in written)
    for start in starts:
        # All weights are read again where the caches of those before were not dropped at once.
        read = {line["read"] for line in loaded if line["pid"] == start["pid"]}
        # What was trained, and then each of two steps; from a folder of the machine's own.
        assert len(read) >= 3
        assert all("/agentrft-engine-" in path and not Path(path).exists() for path in read)
        wait_for(lambda: not is_alive(start["pid"]), "a server that ends")  # noqa: B023  # here and now
    assert {record["outcome"] for record in records_of(ended)} <= {"graded", "model_failed"}
    assert [row["step"] for row in ended.lines if row["phase"] == "train"] == [1, 2]


@pytest.mark.slow
def test_engines_that_are_lost_cost_nothing_but_time(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(tmp_path)

    def kill_all() -> None:
        wait_for(lambda: len(engines.loaded()) >= 3, "three loads")
        first, second = (start["pid"] for start in engines.starts())
        # So that the job can end only with one that was started again.
        actor_of(first).kill()
        psutil.Process(second).kill()

    with cluster_of(2, monkeypatch) as cluster, serving(ChaosServer()) as server:
        job_file = job(tmp_path, tiny_model, server.url, engines, cluster.address)
        killing = threading.Thread(target=kill_all)
        killing.start()
        ended = run(job_file)
        killing.join()
    told = [text for text in events(job_file) if "vLLM server" in text]
    assert any("was lost with its place in the cluster" in text and "1 of at most 5" in text for text in told)
    assert any("ended with status" in text and "1 of at most 5" in text for text in told)
    assert any("answers again" in text for text in told)
    starts = engines.starts()
    again = {start["pid"] for start in starts[2:]}
    assert again & {line["pid"] for line in engines.loaded()}, "one was sent the weights anew"
    records = records_of(ended)
    assert {record["outcome"] for record in records} <= {"graded", "model_failed"}
    assert all(record["attempt"] == 1 for record in records)
    for start in starts:
        wait_for(lambda: not is_alive(start["pid"]), "a server that ends")  # noqa: B023  # here and now


@pytest.mark.slow
def test_each_engine_has_gpus_of_its_own(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(tmp_path)
    with cluster_of(1, monkeypatch, gpus=4) as cluster, serving(ChaosServer()) as server:
        job_file = job(
            tmp_path,
            tiny_model,
            server.url,
            engines,
            cluster.address,
            cluster={"gpus_per_engine": 2},
            hyperparameters={"max_steps": 1, "eval_interval": 1},
        )
        run(job_file)
    seen = [start["environment"]["CUDA_VISIBLE_DEVICES"] for start in engines.starts()]
    assert sorted(seen) in (["0,1", "2,3"], ["0,2", "1,3"], ["0,3", "1,2"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"cluster": {"engines": 3}}, EndpointError, "found no place in the Ray cluster within 4 s: each takes a core"),
        ({"engine": {"command": ""}}, EndpointError, "none was installed there"),
        ({"engine": {"command": "/nowhere/vllm serve"}}, EndpointError, "/nowhere/vllm cannot be run"),
    ],
)
def test_engines_that_do_not_start_say_why(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[JobFailedError],
    said: str,
) -> None:
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    with cluster_of(2, monkeypatch) as cluster, serving(ChaosServer()) as server:
        if "cluster" in changes:
            monkeypatch.setattr(engine_host, "PLACE_S", 4.0)
        job_file = job(tmp_path, tiny_model, server.url, Engines(tmp_path), cluster.address, **changes)
        with pytest.raises(error, match="the vLLM server") as raised:
            run(job_file)
    assert said in str(raised.value)


def test_an_actor_keeps_the_newest_versions_and_nothing_at_its_end() -> None:
    actor = EngineActor()
    written = [actor.receive(Shipment(f"weights-{number}", [("adapter/a", []), ("b", [])])) for number in (1, 2, 3, 3)]
    folders = [Path(path) for path in written if isinstance(path, str)]
    assert [folder.is_dir() for folder in folders] == [False, True, True, True] and folders[2] == folders[3]
    assert sorted(path.name for path in folders[3].rglob("*")) == ["a", "adapter", "b"]
    # As on a disk that is full.
    failed = actor.receive(Shipment("weights-4", [("a", []), ("a/b", [])]))
    assert isinstance(failed, Refused) and "File exists in /" in failed.why
    assert sorted(path.name for path in folders[3].parent.iterdir()) == ["weights-2", "weights-3"]
    actor.end()
    assert not folders[3].parent.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": {"type": "embedded"}}, "cluster.engines: are vLLM servers"),
        ({"engine": {"type": "vllm", "url": "http://127.0.0.1:8000"}}, "engine.url: has no place beside"),
        ({"engine": {"type": "vllm", "sleep": True}}, "engine.sleep: has no place beside cluster.engines: they share"),
        ({"engine": {"type": "vllm", "adapters": "/shared"}}, "engine.adapters: has no place beside"),
        ({"cluster": {"gpus_per_engine": 2}}, "gpus_per_engine: has an effect with engines alone"),
    ],
)
def test_what_engines_cannot_have_is_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    cluster = {"engines": 2}
    path = write_job(tmp_path, tmp_path, "http://127.0.0.1:9", **{"cluster": cluster, **changes})
    with pytest.raises(UserError) as raised:
        load_job(path)
    assert said in str(raised.value)
