"""How many rollouts were cut off before they could answer, by which limit, and what mends it."""

from dataclasses import dataclass

from agentrft.report.summary import Summary

# Of the rollouts, from which on it is worth saying.
MATTERS_FROM = 0.1
HALF = 0.5
LONGER_TURNS = "Raise hyperparameters.max_tokens_per_turn"
LONGER_CONTEXT = "Raise hyperparameters.max_context_tokens, or shorten what the tools answer (`max_output_characters`)"
WITHOUT_THOUGHTS = (
    "switch thinking off with `chat_template_kwargs: {enable_thinking: false}`, where the model's template has that"
)


@dataclass(frozen=True)
class CutOff:
    """Rollouts whose tokens ran out.

    Attributes:
        rollouts: how many, and `share` of all.
        parts: the same by limit and by where it happened, as a part of a sentence.
    """

    rollouts: int
    share: float
    parts: str
    remedy: str

    @property
    def matters(self) -> bool:
        """Whether it is more than what always happens to some."""
        return self.share >= MATTERS_FROM

    @property
    def text(self) -> str:
        plural = "rollout was" if self.rollouts == 1 else "rollouts were"
        return f"{self.rollouts} {plural} cut off before the answer ({self.share:.0%}){self.parts}"


def cut_off(summary: Summary) -> CutOff | None:
    """What was cut off; None where nothing was."""
    by_turn, by_context = summary.failures.get("max_tokens", 0), summary.failures.get("context", 0)
    count = by_turn + by_context
    if not count:
        return None
    thought = summary.truncated_in_thought
    counts = [(by_turn, "max_tokens_per_turn"), (by_context, "max_context_tokens")]
    limits = ", ".join(f"{some} by {name}" for some, name in counts if some)
    in_thought = f", {thought} in mid-thought" if thought else ""
    return CutOff(count, count / summary.rollouts, f": {limits}{in_thought}", _remedy(by_turn, by_context, thought))


def _remedy(by_turn: int, by_context: int, in_thought: int) -> str:
    ways = [LONGER_TURNS] if by_turn >= HALF * by_context else []
    ways += [LONGER_CONTEXT] if by_context >= HALF * by_turn else []
    last = WITHOUT_THOUGHTS if in_thought >= HALF * (by_turn + by_context) else "ask for shorter answers"
    return f"{'. '.join(ways)}; or {last}."
