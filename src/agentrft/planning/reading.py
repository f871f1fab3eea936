"""From a job's file and its data to the step that it asks for: no tokenizer and no weights are needed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.data import Sample, each_demonstration, each_sample
from agentrft.job.memory_budget import KV_CACHE_SHARE, MB, tokens_within
from agentrft.job.token_limits import CHARACTERS_PER_TOKEN as BOUND_CHARACTERS_PER_TOKEN
from agentrft.job.token_limits import MOST_TOOL_TOKENS, TOOL_TOKENS, LimitFacts, TokenLimits, token_limits
from agentrft.models.catalog import resolve_model
from agentrft.models.local_files import local_folder, template_in
from agentrft.planning.assumptions import (
    CHARACTERS_PER_TOKEN,
    GRADE_S,
    JUDGE_ANSWER_TOKENS,
    JUDGE_S,
    TOOL_S,
    TURN_SHARE,
    TURNS_SHARE,
    Given,
    Notes,
)
from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel
from agentrft.planning.workload import Judging, Workload
from agentrft.spec import JobSpec, ResolvedHyperparameters
from agentrft.spec.graders import LabelModelGraderSpec, ModelGraderSpec, ScoreModelGraderSpec

# Rows of a file that are looked at for how long they are.
MOST_ROWS = 512


@dataclass(frozen=True)
class PlannedJob:
    """What a job does.

    Attributes:
        work: of each training step.
        steps: of training.
        validation_rollouts: of all validations and of the baseline.
        test_rollouts: of the test, before and after.
        warm_start_tokens: that the warm start trains on, with every epoch.
        warm_start_rollouts: that it tries.
        hyperparameters: what "auto" becomes.
        notes: where the numbers are from.
    """

    work: Workload
    steps: int
    validation_rollouts: int
    test_rollouts: int
    warm_start_tokens: float
    warm_start_rollouts: int
    hyperparameters: ResolvedHyperparameters
    notes: Notes


def read_job(spec: JobSpec, model: PlannedModel, device: Device, given: Given) -> PlannedJob:
    """What a job does, as far as its files say it, with assumptions for the rest.

    Args:
        device: that it would run on; how long contexts may be depends on its memory.

    Raises:
        UserError: its data cannot be read, or a limit is more than the model takes.
    """
    train, validation = _rows(spec.training_file), _rows(spec.validation_file)
    notes = Notes()
    prompts = [_prompt_tokens(sample, spec) for sample in train.samples + validation.samples]
    shown = _shown_turns(spec.warm_start.training_file if spec.warm_start else None)
    limits = _limits(spec, model, device, prompts=prompts, shown=shown, notes=notes)
    hyperparameters = spec.hyperparameters.resolve(
        n_train=train.count,
        n_validation=validation.count,
        max_tokens_per_turn=limits.max_tokens_per_turn,
        max_context_tokens=limits.max_context_tokens,
    )
    work = _work(spec, hyperparameters, limits, prompts, shown, given, notes)
    return PlannedJob(
        work,
        hyperparameters.max_steps,
        _validation_rollouts(spec, hyperparameters, validation.count),
        2 * hyperparameters.eval_samples * _rows(spec.test_file).count,
        shown.tokens * (spec.warm_start.n_epochs if spec.warm_start else 0),
        _tried(spec, train.count),
        hyperparameters,
        notes,
    )


@dataclass(frozen=True)
class _Rows:
    count: int
    samples: list[Sample]


@dataclass(frozen=True)
class _ShownTurns:
    """Of demonstrations: mean turns, mean and longest tokens of a turn, mean tokens of a tool's answer, and of all."""

    turns: float | None
    turn_tokens: float | None
    longest: int
    result_tokens: float | None
    tokens: float


def _rows(path: Path | None) -> _Rows:
    if path is None:
        return _Rows(0, [])
    count, samples = 0, list[Sample]()
    for sample in each_sample(path):
        count += 1
        if len(samples) < MOST_ROWS:
            samples.append(sample)
    return _Rows(count, samples)


def _tokens(*parts: object) -> float:
    return sum(len(part if isinstance(part, str) else json.dumps(part)) for part in parts) / CHARACTERS_PER_TOKEN


