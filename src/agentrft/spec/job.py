"""The job: one model, its data, its tools, its grader, and how to train."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from agentrft.spec.alarms import AlarmsSpec
from agentrft.spec.base import SpecModel
from agentrft.spec.base_job import BaseJobSpec
from agentrft.spec.cluster import ClusterSpec
from agentrft.spec.engine import EngineSpec
from agentrft.spec.graders import MAX_SCORE, GraderSpec
from agentrft.spec.hyperparameters import Hyperparameters
from agentrft.spec.response_format import ResponseFormat
from agentrft.spec.tools import HookSpec, NamedToolChoice, ToolChoice, ToolSpec

LEAST_BASELINE_SAMPLES = 16
WARM = "warm_start."


class WarmStartSpec(SpecModel):
    """A short supervised training before reinforcement: on demonstrations, on the model's own successes, or on both.

    Attributes:
        training_file: JSONL of demonstrations: whole conversations that end in an assistant's message.
        from_: "rollouts", written `from`: the model tries training samples, and is trained on those rollouts that
            succeeded; after the demonstrations, where there are some.
        n_epochs: passes over the demonstrations, and over each round's successes.
        learning_rate: the highest; it falls to a tenth of this by the end.
        batch_size: conversations in one optimizer step.
        rounds: how often the model tries and is trained, each time on other samples and with what the round before
            made.
        samples: training samples that a round tries.
        rollouts_per_sample: rollouts of each sample in a round.
        successes_per_sample: rollouts of one sample that are trained on, at most.
        temperatures: sampling temperatures of a sample's rollouts, in turn.
        examples_file: JSONL of transcripts that the model is shown while it tries, and not when it is trained.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    training_file: Path | None = None
    from_: Annotated[Literal["rollouts"] | None, Field(alias="from")] = None
    n_epochs: Annotated[int, Field(ge=1, le=50)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    batch_size: Annotated[int, Field(ge=1)] = 8
    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    samples: Annotated[int, Field(ge=1)] = 64
    rollouts_per_sample: Annotated[int, Field(ge=1, le=256)] = 8
    successes_per_sample: Annotated[int, Field(ge=1)] = 2
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0, le=2)], ...], Field(min_length=1, max_length=16)] = (
        1.0,
    )
    examples_file: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Its data files, by field."""
        given = {"training_file": self.training_file, "examples_file": self.examples_file}
        return {name: path for name, path in given.items() if path is not None}

    @model_validator(mode="after")
    def _has_something_to_learn_from(self) -> "WarmStartSpec":
        if self.training_file is None and self.from_ is None:
            raise ValueError("give `training_file`, or `from: rollouts`")
        if self.from_ is None:
            own = ("rounds", "samples", "rollouts_per_sample", "successes_per_sample", "temperatures", "examples_file")
            without = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
            if without:
                raise ValueError(f"{', '.join(without)}: has an effect with `from: rollouts` alone")
        return self


class BaselineSpec(SpecModel):
    """How the model is measured before training.

    Attributes:
        enabled: false begins without a measurement, so that nothing stops a hopeless job.
        rollouts_per_sample: rollouts of each sample, the k of pass@k. With one of each, a task whose samples are always
            right or always wrong looks like one that can be learned.
        samples: how many validation samples; "auto" are as few as cost what a later validation does, and at least 16.
    """

    enabled: bool = True
    rollouts_per_sample: Annotated[int, Field(ge=1)] = 4
    samples: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"

    def samples_of(self, rows: int, rollouts: int) -> int:
        """How many samples, where a later validation has so many rows and rollouts of each."""
        if self.samples != "auto":
            return min(rows, self.samples)
        return min(rows, max(LEAST_BASELINE_SAMPLES, -(-rows * rollouts // self.rollouts_per_sample)))


class JobSpec(BaseJobSpec):
    """A whole job of reinforcement in its one stored shape.

    Attributes:
        method: "reinforcement"; in a job file the `type` of the method.
        validation_file: JSONL of samples that are measured during training, and by which the result is chosen.
        test_file: JSONL of samples that are measured once, at the end, by the model as it began and by the result.
        tools: what the agent may call.
        tool_choice: "none" shows the model no tools. "required" or a tool's name: an answer before that call is a
            failure of the model.
        parallel_tool_calls: whether a turn may have several calls.
        max_tool_calls: calls in one rollout, of all tools; for those beyond the model reads an error.
        on_rollout_start: a URL that is told when an attempt at a rollout begins, once each.
        on_rollout_end: a URL that is told when it ends, however it ends, once each.
        response_format: the form of the final answer; another one is a failure of the model.
        grader: what scores a finished rollout; its score is the reward.
        holdout_graders: score every rollout, and are no reward: what they say shows whether `grader` is being gamed,
            and keeps such rollouts from being replayed.
        alarms: what is watched beside the reward, and whether to pause for it.
        hyperparameters: how much is explored, and how it is learned from.
        warm_start: a supervised training that comes first.
        baseline: the measurement before the first step.
        engine: limits of what generates.
        cluster: over how many processes the work is spread.
        model_failed_reward: reward of a rollout in which the agent ran out of turns or tokens, or gave no answer;
            "auto" is the lowest that the grader can give, or where it may give any number, the lowest in the rollout's
            group.
        grade_unfinished: such a rollout is graded instead, as far as it got: for graders that look at the state of an
            environment.
    """

    method: Literal["reinforcement"] = "reinforcement"
    test_file: Path | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    on_rollout_start: HookSpec | None = None
    on_rollout_end: HookSpec | None = None
    response_format: ResponseFormat | None = None
    grader: GraderSpec
    holdout_graders: dict[str, GraderSpec] = Field(default_factory=dict)
    alarms: AlarmsSpec = AlarmsSpec()
    hyperparameters: Hyperparameters = Hyperparameters()
    warm_start: WarmStartSpec | None = None
    baseline: BaselineSpec = BaselineSpec()
    engine: EngineSpec = EngineSpec()
    cluster: ClusterSpec = ClusterSpec()
    model_failed_reward: Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE, allow_inf_nan=False)] | Literal["auto"] = (
        "auto"
    )
    grade_unfinished: bool = False

    @property
    def data_files(self) -> dict[str, Path]:
        """The files of its samples, by field; those of the warm start as `warm_start.training_file`."""
        of_warm_start = self.warm_start.files if self.warm_start else {}
        test = {} if self.test_file is None else {"test_file": self.test_file}
        return {**super().data_files, **test, **{f"{WARM}{name}": path for name, path in of_warm_start.items()}}

    def with_data_files(self, files: Mapping[str, Path], **changes: Any) -> Self:
        """A copy with other `data_files`, and with other changes."""
        own: dict[str, Any] = {name: path for name, path in files.items() if not name.startswith(WARM)}
        if self.warm_start is not None:
            warm = {name.removeprefix(WARM): path for name, path in files.items() if name.startswith(WARM)}
            own["warm_start"] = self.warm_start.model_copy(update=warm)
        return super().with_data_files({}, **own, **changes)

    @property
    def pass_threshold(self) -> float:
        """The reward from which a rollout counts as passed: the grader's `pass_threshold`, else 1."""
        return _threshold_of(self.grader)

    @property
    def sub_thresholds(self) -> dict[str, float]:
        """The same of each grader inside a `multi` one, by name."""
        if self.grader.type != "multi":
            return {}
        return {name: _threshold_of(one) for name, one in self.grader.graders.items()}

    @property
    def holdout_thresholds(self) -> dict[str, float | None]:
        """The pass threshold of each holdout grader; None where it has none."""
        return {name: getattr(one, "pass_threshold", None) for name, one in self.holdout_graders.items()}

    @model_validator(mode="after")
    def _engine_fits(self) -> "JobSpec":
        if self.engine.type == "vllm" and self.deterministic:
            raise ValueError(
                "engine.type: what vllm samples depends on what it batches, so that `deterministic` is refused"
            )
        return self

    @model_validator(mode="after")
    def _engines_are_to_be_started(self) -> "JobSpec":
        if not self.cluster.engines:
            return self
        if self.engine.type != "vllm":
            raise ValueError("cluster.engines: are vLLM servers, for an engine of `type: vllm`")
        for field, why in {
            "url": "they are started by the job",
            "urls": "they are started by the job",
            "adapters": "weights are sent to them",
            "sleep": "they share no GPU with the learner",
        }.items():
            if getattr(self.engine, field):
                raise ValueError(f"engine.{field}: has no place beside cluster.engines: {why}")
        return self

    @model_validator(mode="after")
    def _base_is_frozen(self) -> "JobSpec":
        if self.cluster.shard_base and self.hyperparameters.lora_rank == "full":
            raise ValueError("cluster.shard_base: has no effect with lora_rank 'full', which divides all weights")
        return self

    @model_validator(mode="after")
    def _rollout_workers_can_run_it(self) -> "JobSpec":
        if not self.cluster.rollout_workers:
            return self
        where = "cluster.rollout_workers"
        if self.deterministic:
            raise ValueError(
                f"{where}: which rollout goes on first depends on several processes, so that `deterministic` is refused"
            )
        for tool in self.tools:
            name = tool.server_label if tool.type == "mcp" else tool.name
            if tool.type != "http":
                raise ValueError(f"{where}: tool '{name}' is of type '{tool.type}', which one process runs alone")
            for field in ("cache", "record"):
                if getattr(tool, field):
                    raise ValueError(f"{where}: tool '{name}' has `{field}`, which one process keeps alone")
        return self

    @model_validator(mode="after")
    def _tool_names_are_unique(self) -> "JobSpec":
        names = [tool.name if tool.type == "http" else tool.tool_name for tool in self.tools if tool.type != "mcp"]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"tools: two tools share the name {repeated}")
        choice = self.tool_choice
        has_unknown = any(tool.type == "mcp" for tool in self.tools)
        if isinstance(choice, NamedToolChoice) and choice.function.name not in names and not has_unknown:
            raise ValueError(
                f"tool_choice: no tool '{choice.function.name}'; the job has: {', '.join(names) or 'none'}"
            )
        if choice == "required" and not self.tools:
            raise ValueError("tool_choice: 'required' without any tool")
        return self

    @model_validator(mode="after")
    def _failures_have_one_reward(self) -> "JobSpec":
        if self.grade_unfinished and self.model_failed_reward != "auto":
            raise ValueError("model_failed_reward: has no effect with grade_unfinished; leave one of them out")
        return self

    @model_validator(mode="after")
    def _deterministic_is_on_policy(self) -> "JobSpec":
        if self.deterministic and self.hyperparameters.max_off_policy_steps not in ("auto", 0):
            raise ValueError("max_off_policy_steps: a deterministic job has one fixed schedule; set it to 0")
        return self

    @model_validator(mode="after")
    def _servers_of_rollouts_in_flight_are_awake(self) -> "JobSpec":
        if self.engine.sleep and self.hyperparameters.max_off_policy_steps not in ("auto", 0):
            raise ValueError(
                "max_off_policy_steps: rollouts go on during updates, for which engine.sleep lets the servers sleep; "
                "set one of them to 0 or false"
            )
        return self


def _threshold_of(grader: GraderSpec) -> float:
    threshold = getattr(grader, "pass_threshold", None)
    return 1.0 if threshold is None else threshold
