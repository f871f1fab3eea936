"""Over how many processes a job's work is spread, as a job file says it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from agentrft.spec.base import SpecModel

# Ray's own words for a cluster, and HOST:PORT of its head.
ADDRESS = r"^(local|auto|[A-Za-z0-9.\-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5})$"
MOST_LEARNER_WORKERS = 64
OF_ROLLOUT_WORKERS = ("min_rollout_workers", "worker_timeout_s", "max_restarts")


class ClusterSpec(SpecModel):
    """Over how many processes the work is spread.

    Attributes:
        learner_workers: ranks of the learner: processes of the job's machine that make every update together, each on a
            part of its groups. On GPUs each rank has the one of its number, the job's own process the first. Adapters
            are whole on every rank, and the model beside them; of all weights (`lora_rank: full`) each has a part.
        spread_learner: whether the ranks but the first run anywhere in the Ray cluster at `address`, as actors with
            a GPU each, or a core where the job computes on CPUs. Each loads the model by itself: its machine needs it
            under the same name or path. The network between the machines must be trusted, as for Ray itself.
        rank_timeout_s: for how many seconds a rank waits for the others before the job fails, to be resumed: more than
            a minibatch takes.
        shard_base: whether of the frozen weights under adapters, too, each rank has a part: for a model that no GPU
            holds alone. It takes longer than a model on every rank.
        rollout_workers: processes that run the rollouts: conversations, tool calls and grading, as actors of Ray, while
            turns are sampled as ever. Limits of endpoints hold over all of them together. 0: the job's own process.
        min_rollout_workers: with so many of them the job begins; the others join whenever the cluster has room for
            them, such as that of a machine that came later. null: it begins with all of them.
        engines: vLLM servers in the Ray cluster at `address`, each an actor that starts one and is sent the policy's
            weights; for an engine of type vllm that names no server. 0: one on the job's machine.
        gpus_per_engine: that each of them takes; 0 for one that computes on a core.
        address: of the Ray cluster that workers, engines and spread ranks run in: "auto" for the one that this machine
            is part of, or host and port of its head; "local" starts one on this machine, which ends with the job.
        worker_timeout_s: for how many seconds a rollout worker may leave the job's process without an answer before it
            is taken for lost.
        max_restarts: how often each rollout worker that is lost is started again.
    """

    learner_workers: Annotated[int, Field(ge=1, le=MOST_LEARNER_WORKERS)] = 1
    rank_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 1800.0
    shard_base: bool = False
    spread_learner: bool = False
    rollout_workers: Annotated[int, Field(ge=0, le=64)] = 0
    min_rollout_workers: Annotated[int, Field(ge=1, le=64)] | None = None
    engines: Annotated[int, Field(ge=0, le=1024)] = 0
    gpus_per_engine: Annotated[int, Field(ge=0, le=64)] = 1
    address: Annotated[str, Field(max_length=255, pattern=ADDRESS)] = "local"
    worker_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 120.0
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 3

    @model_validator(mode="after")
    def _shards_go_to_several_ranks(self) -> Self:
        if self.shard_base and self.learner_workers == 1:
            raise ValueError("shard_base: has an effect with several learner_workers alone")
        return self

    @model_validator(mode="after")
    def _what_is_spread_has_a_cluster(self) -> Self:
        if self.spread_learner and self.learner_workers == 1:
            raise ValueError("spread_learner: has an effect with several learner_workers alone")
        if self.spread_learner and self.address == "local":
            raise ValueError("spread_learner: needs the address of a Ray cluster")
        if self.address != "local" and not (self.rollout_workers or self.engines or self.spread_learner):
            raise ValueError("address: has an effect with rollout_workers, engines or spread_learner alone")
        if self.gpus_per_engine != 1 and not self.engines:
            raise ValueError("gpus_per_engine: has an effect with engines alone")
        return self

    @model_validator(mode="after")
    def _rollouts_have_workers(self) -> Self:
        fields = type(self).model_fields
        without = [name for name in OF_ROLLOUT_WORKERS if getattr(self, name) != fields[name].default]
        if without and not self.rollout_workers:
            raise ValueError(f"{', '.join(without)}: has an effect with rollout_workers alone")
        return self

    @model_validator(mode="after")
    def _workers_that_join_need_a_cluster(self) -> Self:
        if self.min_rollout_workers is None:
            return self
        if self.min_rollout_workers > self.rollout_workers:
            raise ValueError("min_rollout_workers: must be at most rollout_workers")
        if self.address == "local":
            raise ValueError(
                "min_rollout_workers: has an effect with an address alone; a local cluster has room for all"
            )
        return self

    @property
    def actors_of_a_core(self) -> int:
        """So many cores there must be in a cluster that is started for the job."""
        return self.rollout_workers + (0 if self.gpus_per_engine else self.engines)

    @property
    def needed_rollout_workers(self) -> int:
        """So many must be there before a rollout runs."""
        return self.min_rollout_workers or self.rollout_workers

    @property
    def waits_for_room(self) -> bool:
        """Whether a worker may join, or come back, whenever there is room for it."""
        return self.min_rollout_workers is not None
