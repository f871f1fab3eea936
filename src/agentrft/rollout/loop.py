"""One rollout, from the dataset row to its reward.

    prompt -> [generate a turn -> run its tool calls in parallel -> append their results] ... -> answer -> grade

Token ids only ever grow at the end: what was sampled stays as it was sampled, and what follows a turn is appended as
ids. Where the codec cannot prove such a continuation, the rollout goes on in a new row (docs/architecture.md).
"""

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from agentrft.chat import AssistantTurn, ChatCodec
from agentrft.engine import EngineFailure, Generation, Sampling, Session
from agentrft.graders import Grade, Grader, GraderFailure, GraderSample, GraderUse, added_uses
from agentrft.rollout.calls import Refusal, cut, judge_calls
from agentrft.rollout.record import Fork, Rollout, ToolCallRecord, Turn, grader_sample
from agentrft.rollout.spans import (
    call_span,
    grade_span,
    note_call,
    note_generation,
    note_grade,
    note_rollout,
    note_said,
    rollout_span,
    turn_span,
)
from agentrft.rollout.task import RolloutLimits, RolloutTask
from agentrft.tools import Toolbox, ToolCall, ToolFailure, fits_schema

ATTEMPTS = 2


class ModelFailure(Exception):
    """The agent hit one of its bounds, or never answered."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class _Episode:
    """What a rollout has so far.

    `context` is the current row's token ids; `repeatable` whether the rollout may be tried again from the start.
    """

    task: RolloutTask
    trace_id: str
    attempt: int
    tools: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    turns: list[Turn] = field(default_factory=list)
    row_starts: list[int] = field(default_factory=lambda: [0])
    context: list[int] = field(default_factory=list)
    forks: Counter[str] = field(default_factory=Counter)
    output_text: str = ""
    calls_made: Counter[str] = field(default_factory=Counter)
    tool_requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    repeatable: bool = True

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """JSON Schema of the arguments of each tool that the model sees, by name."""
        functions = [tool["function"] for tool in self.tools]
        return {function["name"]: function.get("parameters") or {} for function in functions}

    def count(self, part: str, faults: Mapping[str, int]) -> None:
        self.faults.update({f"{part}:{kind}": number for kind, number in faults.items()})


@dataclass(frozen=True)
class EarlierAttempts:
    """Of a rollout that whoever ran it cannot go on with.

    Attributes:
        given_up, faults: of its record.
        started_at: when the first one began, in seconds since the epoch.
    """

    trace_id: str
    given_up: Sequence[str]
    faults: Mapping[str, int]
    started_at: float


class RunsRollouts(Protocol):
    """`RolloutRunner`, in this process or in others."""

    async def run(self, task: RolloutTask, session: Session) -> Rollout: ...


class RolloutRunner:
    """Runs rollouts against one set of tools and one grader; safe to call concurrently."""

    def __init__(
        self,
        *,
        codec: ChatCodec,
        toolbox: Toolbox,
        grader: Grader,
        limits: RolloutLimits,
        holdouts: Mapping[str, Grader] | None = None,
    ) -> None:
        self._codec = codec
        self._toolbox = toolbox
        self._grader = grader
        self._holdouts = dict(holdouts or {})
        self._limits = limits

    async def run(self, task: RolloutTask, session: Session, *, earlier: EarlierAttempts | None = None) -> Rollout:
        """Run one rollout in an open session; broken infrastructure is tried once more from the start.

        Never raises for what a rollout may meet: the record's `outcome` says how it ended.

        Args:
            earlier: the attempts that it goes on from; fewer than `ATTEMPTS`.
        """
        begun = earlier or EarlierAttempts(f"trace_{uuid.uuid4().hex}", (), {}, time.time())
        with rollout_span(begun.trace_id, task.sample.sample_id, task.step, task.index) as seen:
            rollout = await self._attempts(task, session, begun)
            note_rollout(seen, rollout)
        return rollout

    async def _attempts(self, task: RolloutTask, session: Session, begun: EarlierAttempts) -> Rollout:
        trace_id, started_at, given_up = begun.trace_id, begun.started_at, list(begun.given_up)
        attempt, requests, faults = 1 + len(given_up), 0, Counter(begun.faults)
        graders: dict[str, GraderUse] = {}
        while True:
            rollout, repeatable = await self._attempt(task, session, trace_id, attempt)
            requests += rollout.tool_requests
            faults.update(rollout.faults)
            graders = added_uses((graders, rollout.graders))
            rollout.tool_requests, rollout.faults, rollout.given_up = requests, dict(faults), given_up
            rollout.graders, rollout.started_at = graders, started_at
            if rollout.outcome != "infra_failed" or not repeatable or attempt == ATTEMPTS:
                return rollout
            given_up = [*given_up, rollout.failure_kind or "unknown"]
            attempt += 1
            session.restart()

    async def _attempt(self, task: RolloutTask, session: Session, trace_id: str, attempt: int) -> tuple[Rollout, bool]:
        """One attempt, and whether it may be repeated if it broke."""
        tools = (task.sample.tools or self._toolbox.schemas) if self._limits.calls.shows_tools else []
        episode = _Episode(task, trace_id, attempt, tools, list(task.sample.messages))
        started = time.perf_counter()
        record = Rollout(
            trace_id,
            attempt,
            task.sample.sample_id,
            task.step,
            task.index,
            "infra_failed",
            episode.turns,
            episode.messages,
            row_starts=episode.row_starts,
        )
        begun = []
        try:
            for resource in self._toolbox.resources:
                begun.append(resource)
                await resource.begin(trace_id=trace_id, attempt=attempt, item=task.sample.item)
            failed = await self._agents_failure(episode, session)
            record.latency_s = time.perf_counter() - started
            if failed is None or self._limits.grade_unfinished:
                await self._grade(record, episode)
            else:
                record.reward = self._limits.model_failed_reward
            # Only now: where the grader broke, it is no failure of the agent's.
            record.outcome, record.failure_kind = ("graded" if failed is None else "model_failed"), failed
        except ToolFailure as failure:
            record.failure_kind, record.failure_message = f"tool:{failure.kind}", str(failure)
        except GraderFailure as failure:
            record.failure_kind, record.failure_message = f"grader:{failure.kind}", str(failure)
            record.graders = failure.uses
            for use in failure.uses.values():
                episode.count("grader", use.faults)
        except EngineFailure as failure:
            record.failure_kind, record.failure_message = f"engine:{failure.kind}", str(failure)
            episode.count("engine", {failure.kind: 1})
        finally:
            for resource in reversed(begun):
                await resource.end(trace_id=trace_id, attempt=attempt, outcome=record.outcome)
        record.latency_s = record.latency_s or time.perf_counter() - started
        record.tool_requests, record.faults = episode.tool_requests, dict(episode.faults)
        record.forks = dict(episode.forks)
        return record, episode.repeatable

    async def _agents_failure(self, episode: _Episode, session: Session) -> str | None:
        """Converse up to the final answer; the kind of the agent's failure if there is no good one."""
        try:
            await self._converse(episode, session)
        except ModelFailure as failure:
            return failure.kind
        return None

    async def _grade(self, record: Rollout, episode: _Episode) -> None:
        record.output_text = episode.output_text
        sample = grader_sample(record)
        grade = await self._graded(self._grader, self._grader.name, episode, sample, trains=True)
        # What each grader took is the record's.
        record.graders, record.grade = grade.uses(self._grader.name), replace(grade, parts={})
        record.reward = grade.score
        episode.count("grader", grade.faults)
        record.holdout_scores = await self._score_holdouts(episode, sample)

    async def _score_holdouts(self, episode: _Episode, sample: GraderSample) -> dict[str, float]:
        """What the holdout graders say. One that fails costs the rollout nothing: it is counted, and has no score."""
        grades = await asyncio.gather(
            *(self._graded(grader, name, episode, sample, trains=False) for name, grader in self._holdouts.items()),
            return_exceptions=True,
        )
        scores = {}
        for name, grade in zip(self._holdouts, grades, strict=True):
            if isinstance(grade, GraderFailure):
                for use in grade.uses.values():
                    episode.count("holdout", use.faults)
            elif isinstance(grade, BaseException):
                raise grade
            else:
                episode.count("holdout", grade.faults)
                scores[name] = grade.score
        return scores

    async def _graded(
        self, grader: Grader, name: str, episode: _Episode, sample: GraderSample, *, trains: bool
    ) -> Grade:
        with grade_span(episode.trace_id, name, trains=trains) as seen:
            grade = await grader.grade(sample, item=episode.task.sample.item, trace_id=episode.trace_id)
            note_grade(seen, grade)
        return grade

    async def _converse(self, episode: _Episode, session: Session) -> None:
        appended = self._codec.prompt_ids(episode.messages, episode.tools)
        for number in range(self._limits.max_episode_steps):
            turn, said = await self._generate(episode, session, appended, number)
            episode.messages.append(said.message)
            if not said.tool_calls:
                if turn.finish_reason == "length":
                    is_full = len(episode.context) >= self._limits.max_context_tokens
                    raise ModelFailure("context" if is_full else "max_tokens")
                episode.output_text = said.content.strip()
                if not episode.output_text:
                    raise ModelFailure("no_answer")
                if self._limits.calls.wants_a_call and not episode.calls_made:
                    raise ModelFailure("no_tool_call")
                if not fits_schema(episode.output_text, self._limits.answer_schema):
                    raise ModelFailure("response_format")
                return
            results = await self._call_tools(episode, turn, said)
            if self._limits.calls_end:
                episode.output_text = said.content.strip()
                return
            episode.messages += results
            if number + 1 < self._limits.max_episode_steps:
                appended = self._go_on(episode, session, turn, results)
        raise ModelFailure("max_turns")

    def _go_on(self, episode: _Episode, session: Session, turn: Turn, results: list[dict[str, Any]]) -> list[int]:
        """What is appended after a turn and its results; of a new row, which begins here, the whole conversation."""
        before = episode.context
        suffix = self._codec.append(before[: -len(turn.sampled_ids)], turn.sampled_ids, results, episode.tools)
        if suffix is not None:
            return suffix
        whole = self._codec.prompt_ids(episode.messages, episode.tools)
        if whole[: len(before)] == before:
            return whole[len(before) :]
        session.restart()
        episode.row_starts.append(len(episode.turns))
        episode.forks[self._reason(episode, whole)] += 1
        episode.context = []
        return whole

    def _reason(self, episode: _Episode, whole: list[int]) -> Fork:
        """Why `whole`, the conversation as ids, does not begin with the ids that were sampled."""
        thoughtless = [
            {key: value for key, value in message.items() if key != "reasoning_content"} for message in episode.messages
        ]
        if thoughtless == episode.messages or self._codec.prompt_ids(thoughtless, episode.tools) != whole:
            return "rewritten"
        return "reasoning_dropped"

    async def _generate(
        self, episode: _Episode, session: Session, appended: list[int], number: int
    ) -> tuple[Turn, AssistantTurn]:
        limits, task = self._limits, episode.task
        room = limits.max_context_tokens - len(episode.context) - len(appended)
        if room < 1:
            raise ModelFailure("context")
        sampling = Sampling(
            temperature=task.temperature,
            top_p=task.top_p,
            max_tokens=min(limits.max_tokens_per_turn, room),
            stop_ids=frozenset(self._codec.stop_ids),
            seed=task.turn_seed(episode.attempt, number),
            deadline_s=limits.turn_timeout_s,
        )
        prompt = episode.context + appended
        started = time.perf_counter()
        with turn_span(episode.trace_id, episode.attempt, number, sampling) as seen:
            generation: Generation = await session.generate(appended, sampling)
            generation_s = time.perf_counter() - started
            note_generation(seen, generation, len(prompt))
            if generation.policy_version < task.policy_version:
                message = f"sampled by version {generation.policy_version}, where {task.policy_version} was promised"
                raise EngineFailure("policy_version", message)
            said = self._parsed(episode, generation, prompt, number)
            note_said(seen, said)
        turn = Turn(
            appended,
            generation.token_ids,
            generation.logprobs,
            generation.finish_reason,
            generation.policy_version,
            generation_s=generation_s,
            versions=generation.versions,
        )
        episode.turns.append(turn)
        episode.context = prompt + generation.token_ids
        if said.message.get("reasoning_content"):
            turn.reasoning_tokens = self._codec.reasoning_tokens(generation.token_ids, prompt, episode.tools)
        return turn, said

    def _parsed(self, episode: _Episode, generation: Generation, prompt: list[int], number: int) -> AssistantTurn:
        call_numbers = iter(range(len(generation.token_ids) + 1))

        def new_call_id() -> str:
            text = f"{episode.trace_id}/{episode.attempt}/{number}/{next(call_numbers)}"
            return f"call_{hashlib.sha256(text.encode()).hexdigest()[:24]}"

        return self._codec.parse(generation.token_ids, prompt, episode.tools, new_call_id=new_call_id)

    async def _call_tools(self, episode: _Episode, turn: Turn, said: AssistantTurn) -> list[dict[str, Any]]:
        """Run a turn's calls in parallel; results in the order asked.

        A broken tool does not cut the others short: what they did is counted, then the failure is raised.
        """
        ids = [call["id"] for call in said.message["tool_calls"]]
        refusals = judge_calls(self._limits.calls, said.tool_calls, episode.calls_made, episode.schemas)
        if self._limits.calls_end:
            refusals = [refusal or Refusal("ok", "") for refusal in refusals]
        calls = [
            self._call(episode, ToolCall(call_id, call.name or "", call.arguments or ""), refusal)
            for call_id, call, refusal in zip(ids, said.tool_calls, refusals, strict=True)
        ]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            turn.tool_calls.append(outcome)
        return [
            {"role": "tool", "tool_call_id": record.call_id, "name": record.name, "content": record.output}
            for record in turn.tool_calls
        ]

    async def _call(self, episode: _Episode, call: ToolCall, refusal: Refusal | None) -> ToolCallRecord:
        if refusal is not None:
            return ToolCallRecord(call.call_id, call.name, call.arguments, refusal.text, refusal.status, 0.0, 0)
        with call_span(episode.trace_id, episode.attempt, len(episode.turns) - 1, call) as seen:
            record = await self._made(episode, call)
            note_call(seen, record)
        return record

    async def _made(self, episode: _Episode, call: ToolCall) -> ToolCallRecord:
        tool = self._toolbox.tools[call.name]
        try:
            result = await tool.call(
                call, trace_id=episode.trace_id, attempt=episode.attempt, item=episode.task.sample.item
            )
        except ToolFailure as failure:
            episode.tool_requests += failure.attempts
            episode.count("tool", failure.faults)
            episode.repeatable &= failure.repeatable
            raise
        episode.tool_requests += result.attempts
        episode.count("tool", result.faults)
        # A second attempt at the rollout would make this call again.
        episode.repeatable &= tool.idempotent
        shorter = cut(result.output, self._toolbox.max_output_characters.get(call.name))
        output, status = (result.output, result.status) if shorter is None else (shorter, "cut")
        return ToolCallRecord(
            call.call_id, call.name, call.arguments, output, status, result.latency_s, result.attempts
        )
