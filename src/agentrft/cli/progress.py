"""A running job, drawn: a live display on a terminal, one line per step elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from agentrft.rollout import Rollout

NAMES = {
    "warm_start": "warm start",
    "warm_rollouts": "trying, for the warm start",
    "train": "training",
    "validation": "validation",
    "test": "test",
    "eval": "measuring",
}
STYLES = {"info": "default", "warning": "yellow", "error": "red"}


class ConsoleProgress:
    """Draws what a job tells (`job.Progress`).

    Inside `with`, on a terminal, it keeps a live display at the bottom; else it writes lines.

    Args:
        console: standard output if not given.
        history: metrics of steps that an earlier process of the job committed.
    """

    def __init__(self, console: Console | None = None, history: Iterable[dict[str, Any]] = ()) -> None:
        self._console = console or Console(highlight=False)
        self._live: Live | None = None
        self._job_id = ""
        self._total_steps = 0
        self._phase = ""
        self._step = 0
        self._total = 0
        self._begin_phase(0)
        self._first_step_at = 0.0
        self._steps_here = 0
        self._train: dict[str, Any] = {}
        self._validations: list[dict[str, Any]] = []
        for row in history:
            self._remember(row["phase"], row["step"], row)

    def __enter__(self) -> "ConsoleProgress":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, job_id: str, total_steps: int) -> None:
        self._job_id, self._total_steps = job_id, total_steps
        self._line(f"{job_id}: {total_steps} steps")

    def phase(self, name: str, step: int, total: int) -> None:
        self._phase, self._step = name, step
        self._begin_phase(total)
        if name == "warm_start":
            self._done = step
        if name == "train" and not self._first_step_at:
            self._first_step_at = self._phase_started
        if name == "eval":
            self._line(f"{total} rollouts ...")

    def rollout(self, rollout: "Rollout") -> None:
        self._done += 1
        self._outcomes[rollout.failure_kind or rollout.outcome] += 1
        self._tool_calls += len(rollout.tool_calls)
        self._tokens += rollout.sampled_tokens
        self._rewards += [] if rollout.reward is None else [rollout.reward]

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self._remember(phase, step, metrics)
        if phase == "warm_start":
            self._done = step
            self._line(f"warm start {step}/{self._total}", f"loss {metrics['loss']:.3f}")
        elif "reward_mean" not in metrics:
            self._tuned(phase, step, metrics)
        elif phase == "validation":
            self._line(f"validation at step {step}", self._validation_text(), _outcomes(metrics["outcomes"]))
        elif phase != "train":
            where = f"round {step}" if phase == "warm_rollouts" else f"at step {step}"
            self._line(f"{NAMES[phase]} {where}", _reward_text(metrics), _outcomes(metrics["outcomes"]))
        else:
            self._steps_here += 1
            self._line(
                f"step {step}/{self._total_steps}",
                _train_text(metrics),
                _outcomes(metrics["outcomes"]),
                f"{metrics['step_s']:.1f} s",
                self._time_left(),
            )

    def _tuned(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        """Of a job without rollouts."""
        if phase == "validation":
            self._line(f"validation at step {step}", _tuning_text(metrics))
            return
        self._done, self._steps_here = step, self._steps_here + 1
        where = f"step {step}/{self._total_steps}"
        self._line(where, _tuning_text(metrics), f"{metrics['step_s']:.1f} s", self._time_left())

    def message(self, level: str, text: str) -> None:
        self._line(text, style=STYLES.get(level, "default"))

    def _begin_phase(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._phase_started = time.monotonic()
        self._outcomes: Counter[str] = Counter()
        self._rewards: list[float] = []
        self._tool_calls = 0
        self._tokens = 0

    def _remember(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if phase == "train":
            self._train = {**metrics, "step": step}
        elif phase == "validation":
            self._validations.append({"step": step, **metrics})

    def _line(self, *parts: str, style: str = "default") -> None:
        self._console.print(f"[{style}]{escape('  '.join(filter(None, parts)))}[/]", soft_wrap=True)

    def _validation_text(self) -> str:
        from agentrft.report.best import best_validation

        last = self._validations[-1]
        best = best_validation(self._validations)
        return f"reward {last['reward_mean']:.3f} (best {best['reward_mean']:.3f} at step {best['step']})"

    def _time_left(self) -> str:
        """From what the steps of this process took, with their validations."""
        if not self._steps_here:
            return ""
        per_step_s = (time.monotonic() - self._first_step_at) / self._steps_here
        left = self._total_steps - self._train["step"]
        return f"{duration(left * per_step_s)} left" if left else ""

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        name = NAMES.get(self._phase, self._phase or "loading the model")
        if self._phase == "train" and self._done >= self._total:
            name = "updating the policy"
        where = f"step {self._step}/{self._total_steps}" if self._phase in ("train", "validation") else ""
        bar = ProgressBar(total=max(1, self._total), completed=self._done, width=30)
        table.add_row(f"[bold]{name}[/] {where}", bar, f"{self._done}/{self._total}", self._time_left())
        facts = Table.grid(padding=(0, 2))
        elapsed = max(1e-9, time.monotonic() - self._phase_started)
        if self._rewards:
            mean = sum(self._rewards) / len(self._rewards)
            facts.add_row(
                "now",
                f"reward {mean:.3f}  tool calls {self._tool_calls / max(1, self._done):.1f}  "
                f"{self._tokens / elapsed:.0f} tokens/s  {escape(_outcomes(self._outcomes))}",
            )
        if self._train:
            facts.add_row(f"step {self._train['step']}", _text_of(self._train, _train_text))
        if self._validations:
            facts.add_row("validation", _text_of(self._validations[-1], lambda _: self._validation_text()))
        return Group(table, facts)


def duration(seconds: float) -> str:
    """For people: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _text_of(metrics: dict[str, Any], with_rollouts: Callable[[dict[str, Any]], str]) -> str:
    return with_rollouts(metrics) if "reward_mean" in metrics else _tuning_text(metrics)


def _tuning_text(metrics: dict[str, Any]) -> str:
    """Of a job without rollouts: what its method measures beside the loss."""
    if "token_accuracy" in metrics:
        return f"loss {metrics['loss']:.3f}  tokens right {metrics['token_accuracy']:.1%}"
    pairs = f"pairs right {metrics['preference_accuracy']:.1%}  margin {metrics['reward_margin']:.3f}"
    return f"loss {metrics['loss']:.3f}  {pairs}"


def _train_text(metrics: dict[str, Any]) -> str:
    return f"{_reward_text(metrics)}  {metrics['sampled_tokens_per_s']:.0f} tokens/s"


def _reward_text(metrics: dict[str, Any]) -> str:
    """Of any phase with rollouts."""
    holdouts = "".join(f"  holdout {name} {score:.3f}" for name, score in metrics.get("holdout_scores", {}).items())
    return f"reward {metrics['reward_mean']:.3f}{escape(holdouts)}  tool calls {metrics['tool_calls_mean']:.1f}"


def _outcomes(counts: dict[str, int]) -> str:
    """Rollouts that did not end in a grade, by reason; nothing where all did."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if name != "graded")
