"""Rollouts with an engine session that replays what a model would have sampled; all else is real."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import AutoTokenizer

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.hermes import write_call
from agentrft.data import Sample
from agentrft.engine import Generation, Sampling
from agentrft.graders import Grade, Grader, GraderFailure, GraderSample
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.rollout import Rollout, RolloutLimits, RolloutRunner, RolloutTask
from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, RolloutHooks, Toolbox
from tests.job.tiny_job import TOOL, prompt
from tests.traffic.chaos_server import ChaosServer

SAMPLE = Sample("00001-abc", prompt("apple"), item={"word": "apple"})
LIMITS = RolloutLimits(
    max_episode_steps=4, max_tokens_per_turn=200, max_context_tokens=1000, turn_timeout_s=10, model_failed_reward=-0.25
)
CALL = write_call("lookup", {"word": "apple"})


@dataclass
class ScriptedEngine:
    """Opens one session; every turn's ids are given. `version` and `versions` are what generations say sampled them."""

    turns: Sequence[list[int]]
    policy_version: int = 3
    version: int = 3
    versions: list[list[int]] = field(default_factory=list)
    contexts: list[list[int]] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    restarts: int = 0

    async def open(self) -> "ScriptedSession":
        return ScriptedSession(self, iter(self.turns))

    async def close(self) -> None:
        pass


class ScriptedSession:
    """As `Session` describes it: the context grows by what is appended and what is sampled."""

    def __init__(self, engine: ScriptedEngine, turns: Any) -> None:
        self._engine = engine
        self._turns = turns
        self._context: list[int] = []

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        self._engine.samplings.append(sampling)
        turn = next(self._turns)
        sampled = turn[: sampling.max_tokens]
        self._context = self._context + new_ids + sampled
        self._engine.contexts.append(self._context)
        stopped = sampled[-1] in sampling.stop_ids
        logprobs = [-0.001 * (len(self._context) + place) for place in range(len(sampled))]
        reason = "stop" if stopped else "length"
        return Generation(sampled, logprobs, reason, self._engine.version, self._engine.versions)

    def restart(self) -> None:
        self._engine.restarts += 1
        self._context = []

    def close(self) -> None:
        pass


class WordGrader:
    """1.0 for any answer; `broken` raises instead."""

    name = "word"

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.samples: list[GraderSample] = []

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        self.samples.append(sample)
        if self.broken:
            raise GraderFailure(self.name, "exception", "division by zero")
        return Grade(1.0)

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Write:
    """Texts as the ids of whole turns."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
        self.codec: ChatCodec = load_codec(self.tokenizer, "tiny")
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def __call__(self, text: str) -> list[int]:
        return [*self.tokenizer.encode(text, add_special_tokens=False), self.end]

    def read(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)


def toolbox_of(*tools: HttpTool) -> Toolbox:
    toolbox = Toolbox()
    for tool in tools:
        toolbox.add(tool, tool.spec)
    return toolbox


async def roll_out(
    write: Write,
    turns: Sequence[str | list[int]],
    server: ChaosServer,
    *,
    grader: Grader | None = None,
    limits: RolloutLimits = LIMITS,
    engine: ScriptedEngine | None = None,
    sample: Sample = SAMPLE,
    codec: ChatCodec | None = None,
    hooks: RolloutHooks | None = None,
    **tool: Any,
) -> tuple[Rollout, ScriptedEngine]:
    engine = engine or ScriptedEngine([])
    engine.turns = [write(turn) if isinstance(turn, str) else turn for turn in turns]
    spec = HttpToolSpec.model_validate({**TOOL, "server_url": server.url, "timeout_s": 5, "retries": 1, **tool})
    http = HttpTool(spec, backoff_s=0.01)
    toolbox = toolbox_of(http)
    toolbox.resources += [hooks] if hooks is not None else []
    calls = replace(limits.calls, max_calls_of=toolbox.max_calls)
    runner = RolloutRunner(
        codec=codec or write.codec,
        toolbox=toolbox,
        grader=grader or WordGrader(),
        limits=replace(limits, calls=calls),
    )
    task = RolloutTask(sample, step=1, index=0, temperature=1.0, top_p=1.0, seed=0, policy_version=3)
    try:
        return await runner.run(task, await engine.open()), engine
    finally:
        await toolbox.close()