def _prompt_tokens(sample: Sample, spec: JobSpec) -> float:
    declared = [
        {"name": getattr(tool, "name", None), "about": getattr(tool, "description", ""), "takes": tool.parameters}
        for tool in spec.tools
        if tool.type != "mcp"
    ]
    tools = sample.tools or declared
    return _tokens(*(message.get("content") or "" for message in sample.messages), *tools) + 8 * len(sample.messages)


def _shown_turns(path: Path | None) -> _ShownTurns:
    if path is None:
        return _ShownTurns(None, None, 0, None, 0.0)
    turns, sizes, results, whole = list[int](), list[float](), list[float](), 0.0
    for sample in _first(each_demonstration(path)):
        own = [message for message in sample.messages if message["role"] == "assistant"]
        turns.append(len(own))
        sizes += [_tokens(one.get("content") or "", *(one.get("tool_calls") or [])) for one in own]
        results += [_tokens(one.get("content") or "") for one in sample.messages if one["role"] == "tool"]
        whole += _tokens(*sample.messages)
    return _ShownTurns(
        _mean(turns), _mean(sizes), int(max(sizes, default=0)), _mean(results) if results else None, whole
    )


def _first(samples: Iterator[Sample]) -> Iterator[Sample]:
    return (sample for sample, _ in zip(samples, range(MOST_ROWS), strict=False))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _limits(
    spec: JobSpec,
    model: PlannedModel,
    device: Device,
    *,
    prompts: Sequence[float],
    shown: _ShownTurns,
    notes: Notes,
) -> TokenLimits:
    """As the job would choose them on that device."""
    cache = None
    if spec.engine.type == "embedded":
        given = spec.engine.kv_cache_mb
        cache = int(KV_CACHE_SHARE * device.memory) if given == "auto" else given * MB
    memory_tokens, at_once = tokens_within(spec, model.architecture, model.itemsize, cache=cache, memory=device.memory)
    has_calls = bool(spec.tools) and spec.tool_choice != "none"
    bounds = [tool.max_output_characters for tool in spec.tools]
    answers = [TOOL_TOKENS if bound is None else bound // BOUND_CHARACTERS_PER_TOKEN for bound in bounds]
    facts = LimitFacts(
        model_tokens=model.architecture.context_tokens,
        memory_tokens=memory_tokens,
        at_once=at_once,
        thinks=_thinks(spec, notes),
        longest_prompt=int(max(prompts, default=1)),
        longest_shown_turn=shown.longest,
        tool_tokens=min(MOST_TOOL_TOKENS, max(answers, default=0)) if has_calls else 0,
        turns=spec.hyperparameters.episode_steps if has_calls else 1,
    )
    return token_limits(spec.hyperparameters, facts)


def _thinks(spec: JobSpec, notes: Notes) -> bool:
    """Whether turns may begin with a thought, by the chat template where it is here."""
    if spec.hyperparameters.max_tokens_per_turn != "auto" or spec.chat_template_kwargs.get("enable_thinking") is False:
        return False
    folder = local_folder(resolve_model(spec.model))
    template = None if folder is None else template_in(folder)
    if template is None:
        notes.assumed.append(
            "turns without thoughts, since the model's chat template is not on this machine; "
            "set hyperparameters.max_tokens_per_turn for a model that thinks"
        )
    return template is not None and "<think>" in template


def _work(
    spec: JobSpec,
    resolved: ResolvedHyperparameters,
    limits: TokenLimits,
    prompts: Sequence[float],
    shown: _ShownTurns,
    given: Given,
    notes: Notes,
) -> Workload:
    has_tools = bool(spec.tools) and spec.tool_choice != "none"
    most_turns = resolved.max_episode_steps if has_tools else 1
    prompt = notes.chosen(
        given.prompt_tokens,
        _mean(prompts),
        1.0,
        f"a prompt of {{}} tokens ({CHARACTERS_PER_TOKEN} characters each)",
        "the data have no rows",
    )
    turns = notes.chosen(
        given.turns,
        None if shown.turns is None or not has_tools else min(shown.turns, most_turns),
        max(1.0, TURNS_SHARE * most_turns),
        "{} turns a rollout",
        f"half of the {most_turns} that it may have (--turns)" if has_tools else "without tools there is one",
    )
    turn = notes.chosen(
        given.turn_tokens,
        None if shown.turn_tokens is None else min(shown.turn_tokens, limits.max_tokens_per_turn),
        max(1.0, TURN_SHARE * limits.max_tokens_per_turn),
        "{} tokens a turn",
        f"a quarter of the {limits.max_tokens_per_turn:,} that it may have (--turn-tokens)",
    )
    result = 0.0
    tool_s = 0.0
    if has_tools:
        result = notes.chosen(
            given.result_tokens,
            shown.result_tokens,
            float(TOOL_TOKENS),
            "{} tokens of tools' answers a turn",
            "nothing says how long they are (--result-tokens)",
        )
        slowest = max(TOOL_S[tool.type] for tool in spec.tools)
        tool_s = notes.chosen(given.tool_s, None, slowest, "{} s for a turn's tool calls", "usual ones (--tool-s)")
    grade_s = notes.chosen(
        given.grade_s, None, _grade_s(spec), "{} s for a grade", f"usual for a {spec.grader.type} grader (--grade-s)"
    )
    room = max(1, limits.max_context_tokens - int(prompt))
    budget = spec.engine.kv_cache_mb
    return Workload(
        groups=resolved.batch_size,
        rollouts_per_group=resolved.rollouts_per_sample,
        prompt_tokens=prompt,
        turns=turns,
        turn_tokens=turn,
        result_tokens=result,
        most_sampled=min(room, most_turns * limits.max_tokens_per_turn),
        context_tokens=limits.max_context_tokens,
        tool_s=tool_s,
        grade_s=grade_s,
        judges=_judges(spec, prompt + turns * turn + (turns - 1) * result),
        at_once=spec.engine.max_concurrent_rollouts,
        update_epochs=resolved.update_epochs,
        minibatches=min(resolved.minibatches, resolved.batch_size),
        extra_forwards=1 if resolved.kl_weight > 0 else 0,
        runs_ahead=resolved.max_off_policy_steps > 0,
        kv_cache_bytes=None if budget == "auto" else budget * MB,
    )


def _graders(spec: JobSpec) -> list[Any]:
    """Each that grades by itself, of the reward and of holdouts."""
    found: list[Any] = []
    for one in (spec.grader, *spec.holdout_graders.values()):
        found += one.graders.values() if one.type == "multi" else [one]
    return found


def _judges(spec: JobSpec, rollout_tokens: float) -> tuple[Judging, ...]:
    judges: list[Judging] = []
    for one in _graders(spec):
        if isinstance(one, ScoreModelGraderSpec | LabelModelGraderSpec | ModelGraderSpec):
            own = one.prompt if isinstance(one, ModelGraderSpec) else "".join(message.text for message in one.input)
            most = one.sampling_params.max_completions_tokens or JUDGE_ANSWER_TOKENS
            judges.append(Judging(one.model, _tokens(own) + rollout_tokens, min(most, JUDGE_ANSWER_TOKENS)))
    return tuple(judges)


def _grade_s(spec: JobSpec) -> float:
    """Graders of one rollout are asked one beside the other."""
    return max(GRADE_S.get(one.type, JUDGE_S) for one in _graders(spec))


def _validation_rollouts(spec: JobSpec, resolved: ResolvedHyperparameters, rows: int) -> int:
    if not rows:
        return 0
    first = spec.baseline.samples_of(resolved.eval_rows, resolved.eval_samples) * spec.baseline.rollouts_per_sample
    due = {step for step in range(1, resolved.max_steps + 1) if step % resolved.eval_interval == 0}
    later = len(due | {resolved.max_steps}) * resolved.eval_rows * resolved.eval_samples
    return later + (first if spec.baseline.enabled else 0)


def _tried(spec: JobSpec, rows: int) -> int:
    start = spec.warm_start
    if start is None or start.from_ is None:
        return 0
    return start.rounds * min(start.samples, rows) * start.rollouts_per_sample
