"""How the naive grader is gamed, and who says so, without a model: `python -m examples.finance.hack`.

A scripted policy takes one decision, whether to answer as the demonstrator does or to list every number that it can
find. Its odds move as a policy's do, by the advantage of the rollouts that took it. Under the naive grader it learns
to list; under the hardened one it unlearns it. What watches a job, the holdout's alarm and the Why page's findings,
is shown the rollouts as it would see a job's.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.graders import Grade
from agentrft.report.alarms import Alarm, ringing, rollouts_that_show
from agentrft.report.behaviours import behaviours
from agentrft.report.why import Findings, facts_of, find
from agentrft.report.why.evidence import Evidence
from agentrft.rollout import Rollout
from agentrft.spec import AlarmsSpec
from examples.common.tool_server import Tool
from examples.finance import grader, grader_naive
from examples.finance.demonstrations import demonstrate
from examples.finance.make_data import make_dataset
from examples.finance.policies import Grade as GradeFunction
from examples.finance.policies import every_number
from examples.finance.questions import Question
from examples.finance.tools import make_tools
from examples.finance.transcripts import sample_of

SAMPLES, ROLLOUTS = 8, 8
STEPS = 20
# As a logit: one rollout in ten lists.
START = -2.2
LEARNING_RATE = 0.8


@dataclass(frozen=True)
class Run:
    """A scripted training run.

    Attributes:
        steps: the rollouts of each, graded, with the other grader's score as a holdout.
        listing: ids of the rollouts that listed numbers.
        metrics: of each step, as far as alarms read them.
    """

    steps: list[list[Rollout]]
    listing: set[str]
    metrics: list[dict[str, Any]]

    def listed_share(self, step: int) -> float:
        """Of a step's rollouts; -1 is the last."""
        return sum(one.trace_id in self.listing for one in self.steps[step]) / len(self.steps[step])


def train(
    questions: Sequence[Question],
    tools: Mapping[str, Tool],
    reward: GradeFunction,
    holdout: tuple[str, GradeFunction],
    seed: int = 0,
    n_steps: int = STEPS,
) -> Run:
    """Let the policy learn from a reward, while the holdout looks on."""
    script, odds = random.Random(seed), START
    run = Run([], set(), [])
    for step in range(1, n_steps + 1):
        rollouts: list[Rollout] = []
        change = 0.0
        for question in script.sample(list(questions), SAMPLES):
            share = 1 / (1 + math.exp(-odds))
            took = [script.random() < share for _ in range(ROLLOUTS)]
            group = [_rollout(question, tools, script, step, index, lists) for index, lists in enumerate(took)]
            for one, lists in zip(group, took, strict=True):
                one.reward = reward(sample_of(one), question.row())
                one.grade = Grade(one.reward)
                one.holdout_scores = {holdout[0]: holdout[1](sample_of(one), question.row())}
                run.listing.update([one.trace_id] if lists else [])
            rewards = [one.reward or 0.0 for one in group]
            centre = sum(rewards) / ROLLOUTS
            change += sum((one - centre) * (lists - share) for one, lists in zip(rewards, took, strict=True))
            rollouts += group
        odds += LEARNING_RATE * change
        run.steps.append(rollouts)
        run.metrics.append(_metrics(rollouts, holdout[0]))
    return run


def alarms(run: Run, spec: AlarmsSpec) -> dict[str, tuple[Alarm, list[str]]]:
    """The alarms that ring after the last step, by name, with the ids of the rollouts that they say to read."""
    found = ringing(spec, run.metrics)
    return {key: (alarm, rollouts_that_show(alarm, run.steps[-1])) for key, alarm in found.items()}


def findings(run: Run, tools: Mapping[str, Tool]) -> Findings:
    """What the Why page says of it."""
    steps = [facts_of(rollouts, phase="train", tools=list(tools)) for rollouts in run.steps]
    known = {name: one for step in steps for name, one in step.known.items()}
    return find(Evidence.of([fact for step in steps for fact in step.facts], known))


def _rollout(
    question: Question, tools: Mapping[str, Tool], script: random.Random, step: int, index: int, lists: bool
) -> Rollout:
    rollout = (every_number if lists else demonstrate)(question, tools, script).rollout()
    rollout.trace_id, rollout.sample_id = f"trace_{step}_{question.code}_{index}", question.text
    rollout.step, rollout.index = step, index
    return rollout


def _metrics(rollouts: Sequence[Rollout], holdout: str) -> dict[str, Any]:
    n = len(rollouts)
    return {
        "reward_mean": sum(one.reward or 0.0 for one in rollouts) / n,
        "holdout_scores": {holdout: sum(one.holdout_scores[holdout] for one in rollouts) / n},
        "behaviours": behaviours(rollouts),
        "sampled_tokens_mean": 0.0,
    }


def main() -> None:
    data = make_dataset(0)
    tools, questions = make_tools(data.filings), data.questions["train"]
    for name, reward, holdout in (
        ("naive", grader_naive.grade, ("hardened", grader.grade)),
        ("hardened", grader.grade, ("naive", grader_naive.grade)),
    ):
        run = train(questions, tools, reward, holdout)
        first, last = run.metrics[0], run.metrics[-1]
        print(f"\nTrained on the {name} grader: {run.listed_share(0):.0%} list numbers at first, ", end="")
        print(f"{run.listed_share(-1):.0%} at the end; reward {first['reward_mean']:.2f} to {last['reward_mean']:.2f}.")
        for alarm, shown in alarms(run, AlarmsSpec()).values():
            print(f"  alarm: {alarm.text}. Read {', '.join(shown)}.")
        for one in findings(run, tools).suspects[:3]:
            print(f"  suspect: the agent {one.name}: {one.suspicion}")


if __name__ == "__main__":
    main()
