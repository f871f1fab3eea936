"""One job in simulated time: the real parts around simulated servers, and a learner that only takes time."""

import asyncio
import gc
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agentrft.data import Sample
from agentrft.engine.vllm import Server, VllmEngine
from agentrft.graders import create_grader
from agentrft.job import NoProgress, Runtime, Stop
from agentrft.job.groups_ahead import GroupsAhead
from agentrft.job.token_age import age_of
from agentrft.rollout import FailedReward, Rollout, RolloutLimits, RolloutRunner
from agentrft.spec import HttpToolSpec, Hyperparameters, ResolvedHyperparameters
from agentrft.spec.graders import StringCheckGraderSpec
from agentrft.tools import Toolbox
from benchmarks.simulate.clock import Clock, run
from benchmarks.simulate.codec import simulated_codec
from benchmarks.simulate.costs import ANSWER, FREE, TOOL, Costs
from benchmarks.simulate.endpoint import SimulatedTool
from benchmarks.simulate.engine import ANSWERS, MODEL, BucketTraffic, SimulatedClient, SimulatedGpu
from benchmarks.simulate.store import ChargedStore
from benchmarks.simulate.work import Bucket, Gpu, ToolBehaviour, Work

# What a job may say: `Hyperparameters.batch_size`, rollouts of a sample, and a tool's `max_concurrency`.
MOST_SAMPLES, MOST_EACH, MOST_CALLS = 256, 80, 4096
# Every tool call of a rollout is over, and its turn asked for, within this; or its GPU's machine is replaced.
TURN_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Setting:
    """A job, and the cluster that it runs on.

    Attributes:
        engines: GPUs that generate.
        in_flight: rollouts for each of them.
        batch_share: rollouts of a step, as a share of those in flight; no more than a job may ask for.
        eta: `max_off_policy_steps`.
        update_share: how long the learner takes for a step, as a share of what the engines take at best: it has the
            GPUs for that.
        steps: that are measured, after `first` others.
        driver: what the driver's work costs.
        counts_processor: whether real processor time counts besides; see `Clock`.
    """

    engines: int
    in_flight: int = 64
    batch_share: float = 1.0
    eta: int = 8
    update_share: float = 0.6
    first: int = 2
    steps: int = 4
    seed: int = 0
    driver: Costs = FREE
    counts_processor: bool = True
    work: Work = field(default_factory=Work)
    gpu: Gpu = field(default_factory=Gpu)
    tool: ToolBehaviour = field(default_factory=ToolBehaviour)
    bucket: Bucket = field(default_factory=Bucket)

    @property
    def rooms(self) -> int:
        """Rollouts in flight, at most."""
        return self.engines * self.in_flight

    @property
    def samples_of_step(self) -> int:
        return max(1, min(MOST_SAMPLES, round(self.rooms * self.batch_share / self.work.each)))

    @property
    def each(self) -> int:
        """Rollouts of a sample: more than `Work.each` where a step may have no more samples."""
        wanted = round(self.rooms * self.batch_share / self.samples_of_step)
        return max(self.work.each, min(MOST_EACH, wanted))

    def hyperparameters(self) -> ResolvedHyperparameters:
        """Of the job, which is ended in mid-flight: engines are not left to run dry in what is measured."""
        given = Hyperparameters(
            batch_size=self.samples_of_step,
            n_epochs=50,
            max_steps=self.first + self.steps + self.eta + 1,
            compute_multiplier=self.each / 8,
            max_off_policy_steps=self.eta,
            decide_after=self.each,
        )
        return given.resolve(n_train=4 * self.samples_of_step, max_tokens_per_turn=10**6, max_context_tokens=10**9)


@dataclass
class Reading:
    """What is counted from the start until one moment of simulated time."""

    at_s: float
    alive_s: float
    busy_s: float
    filled_s: float
    driver_s: float
    read_bytes: float
    done_gpu_s: float
    trained_gpu_s: float
    trained: int
    tokens: int
    commits: int
    record_bytes: float
    file_bytes: float
    too_old: int


