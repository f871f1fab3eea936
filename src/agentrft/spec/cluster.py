"""Over how many processes a job's work is spread, as a job file says it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from agentrft.spec.base import SpecModel


class ClusterSpec(SpecModel):
    """Over how many processes the work is spread.

    Attributes:
        learner_workers: ranks of the learner: processes of the job's machine that make every update together, each on a
            part of its groups. On GPUs each rank has the one of its number, the job's own process the first. Adapters
            are whole on every rank, and the model beside them; of all weights (`lora_rank: full`) each has a part.
        rank_timeout_s: for how many seconds a rank waits for the others before the job fails, to be resumed: more than
            a minibatch takes.
        shard_base: whether of the frozen weights under adapters, too, each rank has a part: for a model that no GPU
            holds alone. It takes longer than a model on every rank.
    """

    learner_workers: Annotated[int, Field(ge=1, le=64)] = 1
    rank_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 1800.0
    shard_base: bool = False

    @model_validator(mode="after")
    def _shards_go_to_several_ranks(self) -> Self:
        if self.shard_base and self.learner_workers == 1:
            raise ValueError("shard_base: has an effect with several learner_workers alone")
        return self
