"""Recipes for clusters: the scripts run, with programs in place of SLURM's, ssh and Ray that note their calls."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.commands import run_here
from tests.docs.markdown import ROOT

DEPLOY = ROOT / "deploy"
END_S = 30
# Each call is a line of the log: the program, then its arguments.
NOTE = 'echo "$(basename "$0") $*" >> "$LOG"\n'
PROGRAMS = {
    "scontrol": "printf 'one\\ntwo\\nthree\\n'",
    # The options, and then the command that a node runs.
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "hostname": "echo '10.0.0.1 172.17.0.1'",
    "ray": """
if [[ " $* " == *" --block "* ]]; then exec sleep 30; fi
if [[ -n "${BROKEN:-}" && $* == *"$BROKEN"* ]]; then exit 1; fi
""",
    "agentrft": """
echo "at $RAY_ADDRESS" >> "$LOG"
# What starts beside it may come later.
for _ in $(seq 200); do grep -q -- "${AFTER:-at}" "$LOG" && break; sleep 0.1; done
trap 'echo stopped >> "$LOG"; exit 3' TERM
sleep "${TRAINS:-0}" & wait $!
exit "${STATUS:-0}"
""",
    "ssh": 'while [[ $1 == -* ]]; do shift 2; done; shift; exec env "$@"',
}


@dataclass(frozen=True)
class World:
    """An environment with these programs, and the log of their calls."""

    environment: dict[str, str]
    log: Path

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *command], env={**self.environment, **variables}, capture_output=True, text=True, timeout=END_S
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    programs = tmp_path / "home" / "bin"
    programs.mkdir(parents=True)
    for name, does in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{NOTE}{does}\n")
        (programs / name).chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    return World(
        {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LOG": str(log),
            "AGENTRFT_HOME": str(tmp_path / "home"),
            "AGENTRFT_RUNS": str(tmp_path / "runs"),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "one,two,three",
            "SLURM_CPUS_PER_TASK": "16",
        },
        log,
    )


def test_slurm_starts_a_head_and_the_other_nodes_and_then_the_job(world: World) -> None:
    ended = world.run(str(DEPLOY / "slurm.sbatch"), "job.yaml", STATUS="4", AFTER="srun .*ray start --address")
    assert ended.returncode == 4, ended.stderr
    calls = world.calls
    address = "10.0.0.1:20077"
    assert any(
        call.startswith("ray start --head --node-ip-address=10.0.0.1 --port=20077 --num-cpus=16") for call in calls
    )
    (others,) = [call for call in calls if call.startswith("srun") and f"--address={address}" in call]
    assert "--nodes=2 --ntasks=2 --exclude=one" in others
    assert f"agentrft train job.yaml --output-dir {world.environment['AGENTRFT_RUNS']}" in calls
    assert f"at {address}" in calls


def test_slurm_goes_on_after_a_requeue(world: World) -> None:
    Path(world.environment["AGENTRFT_RUNS"], "ftjob-1").mkdir(parents=True)
    world.run(str(DEPLOY / "slurm.sbatch"), "job.yaml", SLURM_RESTART_COUNT="1")
    assert f"agentrft train --resume latest --output-dir {world.environment['AGENTRFT_RUNS']}" in world.calls


def test_slurms_warning_reaches_the_training_and_waits_for_its_safe_point(world: World) -> None:
    script = subprocess.Popen(
        ["bash", str(DEPLOY / "slurm.sbatch"), "job.yaml"], env={**world.environment, "TRAINS": "25"}, text=True
    )
    until = time.monotonic() + END_S
    while not any(call.startswith("at ") for call in world.calls):
        assert time.monotonic() < until
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait(END_S) == 3
    assert "stopped" in world.calls


def test_ssh_starts_ray_on_each_host_and_stops_it_whatever_comes_of_the_job(world: World) -> None:
    script = str(DEPLOY / "ray_over_ssh.sh")
    ended = world.run(script, "first", "second", "--", "agentrft", "train", "job.yaml", STATUS="5")
    assert ended.returncode == 5, ended.stderr
    rays = [call for call in world.calls if call.startswith("ray ")]
    assert rays == [
        "ray start --head --node-ip-address=10.0.0.1 --port=6379 --include-dashboard=false",
        *["ray start --address=10.0.0.1:6379"] * 2,
        *["ray stop"] * 3,
    ]
    assert "at 10.0.0.1:6379" in world.calls
    assert [call.split()[5] for call in world.calls if call.startswith("ssh")] == ["first", "second"] * 2


def test_ssh_names_the_host_that_does_not_join(world: World) -> None:
    script = str(DEPLOY / "ray_over_ssh.sh")
    ended = world.run(script, "first", "--", "agentrft", "train", "job.yaml", BROKEN="--address")
    assert ended.returncode == 1
    assert "first did not join" in ended.stderr
    assert world.calls[-1] == "ray stop"
    assert not any(call.startswith("agentrft") for call in world.calls)


@pytest.mark.parametrize("given", [(), ("host",), ("host", "--"), ("--", "agentrft")])
def test_ssh_says_how_it_is_used(world: World, given: tuple[str, ...]) -> None:
    ended = world.run(str(DEPLOY / "ray_over_ssh.sh"), *given)
    assert ended.returncode == 2
    assert "HOST [HOST ...] -- agentrft train job.yaml" in ended.stderr


def test_kuberays_job_runs_a_command_that_there_is() -> None:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()))
    claim, job = documents
    program, *arguments = job["spec"]["entrypoint"].split()
    assert program == "agentrft" and run_here(*arguments, "--help").code == 0
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    volumes = [volume for pod in pods for volume in pod.get("volumes", ())]
    assert {"name": "runs", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in volumes
    for pod in pods:
        named = {volume["name"] for volume in pod.get("volumes", ())}
        assert {mount["name"] for one in pod["containers"] for mount in one.get("volumeMounts", ())} <= named
    pinned = f"ray=={cluster['rayVersion']}"
    assert pinned in (ROOT / "requirements.lock").read_text()
