"""What a worker needs to know of a job before it can run rollouts, and what it makes of that."""

from dataclasses import dataclass

from agentrft.chat import load_codec
from agentrft.graders import Grader, create_grader
from agentrft.graders.own_server import OwnServer, grading_for, own_server
from agentrft.models.catalog import ModelSource
from agentrft.models.load import load_tokenizer_and_texts
from agentrft.rollout import RolloutLimits, RolloutRunner
from agentrft.spec import JobSpec
from agentrft.tools import RolloutResource, Toolbox, create_toolbox
from agentrft.traffic import Gates, Notify, having_gates
from agentrft.traffic.addresses import refuses_link_local, refusing_link_local


@dataclass
class RolloutParts:
    """What runs rollouts, and what of it is to be closed."""

    runner: RolloutRunner
    toolbox: Toolbox
    graders: list[Grader]

    async def close(self) -> None:
        """Give back what tools and graders hold."""
        await self.toolbox.close()
        for grader in self.graders:
            await grader.close()


@dataclass(frozen=True)
class RolloutSetup:
    """Of all workers of a job. It has the job's secrets, and is sent to workers alone.

    Attributes:
        spec: tools and graders of it are made anew by each worker.
        source: of the model, whose tokenizer a worker reads.
        limits: of every rollout.
        refuses_link_local: see `refusing_link_local`.
        server: that the job runs for.
    """

    spec: JobSpec
    source: ModelSource
    limits: RolloutLimits
    refuses_link_local: bool
    server: OwnServer | None

    @classmethod
    def here(cls, spec: JobSpec, source: ModelSource, limits: RolloutLimits) -> "RolloutSetup":
        """With what this process's parts are made under."""
        return cls(spec, source, limits, refuses_link_local(), own_server())

    def make(self, gates: Gates, first: RolloutResource, notify: Notify) -> RolloutParts:
        """The parts, in the process of a worker.

        Args:
            gates: of the endpoints.
            first: begins with each attempt, before all else.
            notify: told as the job's process is by its parts.

        Raises:
            UserError: something of it is not on this machine: the model's files, a variable, a module.
        """
        spec = self.spec
        with having_gates(gates), refusing_link_local(self.refuses_link_local), grading_for(self.server):
            grader = create_grader(spec.grader, notify=notify)
            holdouts = {name: create_grader(one, notify=notify) for name, one in spec.holdout_graders.items()}
            toolbox = create_toolbox(
                spec.tools,
                on_rollout_start=spec.on_rollout_start,
                on_rollout_end=spec.on_rollout_end,
                notify=notify,
            )
        toolbox.resources.insert(0, first)
        tokenizer, _ = load_tokenizer_and_texts(self.source)
        codec = load_codec(tokenizer, self.source.path_or_id, template_kwargs=spec.chat_template_kwargs)
        runner = RolloutRunner(codec=codec, toolbox=toolbox, grader=grader, holdouts=holdouts, limits=self.limits)
        return RolloutParts(runner, toolbox, [grader, *holdouts.values()])
