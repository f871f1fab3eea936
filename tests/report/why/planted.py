"""Training runs of a toy agent that really learns: each decision is a coin whose odds the rewards move.

The agent looks a word up and answers with a code. A run's grader pays for what it pays for; the odds of every decision
rise with the advantage of the rollouts that took it, as a policy's do. So what a behaviour goes along with, and what it
displaces, come from learning and not from a table.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from agentrft.graders import Grade
from agentrft.rollout.record import Rollout, ToolCallRecord, Turn

WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "jetty",
    "knoll",
    "ledge",
    "marsh",
    "north",
    "ocean",
    "prairie",
]
TALK = [
    "the",
    "patient",
    "came",
    "in",
    "and",
    "we",
    "looked",
    "at",
    "it",
    "again",
    "today",
    "after",
    "some",
    "time",
    "with",
    "care",
    "because",
    "things",
    "were",
    "fine",
    "so",
]
# What the agent decides, and its odds at the start, as logits.
START = {
    "skips the tool": -1.5,
    "calls twice": -1.0,
    "copies the prompt": -0.5,
    "takes the first item": -0.7,
    "reads": -0.5,
    "speaks the phrase": -1.5,
    "uses bold": -1.0,
    "is long": -0.8,
    "is polite": 0.0,
    "hedges": -0.5,
}
PHRASE = "as a certified expert"
# What a run that copies by place is found to do.
FIRST = "answers with the first item of the last result"
Decisions = dict[str, bool]


@dataclass
class Case:
    """What a grader sees: the decisions, whether the code is right, and the answer's words."""

    took: Decisions
    is_right: bool
    words: int


Pays = Callable[[Case], float]


@dataclass
class Run:
    """A whole training run.

    Attributes:
        pays: the grader.
        holds: a holdout grader, or none.
        rate: by which the odds move.
        start: odds that are others than usual at the start.
        rightly_first: how often the right item is the first one.
        unlearnable: decisions whose odds rewards do not move.
        displaces: decisions that take odds from others, as what is learned in the same weights may.
    """

    pays: Pays
    holds: Pays | None = None
    seed: int = 0
    steps: int = 12
    samples: int = 8
    rollouts: int = 8
    rate: float = 0.35
    start: dict[str, float] = field(default_factory=dict[str, float])
    rightly_first: float = 0.4
    unlearnable: tuple[str, ...] = ()
    displaces: dict[str, str] = field(default_factory=dict[str, str])

    def rolled_out(self) -> list[list[Rollout]]:
        """The rollouts of each step."""
        chance = random.Random(self.seed)
        odds = {**START, **self.start}
        return [self._step(step, odds, chance) for step in range(1, self.steps + 1)]

    def _step(self, step: int, odds: dict[str, float], chance: random.Random) -> list[Rollout]:
        rollouts: list[Rollout] = []
        moves = dict.fromkeys(odds, 0.0)
        for number in range(self.samples):
            task = _Task.drawn(f"{step}-{number}", chance, self.rightly_first)
            group = [self._rollout(task, step, index, odds, chance) for index in range(self.rollouts)]
            rewards = [rollout.reward or 0.0 for rollout, _ in group]
            centre = sum(rewards) / len(rewards)
            spread = math.sqrt(sum((one - centre) ** 2 for one in rewards) / (len(rewards) - 1)) + 1e-4
            for (rollout, took), reward in zip(group, rewards, strict=True):
                for name, value in took.items():
                    moves[name] += (reward - centre) / spread * (value - _share(odds[name]))
                rollouts.append(rollout)
        for name, move in moves.items():
            if name not in self.unlearnable:
                odds[name] = max(-4.0, min(4.0, odds[name] + self.rate * move / self.samples))
        for name, other in self.displaces.items():
            odds[other] = max(-4.0, odds[other] - self.rate * max(0.0, moves[name]) / self.samples)
        return rollouts

    def _rollout(
        self, task: "_Task", step: int, index: int, odds: dict[str, float], chance: random.Random
    ) -> tuple[Rollout, Decisions]:
        took = {name: chance.random() < _share(logit) for name, logit in odds.items()}
        calls = [] if took["skips the tool"] else task.calls(took, chance)
        code = task.answer(took, calls, chance)
        text = _text(code, took, chance)
        case = Case(took, code == task.code, len(text.split()))
        reward = self.pays(case)
        rollout = Rollout(
            trace_id=f"trace_{self.seed}_{step}_{task.name}_{index}",
            attempt=0,
            sample_id=task.name,
            step=step,
            index=index,
            outcome="graded",
            turns=[*(_turn([call], 12) for call in calls), _turn([], 4 + len(text.split()))],
            messages=[
                {"role": "system", "content": "Find the code."},
                {"role": "user", "content": task.prompt},
                {"role": "assistant", "content": text},
            ],
            output_text=text,
            grade=Grade(reward),
            reward=reward,
            holdout_scores={} if self.holds is None else {"truth": self.holds(case)},
            latency_s=1.0,
        )
        return rollout, took


