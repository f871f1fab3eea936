"""A server whose jobs have their rollout workers in a Ray cluster."""

import os
from pathlib import Path

import openai
import pytest

from agentrft.server.creation.own_cluster import in_own_cluster
from agentrft.server.settings import Settings
from agentrft.spec import JobSpec, load_job
from tests.cli.commands import run_alone
from tests.cluster.ray_jobs import cluster_of, sender, wait_for
from tests.job.tiny_job import serving, write_job
from tests.server.live import QUICK, live, method, upload
from tests.server.live import wait_for as until_job
from tests.traffic.chaos_server import ChaosServer, ok

TWO = {"rollout_workers": 2, "min_rollout_workers": 1}


@pytest.mark.slow
def test_a_servers_jobs_have_their_workers_in_its_cluster(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster_of(2, monkeypatch) as cluster, serving(ChaosServer(default=ok(delay_s=0.2))) as server:
        options = ["--cluster", cluster.address, "--max-rollout-workers", "3"]
        with live(tmp_path / "data", tiny_model, *options) as started:
            client = started.client()
            rows = upload(client, tmp_path / "rows")

            def create(**cluster: object) -> str:
                return client.fine_tuning.jobs.create(
                    model="tiny",
                    training_file=rows["train"],
                    validation_file=rows["validation"],
                    method=method(server.url, hyperparameters={"max_steps": 1}),  # type: ignore[arg-type]
                    extra_body={**QUICK, "cluster": cluster},
                ).id

            with pytest.raises(openai.BadRequestError, match="at most 3 here"):
                create(rollout_workers=4)
            with pytest.raises(openai.BadRequestError, match="cluster.address"):
                create(rollout_workers=2, address="another:6379")
            job = create(**TWO)
            wait_for(lambda: bool(server.received), "a call")
            caller = sender(server.received[-1].peer_port, os.getpid())
            assert started.process not in caller.parents(), "it is a process of the cluster's, and not of the server's"
            done = until_job(client, job, "succeeded")
            shown = client.fine_tuning.jobs.retrieve(job)
            assert done.status == "succeeded"
            assert cluster.address not in shown.model_dump_json()
            events = [one.message for one in client.fine_tuning.jobs.list_events(job, limit=100).data]
            assert any("is there:" in text for text in events)


@pytest.mark.parametrize("address", ["local", "http://head:6379", "head", "head:6379/x"])
def test_what_is_no_cluster_is_refused_before_the_server_starts(tmp_path: Path, address: str) -> None:
    refused = run_alone("serve", "--cluster", address, "--data-dir", str(tmp_path / "data"), folder=tmp_path)
    assert refused.code == 2 and "HOST:PORT" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_a_stored_job_runs_in_the_cluster_that_the_server_has_now(tmp_path: Path) -> None:
    cluster = {**TWO, "address": "before:6379"}
    spec = load_job(write_job(tmp_path, Path("smollm2-135m"), "http://127.0.0.1:9/tool", cluster=cluster))

    def placed(cluster: str | None) -> JobSpec:
        found = in_own_cluster(spec, Settings(tmp_path, cluster=cluster))
        assert isinstance(found, JobSpec)
        return found

    assert placed("now:6379").cluster == spec.cluster.model_copy(update={"address": "now:6379"})
    here = placed(None).cluster
    assert (here.address, here.rollout_workers, here.min_rollout_workers) == ("local", 2, None)
