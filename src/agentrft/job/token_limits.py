"""What `max_tokens_per_turn` and `max_context_tokens` are where a job leaves them at "auto", and why."""

from dataclasses import dataclass
from typing import Any

from agentrft.errors import UserError
from agentrft.spec import Hyperparameters, TuningHyperparameters

# A thought is a few thousand tokens at its usual longest; a call or an answer alone is far less.
THINKING_TURN, PLAIN_TURN = 4096, 512
# Most turns are far shorter than the longest: so many times, on average.
USUAL_SHARE = 4
# Of what a tool answers, where nothing bounds it, and at most, whatever does.
TOOL_TOKENS, MOST_TOOL_TOKENS = 256, 1024
CHARACTERS_PER_TOKEN = 3
ROUNDED_TO = 256
# Demonstrations show how long turns are; sampled ones vary.
LONGER_THAN_SHOWN = 2


@dataclass(frozen=True)
class LimitFacts:
    """What is known of a job before it runs.

    Attributes:
        model_tokens: the model's own longest sequence; None where it is not known.
        memory_tokens: the longest sequence of which the memory holds `at_once`, with their update.
        at_once: rollouts of a group, or of a unit of a deterministic job.
        thinks: whether the chat template, as the job uses it, lets the model think.
        longest_prompt: in tokens, with its tools.
        longest_shown_turn: in tokens, of the demonstrations' turns; 0 without any.
        tool_tokens: what a tool's answer may take; 0 where a rollout is a single turn.
        turns: of a rollout, at most.
    """

    model_tokens: int | None
    memory_tokens: int
    at_once: int
    thinks: bool
    longest_prompt: int
    longest_shown_turn: int
    tool_tokens: int
    turns: int


@dataclass(frozen=True)
class TokenLimits:
    """The limits of a job's rollouts; `why` explains in words each that was not given."""

    max_tokens_per_turn: int
    max_context_tokens: int
    why: tuple[str, ...] = ()


def token_limits(given: Hyperparameters, facts: LimitFacts) -> TokenLimits:
    """The limits: those that are given, and for the others what the job needs, as far as model and memory have it.

    Raises:
        UserError: a given limit is more than the model takes, or the memory has no room for the longest prompt.
    """
    check_given(given, facts.model_tokens)
    turn, turn_why = _wanted_turn(given, facts)
    wanted = facts.longest_prompt + turn + (facts.turns - 1) * (-(-turn // USUAL_SHARE) + facts.tool_tokens)
    context, context_why = _context(given, facts, _rounded(wanted))
    room = context - facts.longest_prompt
    fitting = max(1, room if facts.turns == 1 else room // 2)
    if given.max_tokens_per_turn == "auto" and turn > fitting:
        turn, turn_why = fitting, "what the context leaves beside the longest prompt"
        turn_why += ", halved for a second turn" if facts.turns > 1 else ""
    why: list[str] = []
    if given.max_tokens_per_turn == "auto":
        why.append(f"max_tokens_per_turn={turn}: {turn_why}")
    if given.max_context_tokens == "auto":
        why.append(f"max_context_tokens={context}: {context_why}")
    return TokenLimits(turn, context, tuple(why))


def check_given(given: Hyperparameters | TuningHyperparameters, model_tokens: int | None) -> None:
    """Refuse a limit that is more than the model takes; nothing where that is not known.

    Raises:
        UserError: naming what it takes.
    """
    for name in ("max_context_tokens", "max_tokens_per_turn"):
        value: Any = getattr(given, name, "auto")
        if value != "auto" and model_tokens is not None and value > model_tokens:
            raise UserError(
                f"{name}={value} is more than the {model_tokens} tokens of the model.",
                f"Set hyperparameters.{name} to at most {model_tokens}, or leave it at auto.",
            )


def _wanted_turn(given: Hyperparameters, facts: LimitFacts) -> tuple[int, str]:
    if given.max_tokens_per_turn != "auto":
        return given.max_tokens_per_turn, ""
    usual, why = PLAIN_TURN, "for calls and answers"
    if facts.thinks:
        usual, why = THINKING_TURN, "the model thinks before it answers (chat_template_kwargs may switch that off)"
    shown = _rounded(LONGER_THAN_SHOWN * facts.longest_shown_turn)
    if shown <= usual:
        return usual, why
    return shown, f"the demonstrations' longest turn has {facts.longest_shown_turn} tokens"


def _context(given: Hyperparameters, facts: LimitFacts, wanted: int) -> tuple[int, str]:
    if given.max_context_tokens != "auto":
        return given.max_context_tokens, ""
    turns = "an answer" if facts.turns == 1 else f"{facts.turns} turns with what tools answer"
    model = "" if facts.model_tokens is None else f"; the model takes {facts.model_tokens}"
    bounds = [
        (wanted, f"the longest prompt of {facts.longest_prompt} tokens and {turns}{model}"),
        (facts.memory_tokens, f"the memory has room for {facts.at_once} rollouts at once of no more{model}"),
    ]
    if facts.model_tokens is not None:
        bounds.append((facts.model_tokens, "all that the model takes"))
    context, why = min(bounds)
    if context == facts.memory_tokens and context <= facts.longest_prompt:
        raise UserError(
            f"the memory has room for {facts.at_once} rollouts at once of {context} tokens each, and the longest "
            f"prompt has {facts.longest_prompt}.",
            "Shorten it, lower hyperparameters.compute_multiplier, take a smaller model, or raise engine.kv_cache_mb "
            "if there is more memory.",
        )
    return context, why


def _rounded(tokens: int) -> int:
    return -(-tokens // ROUNDED_TO) * ROUNDED_TO
