"""The parts of a job, put together: data, model, codec, engine, tools, grader, policy."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from transformers import PreTrainedModel

from agentrft.cluster import Ranks
from agentrft.data import Sample, judge_samples, load_demonstrations, load_samples
from agentrft.errors import UserError
from agentrft.graders import Grader, check_templates, create_grader, reward_weights
from agentrft.job.backend import Backend, make_backend, make_ranks
from agentrft.job.limit_facts import limit_facts
from agentrft.job.model_runtime import ModelRuntime
from agentrft.job.notices import Notices
from agentrft.job.rollout_workers import make_rollout_workers
from agentrft.job.schedule import shuffled
from agentrft.job.token_limits import token_limits
from agentrft.learner import Clip, Learner, UpdateOptions
from agentrft.models.architecture import inspect_architecture
from agentrft.models.load import load_config
from agentrft.rollout import CallRules, FailedReward, RolloutLimits, RolloutRunner, RunsRollouts
from agentrft.spec import JobSpec, NamedToolChoice, ResolvedHyperparameters
from agentrft.tools import (
    Toolbox,
    call_judge,
    create_toolbox,
    declared_tools,
    made_tools,
    oversized_rows,
    unenforced_parts,
)
from agentrft.traffic import Gates, having_gates

MakeGrader = Callable[[Notices], Grader]
MAX_PROMPTS_SHOWN = 5


class Runtime(ModelRuntime):
    """Everything a job of reinforcement runs with. Making one checks the job's data before it loads the model.

    Args:
        given: samples instead of those in the job's files; who gives them has judged their tools and calls.
        grader: makes the one that grades, instead of the job's; who gives it has checked its templates.
        calls_end: whether a turn that calls ends a rollout; see `RolloutLimits`.

    Attributes:
        train, validation, demonstrations: the job's samples; the last two may be empty.
        prompt_tokens: of each training and validation sample, in that order.
        model_tokens: the model's own longest sequence; None where it is not known.
        token_limits: of a turn and of a rollout, with the reasons for those that the job leaves at "auto".
        backend: policy, engine and how the one's weights reach the other, as `engine.type` says.
        policy, engine: the trained weights, and what generates from them.
        failed_reward: what rollouts get in which the agent failed.
        workers: processes that run the rollouts; None where this one does.
        runner: what runs them.

    Raises:
        UserError: data, grader or model cannot be used, or a prompt leaves no room in the context.
    """

    def __init__(
        self,
        spec: JobSpec,
        *,
        given: Sequence[Sample] | None = None,
        grader: MakeGrader | None = None,
        calls_end: bool = False,
    ) -> None:
        super().__init__(spec)
        self.spec = spec
        declared = declared_tools(spec.tools)
        judge = call_judge(declared)
        self.train = load_samples(spec.training_file, judge) if given is None else list(given)
        self.validation = load_samples(spec.validation_file, judge) if spec.validation_file else []
        self.test = load_samples(spec.test_file, judge) if spec.test_file else []
        files = spec.warm_start.files if spec.warm_start else {}
        loaded = {name: load_demonstrations(path, judge) for name, path in files.items()}
        self.demonstrations, self.examples = (loaded.get(name, []) for name in ("training_file", "examples_file"))
        gates = Gates()
        with having_gates(gates):
            self._make_endpoints(spec, grader)
        self.call_rules = _call_rules(spec, self.toolbox)
        if not declared.is_whole:
            _check_tools_and_calls(self)
        _warn_of_row_tools(self)
        too_large = oversized_rows(spec.tools, [*self.train, *self.validation])
        if too_large is not None:
            self.notices("warning", too_large)
        if spec.response_format is not None:
            for part in spec.response_format.unenforced:
                self.notices("warning", f"response_format: answers are not held against it: {part}")
        self.read_tokenizer()
        self.engine_device = _engine_device(spec, self.device)
        self.prompt_tokens = [
            len(self.codec.prompt_ids(sample.messages, self.tools_of(sample)))
            for sample in (*self.train, *self.validation, *self.test)
        ]
        facts = limit_facts(self, inspect_architecture(load_config(self.source), self.dtype), calls_end=calls_end)
        self.model_tokens = facts.model_tokens
        self.token_limits = token_limits(spec.hyperparameters, facts)
        for why in self.token_limits.why:
            self.notices("info", why)
        self.hyperparameters: ResolvedHyperparameters = spec.hyperparameters.resolve(
            n_train=len(self.train),
            n_validation=len(self.validation),
            max_tokens_per_turn=self.token_limits.max_tokens_per_turn,
            max_context_tokens=self.token_limits.max_context_tokens,
        )
        _check_prompts(self)
        hyperparameters = self.hyperparameters
        rows = shuffled(range(len(self.validation)), f"{spec.seed}/validation")[: hyperparameters.eval_rows]
        self.validated = [self.validation[row] for row in sorted(rows)]
        first = spec.baseline.samples_of(len(rows), hyperparameters.eval_samples)
        self.baseline_samples = [self.validation[row] for row in sorted(rows[:first])]
        self.backend = self.at_once(self._made_backend)
        self.engine, self.policy = self.backend.engine, self.backend.policy
        self.failed_reward = FailedReward.of(spec)
        limits = RolloutLimits(
            max_episode_steps=self.hyperparameters.max_episode_steps,
            max_tokens_per_turn=self.hyperparameters.max_tokens_per_turn,
            max_context_tokens=self.hyperparameters.max_context_tokens,
            turn_timeout_s=spec.engine.turn_timeout_s,
            calls=self.call_rules,
            model_failed_reward=self.failed_reward.until_settled,
            grade_unfinished=spec.grade_unfinished,
            answer_schema=None if spec.response_format is None else spec.response_format.answer_schema,
            calls_end=calls_end,
        )
        self.workers = make_rollout_workers(spec, self.source, limits, gates, self.toolbox, self.notices)
        self.runner: RunsRollouts = self.workers or RolloutRunner(
            codec=self.codec, toolbox=self.toolbox, grader=self.grader, holdouts=self.holdouts, limits=limits
        )

    def _make_endpoints(self, spec: JobSpec, grader: MakeGrader | None) -> None:
        """Graders and tools."""
        if grader is None:
            check_templates(spec.grader, [*self.train, *self.validation])
            self.grader = create_grader(spec.grader, notify=self.notices)
        else:
            self.grader = grader(self.notices)
        for holdout in spec.holdout_graders.values():
            check_templates(holdout, [*self.train, *self.validation])
        self.holdouts = {
            name: create_grader(holdout, notify=self.notices) for name, holdout in spec.holdout_graders.items()
        }
        self.toolbox = create_toolbox(
            spec.tools,
            on_rollout_start=spec.on_rollout_start,
            on_rollout_end=spec.on_rollout_end,
            notify=self.notices,
        )

    def new_learner(self, *, learning_rate: float, warm_up_steps: int, decay_steps: int) -> Learner:
        """A learner on the policy, with a fresh optimizer."""
        hyperparameters = self.hyperparameters
        return self.backend.new_learner(
            algorithm=hyperparameters.algorithm,
            learning_rate=learning_rate,
            temperature=hyperparameters.temperature,
            max_grad_norm=hyperparameters.max_grad_norm,
            warm_up_steps=warm_up_steps,
            decay_steps=decay_steps,
            options=UpdateOptions(
                minibatches=hyperparameters.minibatches,
                epochs=hyperparameters.update_epochs,
                clip=Clip(hyperparameters.clip_low, hyperparameters.clip_high),
                advantage_by=hyperparameters.advantage_by,
                std_floor=hyperparameters.advantage_std_floor,
                reward_weights=reward_weights(self.grader),
                kl_weight=hyperparameters.kl_weight,
                clip_cov=hyperparameters.clip_cov,
                masks_overlong=hyperparameters.overlong == "mask",
                length_penalty=hyperparameters.length_penalty,
                replay_weight=hyperparameters.replay_weight,
                most_tokens=hyperparameters.max_tokens_per_turn * hyperparameters.max_episode_steps,
                seed=self.spec.seed,
            ),
        )

    async def publish_policy(self) -> None:
        """Make the engine sample from the policy as it is now."""
        await self.backend.publisher.publish()

    async def probe(self) -> None:
        """Look whether tools, hooks, graders and the engine's server are there, and call the tools that may be called
        for it; then start the workers that rollouts have.

        Raises:
            EndpointError: one of them cannot be used.
            UserError, JobFailedError: a worker did not start.
        """
        await asyncio.gather(
            self.prove_engine(),
            self.toolbox.probe(next(iter(self.train), None)),
            *(grader.probe() for grader in (self.grader, *self.holdouts.values())),
        )
        if self.workers is not None:
            await self.workers.start()

    async def prove_engine(self) -> None:
        """See that an engine outside this process is there, and fits the job.

        Raises:
            EndpointError: it is not, or does not.
        """
        limits = self.hyperparameters
        await self.engine.prove(
            temperature=limits.temperature, top_p=limits.top_p, context_tokens=limits.max_context_tokens
        )

    def tools_of(self, sample: Sample) -> list[dict[str, Any]]:
        """What the model is shown of tools, for a sample: Chat Completions `tools`."""
        return (sample.tools or self.toolbox.schemas) if self.call_rules.shows_tools else []

    def _made_backend(self) -> Backend:
        ranks = make_ranks(self.spec, self.hyperparameters, self.source, dtype=self.dtype, device=self.device)
        # Shards go to their devices layer by layer.
        on_cpu = ranks is not None and ranks.setup.is_sharded
        with ExitStack() as undo:
            if ranks is not None:
                undo.callback(ranks.close)
            backend = self._backend_with(ranks, self.load(torch.device("cpu") if on_cpu else None))
            undo.pop_all()
        return backend

    def _backend_with(self, ranks: Ranks | None, model: PreTrainedModel) -> Backend:
        return make_backend(
            self.spec,
            self.hyperparameters,
            model,
            ranks=ranks,
            source=self.source,
            device=self.device,
            engine_device=self.engine_device,
            executor=self.executor,
            notify=self.notices,
        )

    async def close(self) -> None:
        if self.workers is not None:
            await self.workers.close()
        await self.engine.close()
        self.backend.close()
        await self.toolbox.close()
        for grader in (self.grader, *self.holdouts.values()):
            await grader.close()
        await super().close()


def _engine_device(spec: JobSpec, learner: torch.device) -> torch.device:
    if spec.engine.device == "auto":
        return learner
    device = torch.device(spec.engine.device)
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= here:
        raise UserError(
            f"engine.device: {spec.engine.device} is not there; this machine has {here} CUDA device(s).",
            'Name one that it has, or leave engine.device at "auto".',
        )
    # "cuda" is the first one, so that both names of it are the same device.
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _call_rules(spec: JobSpec, toolbox: Toolbox) -> CallRules:
    choice = spec.tool_choice
    named = isinstance(choice, NamedToolChoice)
    name = choice.function.name if isinstance(choice, NamedToolChoice) else choice
    if named and name not in toolbox.tools:
        known = ", ".join(sorted(toolbox.tools)) or "none"
        raise UserError(f"tool_choice: no tool '{name}'.", f"Name one that the job has: {known}.")
    return CallRules(name, spec.parallel_tool_calls, spec.max_tool_calls, toolbox.max_calls, named)


def _warn_of_row_tools(runtime: Runtime) -> None:
    """What of the schemas of rows' own tools no call is held against."""
    functions = [
        tool["function"]
        for sample in [*runtime.train, *runtime.validation, *runtime.demonstrations]
        for tool in sample.tools
    ]
    unenforced = {
        f"{function['name']}: {part}"
        for function in functions
        for part in unenforced_parts(function.get("parameters") or {})
    }
    for part in sorted(unenforced):
        runtime.notices("warning", f"a row's tool {part}; the model sees it, and its calls may break it")