class Simulation:
    """One run of a setting; `main` is what its loop runs."""

    def __init__(self, setting: Setting, clock: Clock, folder: Path) -> None:
        self.setting, self.clock = setting, clock
        self._store = ChargedStore(folder, setting.driver, clock)
        self._bucket = BucketTraffic(setting.bucket, clock)
        self._trained: Counter[str] = Counter()
        self._gpu_s = 0.0
        self.ages: list[tuple[int, float]] = []
        self.steps: list[dict[str, Any]] = []
        self.outcomes: Counter[str] = Counter()

    async def main(self) -> dict[str, Any]:
        """Run the job for its steps, and tell what came out."""
        setting = self.setting
        self.gpus = [
            SimulatedGpu(setting.gpu, self.clock, random.Random(f"{setting.seed}/{number}"))
            for number in range(setting.engines)
        ]
        lives = [asyncio.create_task(gpu.live()) for gpu in self.gpus]
        runtime = self._runtime()
        source = GroupsAhead(
            cast(Runtime, runtime), self._store, self._store.job_id, progress=NoProgress(), stop=Stop()
        )
        source.resume(0, None)
        readings = [self._read()]
        try:
            for step in range(1, setting.first + setting.steps + 1):
                await self._step(step, source, runtime)
                readings.append(self._read())
        finally:
            with self.clock.set_apart():
                await source.close()
                for life in lives:
                    life.cancel()
                await asyncio.gather(*lives, return_exceptions=True)
                for server in self._servers:
                    await server.keeper.close()
                self._store.close()
        return self._told(readings)

    def _runtime(self) -> Any:
        """Of a `Runtime`, what groups that run ahead ask for."""
        setting, numbers = self.setting, count(ANSWERS + 1)
        hyperparameters = setting.hyperparameters()
        self._clients = [
            SimulatedClient(gpu, setting.work, self._bucket, setting.driver, self.clock, numbers) for gpu in self.gpus
        ]
        self._servers = [Server(client, MODEL, notify=self._notify) for client in self._clients]
        engine = VllmEngine(self._servers, MODEL, max_sequences=setting.rooms)
        capacity = setting.tool.calls_per_gpu * setting.engines
        spec = HttpToolSpec.model_validate(
            {**TOOL, "server_url": "http://simulated:9000/tool", "max_concurrency": min(MOST_CALLS, capacity)}
        )
        self.tool = SimulatedTool(spec, setting.tool, capacity, setting.driver.call_s, self.clock, setting.seed)
        toolbox = Toolbox()
        toolbox.add(self.tool, spec)
        grader = StringCheckGraderSpec(
            type="string_check", input="{{ sample.output_text }}", reference="{{ item.answer }}", operation="eq"
        )
        limits = RolloutLimits(setting.work.most_turns, 10**6, 10**9, TURN_TIMEOUT_S)
        runner = RolloutRunner(
            codec=simulated_codec(setting.work),
            toolbox=toolbox,
            grader=create_grader(grader),
            limits=limits,
        )
        rows = [
            Sample(f"{number:05d}-row", [{"role": "user", "content": "What is it?"}], item={"answer": ANSWER})
            for number in range(1, 4 * setting.samples_of_step + 1)
        ]
        spec_of_job = SimpleNamespace(
            engine=SimpleNamespace(max_concurrent_rollouts=setting.rooms), seed=setting.seed, pass_threshold=1.0
        )
        return SimpleNamespace(
            hyperparameters=hyperparameters,
            spec=spec_of_job,
            engine=engine,
            train=rows,
            policy=SimpleNamespace(version=0),
            runner=runner,
            toolbox=toolbox,
            failed_reward=FailedReward(0.0),
        )

    async def _step(self, step: int, source: GroupsAhead, runtime: Any) -> None:
        """As `Trainer._step`: take, learn, publish, write, commit."""
        setting, began_s = self.setting, self.clock.now_s
        groups = [group async for group in source.groups(step)]
        waited_s, spent = self.clock.now_s - began_s, source.spent(step)
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        age = age_of(rollouts, runtime.policy.version)
        with self.clock.set_apart():
            for rollout in rollouts:
                self._count(rollout)
        ideal_s = sum(map(self._gpu_s_of, rollouts)) / setting.engines
        await asyncio.sleep(setting.update_share * ideal_s)
        runtime.policy.version += 1
        began_publish_s = self.clock.now_s
        await runtime.engine.use_adapter(Path("/bucket", f"v{runtime.policy.version}"), runtime.policy.version)
        published_s = self.clock.now_s - began_publish_s
        await self._store.write_step(step, rollouts, spent.settled or ())
        source.note(step, rollouts)
        self.ages.append((age.most, age.mean))
        self.steps.append(
            {
                "step": step,
                "step_s": self.clock.now_s - began_s,
                "waited_s": waited_s,
                "publish_s": published_s,
                "off_policy_steps": age.most,
                "off_policy_steps_mean": age.mean,
                "groups_too_old": spent.too_old,
                "rollouts": len(rollouts),
            }
        )

    def _count(self, rollout: Rollout) -> None:
        self.outcomes[rollout.failure_kind or rollout.outcome] += 1
        if rollout.outcome != "infra_failed":
            self._trained["rollouts"] += 1
            self._trained["tokens"] += sum(turn.sampled_ids[0] for turn in rollout.turns)
            self._gpu_s += self._gpu_s_of(rollout)

    def _gpu_s_of(self, rollout: Rollout) -> float:
        """Seconds of a GPU that is never idle, and computes nothing twice."""
        sampled = sum(turn.sampled_ids[0] for turn in rollout.turns)
        return self.setting.gpu.gpu_s(sampled, sum(sum(turn.prompt_ids) for turn in rollout.turns))

    def _read(self) -> Reading:
        for gpu in self.gpus:
            gpu.look()
        store = self._store
        return Reading(
            at_s=self.clock.now_s,
            alive_s=sum(gpu.up_s for gpu in self.gpus),
            busy_s=sum(gpu.busy_s for gpu in self.gpus),
            filled_s=sum(gpu.filled_s for gpu in self.gpus),
            driver_s=self.clock.busy_s,
            read_bytes=self._bucket.read_bytes,
            done_gpu_s=sum(gpu.done_s for gpu in self.gpus),
            trained_gpu_s=self._gpu_s,
            trained=self._trained["rollouts"],
            tokens=self._trained["tokens"],
            commits=store.commits,
            record_bytes=store.record_bytes,
            file_bytes=store.file_bytes,
            too_old=sum(step["groups_too_old"] for step in self.steps),
        )

    def _notify(self, level: str, text: str) -> None:
        self.outcomes[f"event:{level}"] += 1

    def _told(self, readings: list[Reading]) -> dict[str, Any]:
        """Between the end of the first steps and the end of the last one."""
        setting, first, last = self.setting, readings[self.setting.first], readings[-1]

        def over(name: str) -> float:
            return getattr(last, name) - getattr(first, name)

        window_s, alive_s = over("at_s"), over("alive_s")
        steps = self.steps[setting.first :]
        return {
            "engines": setting.engines,
            "eta": setting.eta,
            "samples": setting.samples_of_step,
            "each": setting.each,
            "in_flight": setting.rooms,
            "simulated_s": last.at_s,
            "window_s": window_s,
            "machines_lost": sum(gpu.losses for gpu in self.gpus),
            # What was trained on was in part generated before, and of what was generated some is never trained on.
            "ideal_share": min(over("trained_gpu_s"), over("done_gpu_s")) / alive_s,
            "trained_share": over("trained_gpu_s") / alive_s,
            "generated_share": over("done_gpu_s") / alive_s,
            "tokens_per_s": over("tokens") / window_s,
            "rollouts_per_s": over("trained") / window_s,
            "idle_share": 1 - over("busy_s") / alive_s,
            "places_filled": over("filled_s") / (alive_s * setting.gpu.places),
            "driver_busy": over("driver_s") / window_s,
            "driver_s_per_rollout": over("driver_s") / max(1, over("trained")),
            "off_policy_steps": max(step["off_policy_steps"] for step in steps),
            "off_policy_steps_mean": sum(step["off_policy_steps_mean"] for step in steps) / len(steps),
            "groups_too_old": over("too_old"),
            "step_s": sum(step["step_s"] for step in steps) / len(steps),
            "waited_s": sum(step["waited_s"] for step in steps) / len(steps),
            "publish_s": sum(step["publish_s"] for step in steps) / len(steps),
            "commits_per_s": over("commits") / window_s,
            "database_bytes_per_s": over("record_bytes") / window_s,
            "bucket_read_bytes_per_s": over("read_bytes") / window_s,
            "bucket_written_bytes_per_s": over("file_bytes") / window_s,
            "tool_calls": {str(status): number for status, number in sorted(self.tool.met.met.items())},
            "tool_calls_at_once": self.tool.met.most_at_once,
            "tool_limit": self.tool.limit,
            "outcomes": dict(self.outcomes),
            "looks_per_s": sum(client.asked["/health"] for client in self._clients) / last.at_s,
        }


def simulate(setting: Setting) -> dict[str, Any]:
    """Run one setting, and tell what came out; `real_s` are seconds of this machine."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    random.seed(setting.seed)
    clock = Clock(counts_processor=setting.counts_processor)
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(setting, clock, Path(folder))
        told = run(clock, simulation.main())
    del simulation
    gc.collect()
    return {**told, "real_s": time.perf_counter() - began, "processor_s": time.thread_time() - began_cpu}