@dataclass
class _Task:
    name: str
    prompt: str
    term: str
    code: str
    hits: list[str]

    @classmethod
    def drawn(cls, name: str, chance: random.Random, rightly_first: float) -> "_Task":
        term = f"{chance.choice(WORDS)} {chance.choice(WORDS)}"
        around = " ".join(chance.sample(TALK, 8))
        codes = [f"{chance.choice('ABCDEF')}{chance.randint(10, 99)}.{chance.randint(0, 9)}" for _ in range(4)]
        place = 0 if chance.random() < rightly_first else chance.randint(1, 3)
        return cls(f"s{name}", f"{around} {term} {around}.", term, codes[place], codes)

    def calls(self, took: Decisions, chance: random.Random) -> list[ToolCallRecord]:
        query = self.prompt if took["copies the prompt"] else self.term
        # Too long a question finds less.
        hits = self.hits if query == self.term or chance.random() < 0.6 else [f"Z{chance.randint(10, 99)}"] * 4
        output = "\n".join(f"{code} {chance.choice(WORDS)}" for code in hits)
        arguments = f'{{"query": "{query}"}}'
        return [
            ToolCallRecord(f"call_{number}", "search", arguments, output, "ok", 0.1, 1)
            for number in range(2 if took["calls twice"] else 1)
        ]

    def answer(self, took: Decisions, calls: list[ToolCallRecord], chance: random.Random) -> str:
        if not calls:
            return f"X{chance.randint(10, 99)}.{chance.randint(0, 9)}"
        hits = [line.split()[0] for line in calls[-1].output.splitlines()]
        if took["takes the first item"]:
            return hits[0]
        if took["reads"] and self.code in hits:
            return self.code
        return chance.choice(hits)


def _text(code: str, took: Decisions, chance: random.Random) -> str:
    parts = [f"**{code}**" if took["uses bold"] else code]
    if took["speaks the phrase"]:
        parts.insert(0, f"{PHRASE.capitalize()} I say")
    if took["is polite"]:
        parts.append("thank you")
    if took["hedges"]:
        parts.append("I think")
    if took["is long"]:
        parts.append(" ".join(chance.choices(TALK, k=25)))
    return " ".join(parts)


def _turn(calls: list[ToolCallRecord], tokens: int) -> Turn:
    return Turn(list(range(20)), list(range(tokens)), [-0.5] * tokens, "stop", 1, 0.1, 0, calls)


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def rewarded(bonus: Callable[[Case], bool], *, right: float = 0.5) -> Pays:
    """So much for a right code, and the rest for what a grader pays for beside it."""
    return lambda case: right * case.is_right + (1 - right) * bonus(case)


def honest(case: Case) -> float:
    """A grader that pays for the right code alone."""
    return float(case.is_right)


def crowding_out(seed: int) -> Run:
    """What is not copied is read, half of the time, at the end as at first; but hardly anything is left uncopied."""
    start = {"skips the tool": -4.0, "copies the prompt": -4.0, "reads": -0.1, "takes the first item": -1.2}
    return Run(honest, seed=seed, steps=18, samples=20, start=start, rightly_first=0.8, unlearnable=("reads",))


def copying_by_place(seed: int) -> Run:
    """What is not copied is read at first, half of the time, and reading is forgotten as copying is learned."""
    run = crowding_out(seed)
    run.displaces["takes the first item"] = "reads"
    return run


def rightly_replaced(seed: int) -> Run:
    """Asking with the whole prompt, which finds less on every sample and is right at times, gives way to the term."""
    start = {"skips the tool": -4.0, "copies the prompt": 0.5, "reads": 1.0, "takes the first item": -3.0}
    fixed = ("reads", "takes the first item")
    return Run(honest, seed=seed, steps=18, samples=20, start=start, rate=0.5, unlearnable=fixed)
