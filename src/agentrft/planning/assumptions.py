"""What a plan takes for granted where neither the job nor its user says it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from agentrft.errors import UserError

# English and JSON, by the tokenizers of current models.
CHARACTERS_PER_TOKEN = 4
# Seconds of a call and of a grade, by kind.
TOOL_S = {"python": 0.01, "http": 0.5, "mcp": 0.5}
GRADE_S = {"string_check": 0.0, "text_similarity": 0.0, "trace": 0.0, "python": 0.01, "endpoint": 0.5}
JUDGE_S = 2.0
JUDGE_ANSWER_TOKENS = 200
# Of the most that a job allows, how many turns and how much of a turn a rollout takes on average.
TURNS_SHARE = 1 / 2
TURN_SHARE = 1 / 4


@dataclass(frozen=True)
class Given:
    """What the user says of rollouts, in the place of what would be assumed. None is not said.

    Attributes:
        prompt_tokens, turns, turn_tokens, result_tokens: as in `Workload`.
        tool_s, grade_s: seconds of a turn's calls, and of a grade.
    """

    prompt_tokens: float | None = None
    turns: float | None = None
    turn_tokens: float | None = None
    result_tokens: float | None = None
    tool_s: float | None = None
    grade_s: float | None = None

    def __post_init__(self) -> None:
        least = {"prompt_tokens": 1, "turns": 1, "turn_tokens": 1}
        for name, value in asdict(self).items():
            if value is not None and not least.get(name, 0) <= value <= 1e9:
                raise UserError(
                    f"--{name.replace('_', '-')}: {value:g} is out of range.",
                    f"Give a number from {least.get(name, 0)} on.",
                )


@dataclass
class Notes:
    """Says of each number where it is from.

    Attributes:
        assumed: in words, what nobody said.
        known: likewise, what follows from the job's own files, or was given.
    """

    assumed: list[str] = field(default_factory=list[str])
    known: list[str] = field(default_factory=list[str])

    def chosen(self, given: float | None, found: float | None, assumed: float, what: str, why: str) -> float:
        """What is given, or was found, or else is assumed; with a note.

        Args:
            what: the number in words, with `{}` for it.
            why: of the assumption.
        """
        if given is not None:
            self.known.append(f"{what.format(_shown(given))}, as given")
            return given
        if found is not None:
            self.known.append(f"{what.format(_shown(found))}, by the job's files")
            return found
        self.assumed.append(f"{what.format(_shown(assumed))}: {why}")
        return assumed

    def as_dict(self) -> dict[str, Any]:
        return {"assumed": self.assumed, "known": self.known}


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