def _check_tools_and_calls(runtime: Runtime) -> None:
    """The rows' tools and calls once more, now that all is known of the job's tools."""
    spec, judge = runtime.spec, call_judge(made_tools(runtime.toolbox))
    judge_samples(spec.training_file, runtime.train, judge)
    if spec.validation_file is not None:
        judge_samples(spec.validation_file, runtime.validation, judge)
    if spec.test_file is not None:
        judge_samples(spec.test_file, runtime.test, judge)
    for name, path in (spec.warm_start.files if spec.warm_start else {}).items():
        judge_samples(path, runtime.demonstrations if name == "training_file" else runtime.examples, judge)


def _check_prompts(runtime: Runtime) -> None:
    room = runtime.hyperparameters.max_context_tokens
    samples = (*runtime.train, *runtime.validation, *runtime.test)
    too_long = [
        f"row {sample.sample_id}: {tokens} tokens"
        for sample, tokens in zip(samples, runtime.prompt_tokens, strict=True)
        if tokens >= room
    ]
    if too_long:
        shown = "; ".join(too_long[:MAX_PROMPTS_SHOWN])
        cause = f"{len(too_long)} prompt(s) do not fit into max_context_tokens={room}: {shown}."
        if room == runtime.model_tokens:
            raise UserError(cause, "Shorten these rows, or take another model: this one takes no more.")
        raise UserError(cause, "Raise hyperparameters.max_context_tokens, or shorten these rows.")
