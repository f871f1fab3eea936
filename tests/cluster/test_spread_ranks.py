"""Ranks as actors of a real Ray cluster of two nodes, both of this machine."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrft.cluster import InCluster, Ranks, ranks
from agentrft.cluster.meeting import interface_of
from agentrft.errors import JobFailedError, UserError
from tests.cluster.pairs import assert_close, assert_same_numbers, gradients, save, setup, two_ranks
from tests.cluster.ray_jobs import cluster_of
from tests.cluster.test_jobs import assert_same_job, kill_a_rank, resume, run
from tests.cluster.test_update import some_groups, update
from tests.job.tiny_job import serving, write_job
from tests.tiny_model import tiny_model as random_model
from tests.traffic.chaos_server import ChaosServer

LOST = r"rank 1 of the learner \(process \d+ on [\d.]+\) was lost: its process ended"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched, cluster_of(2, patched) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(random_model("llama_tied"), tmp_path_factory.mktemp("model"))


@pytest.mark.slow
def test_a_job_whose_ranks_are_spread_ends_as_with_one_also_where_one_of_them_is_killed(
    cluster: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ChaosServer()) as server:
        alone = run(write_job(tmp_path / "alone", tiny_model, server.url, deterministic=True))
        spread = {"learner_workers": 2, "spread_learner": True, "address": cluster.address}
        job_file = write_job(tmp_path / "spread", tiny_model, server.url, deterministic=True, cluster=spread)
        with monkeypatch.context() as patched:
            kill_a_rank(patched, in_update=2)
            with pytest.raises(JobFailedError, match=LOST):
                run(job_file)
        assert_same_job(resume(job_file), alone)


@pytest.mark.parametrize("lora_rank", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_updates_are_those_of_one_rank(cluster: Any, folder: Path, lora_rank: int | None) -> None:
    places = InCluster(cluster.address, on_gpus=False)
    with two_ranks(folder, lora_rank, places=places) as both:
        here, alone = both.learner(), both.alone()
        assert_same_numbers(update(here, some_groups(3)), update(alone, some_groups(3)))
        assert_close(gradients(here), gradients(alone))


def test_a_rank_that_cannot_start_says_why(cluster: Any, tmp_path: Path) -> None:
    spread = Ranks(setup(tmp_path / "no model", 4), InCluster(cluster.address, on_gpus=False))
    with pytest.raises(JobFailedError, match="rank 1 of the learner .*no model"):
        spread.start()
    assert spread.processes == []


def test_a_rank_without_a_place_is_told(cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "START_S", 3.0)
    # No node has a GPU.
    spread = Ranks(setup(folder, 4, timeout_s=3.0), InCluster(cluster.address, on_gpus=False))
    monkeypatch.setattr(spread._places, "_on_gpus", True)
    monkeypatch.setattr(spread._places._own_gpus, "hold", lambda: None)
    with pytest.raises(JobFailedError, match="rank 1 of the learner found no place in the Ray cluster") as error:
        spread.start()
    assert "takes a GPU" in error.value.remedy


def test_a_first_gpu_that_is_not_to_be_had_is_told(cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrft.cluster.own_gpus.HELD_S", 2.0)
    with pytest.raises(JobFailedError, match="first GPU of this machine"):
        Ranks(setup(folder, 4), InCluster(cluster.address, on_gpus=True)).start()


def test_without_a_cluster_at_the_address_it_is_named(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        Ranks(setup(folder, 4), InCluster(f"127.0.0.1:{port}", on_gpus=False)).start()


def test_somebody_else_who_connects_is_no_rank(cluster: Any, folder: Path) -> None:
    strangers: list[socket.socket] = []

    class Watched(InCluster):
        def _next(self, listening: socket.socket, deadline: float, running: dict[int, Any]) -> socket.socket:
            if not strangers:
                stranger = socket.create_connection(listening.getsockname())
                stranger.sendall(b"x" * 40)
                strangers.append(stranger)
            return super()._next(listening, deadline, running)

    with two_ranks(folder, 4, places=Watched(cluster.address, on_gpus=False)) as both:
        assert update(both.learner(), some_groups(2)).optimizer_steps == 1
    (stranger,) = strangers
    stranger.settimeout(5)
    assert len(stranger.recv(64)) == 32 and stranger.recv(64) == b"", "it was asked, and left"


def test_networks_are_known_by_their_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None
