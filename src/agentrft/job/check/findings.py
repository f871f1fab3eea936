"""What a check found: one list of findings, and the numbers behind them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agentrft.errors import AgentRFTError, UserError

Level = Literal["ok", "warning", "error"]
Source = Literal["example", "demonstration", "schema"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: an "error" would fail the job, a "warning" spoil its training.
        part: of the job: "data", "tool 'search'", "grader", ...
        exit_code: of an error, as the command that runs the job would end.
    """

    level: Level
    part: str
    text: str
    remedy: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class RowsReport:
    """Numbers of rows, and ids of those that occur twice.

    Attributes:
        in_both: (training id, validation id) of rows with the same messages.
        repeated: training ids whose messages an earlier row has.
        prompt_tokens_median, prompt_tokens_max: of all prompts with their tools; 0 where no tokenizer was loaded.
    """

    train: int
    validation: int
    demonstrations: int
    in_both: list[tuple[str, str]]
    repeated: list[str]
    prompt_tokens_median: int = 0
    prompt_tokens_max: int = 0


@dataclass(frozen=True)
class BurstReport:
    """Calls that were made at once, past every limit of the job's.

    Attributes:
        refused: answered 429 or 503; `failed` are all others that brought nothing.
        p50_s, p95_s, p99_s: latency of those that were answered.
        concurrency: about how many calls the tool works on at once.
    """

    calls: int
    refused: int
    failed: int
    p50_s: float
    p95_s: float
    p99_s: float
    seconds: float
    concurrency: int


@dataclass(frozen=True)
class ToolReport:
    """One tool. `arguments` and what follows are None where it was not called; `note` says why.

    Attributes:
        source: where the arguments came from.
        status: as in `ToolResult`, or "failed".
        answer: "json" or "text".
        characters: of the answer.
    """

    name: str
    note: str = ""
    arguments: str | None = None
    source: Source | None = None
    status: str | None = None
    latency_s: float | None = None
    answer: str | None = None
    characters: int | None = None
    burst: BurstReport | None = None


@dataclass(frozen=True)
class GraderReport:
    """What the grader did with real rollouts.

    Attributes:
        rollouts, graded: how many there were, and how many got as far as the grader.
        rewards: of all rollouts that have one, in rising order.
        scores: of the graded, in rising order.
        demonstrations: rewards of the demonstrations' answers, in rising order.
        honest_median: of the graded rollouts, or of the demonstrations where none was graded; None without either.
        latency_p50_s, latency_p95_s: of a grade.
        noise: the largest difference between grades of the same rollout; None where none was graded.
        tokens_per_grade: that judges took, by the names of Chat Completions.
    """

    rollouts: int
    graded: int
    rewards: list[float]
    scores: list[float]
    demonstrations: list[float]
    honest_median: float | None
    latency_p50_s: float
    latency_p95_s: float
    noise: float | None
    tokens_per_grade: dict[str, float]


@dataclass(frozen=True)
class AttackReport:
    """One degenerate answer to some samples.

    Attributes:
        example: the beginning of the answer to the first of them.
        scores: the grader's, in the order of samples.
        failures: grades that failed, by their message's beginning; the rollout would be dropped.
        beats_honest: its mean is above what honest rollouts get in the median.
    """

    name: str
    example: str
    mean: float | None
    scores: list[float]
    failures: list[str]
    beats_honest: bool


@dataclass(frozen=True)
class Estimate:
    """What the job will do, and take at the speeds that were measured here.

    Attributes:
        rollouts: in training; groups that are decided early need fewer.
        validation_rollouts: the baseline's included.
        rollout_s, update_s: of a step.
        warm_start_s, validation_s, total_s: of all.
        sampled_tokens, tool_calls: of all rollouts.
        judge_tokens: of all grades, by the names of Chat Completions.
    """

    steps: int
    rollouts: int
    validation_rollouts: int
    rollout_s: float
    update_s: float
    warm_start_s: float
    validation_s: float
    total_s: float
    sampled_tokens: int
    tool_calls: int
    judge_tokens: dict[str, int]


@dataclass
class CheckReport:
    """All that `check_job` found; a part that could not be looked at is None or empty, and an error says why.

    Attributes:
        policy_change: by how much an update at full learning rate moved the policy, in nats a token.
    """

    findings: list[Finding] = field(default_factory=list)
    data: RowsReport | None = None
    tools: list[ToolReport] = field(default_factory=list)
    grader: GraderReport | None = None
    attacks: list[AttackReport] = field(default_factory=list)
    estimate: Estimate | None = None
    policy_change: float | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or that of the first error."""
        return next((finding.exit_code for finding in self.findings if finding.level == "error"), 0)

    def ok(self, part: str, text: str) -> None:
        self.findings.append(Finding("ok", part, text))

    def warn(self, part: str, text: str, remedy: str) -> None:
        self.findings.append(Finding("warning", part, text, remedy))

    def error(self, part: str, text: str, remedy: str, exit_code: int = UserError.exit_code) -> None:
        self.findings.append(Finding("error", part, text, remedy, exit_code))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """An error that is raised inside becomes a finding."""
        try:
            yield
        except UserError as error:
            self.error(name, error.cause, error.remedy, error.exit_code)
        except AgentRFTError as error:
            self.error(name, str(error), "", error.exit_code)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.exit_code == 0, **asdict(self)}
