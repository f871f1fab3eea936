"""Whether the job's learning rate suits its model: how far a single update takes the policy.

An update whose rollouts are half as likely afterwards, or twice, has forgotten what it was made of; one that changes
nothing wastes them. How far it goes depends on the model, on what of it is trained, and on how many optimizer steps it
makes, so it is measured: one update at full learning rate on what was rolled out, with made-up rewards where all got
the same.
"""

import math
from collections.abc import Sequence

from agentrft.job.check.findings import CheckReport
from agentrft.job.check.trial import Trial
from agentrft.job.runtime import Runtime
from agentrft.learner import Learner, TrainingGroup
from agentrft.learner.algorithms import divergences

# Divergence of the policy before an update from the one after it, in nats a token. In the runs of docs/learning.md
# those that learned had 0.0005 to 0.01 at first; one with 0.03 and more lost its answers' form within fifteen steps.
MOST, WANTED, LEAST = 0.03, 0.004, 0.0001
# A change of the learning rate by less is within what the measurement varies.
WORTH_SAYING = 1.5


async def check_learning_rate(runtime: Runtime, trial: Trial, report: CheckReport) -> None:
    """Measure one update, and suggest another `learning_rate_multiplier` where it goes much too far, or nowhere. The
    policy is another one afterwards."""
    groups = trial.groups
    if not groups:
        return
    hyperparameters = runtime.hyperparameters
    learner = runtime.new_learner(
        learning_rate=hyperparameters.learning_rate, warm_up_steps=0, decay_steps=hyperparameters.max_steps
    )
    change = await runtime.learn(learner, _change, learner, groups)
    # Fewer groups than the job's steps have are fewer optimizer steps; the divergence grows with their square, too.
    wanted = min(hyperparameters.minibatches, hyperparameters.batch_size)
    change *= (wanted / min(wanted, len(groups))) ** 2
    report.policy_change = change
    rate = hyperparameters.learning_rate
    told = f"an update at the full learning rate ({rate:.2g}) moves the policy by {change:.2g} nats a token"
    factor = suggested_factor(change)
    if factor is None:
        report.ok("learning rate", f"{told}.")
        return
    multiplier = hyperparameters.learning_rate_multiplier * factor
    what = "so far that what it does right may be lost" if factor < 1 else "so little that it will hardly learn"
    report.warn(
        "learning rate",
        f"{told}: {what}.",
        f"Set hyperparameters.learning_rate_multiplier to about {multiplier:.2g}"
        + (", or lower `minibatches` or `update_epochs`." if factor < 1 else "."),
    )


def suggested_factor(change: float) -> float | None:
    """By what to multiply the learning rate; None where it is well as it is. The divergence grows with its square.

    Args:
        change: nats a token.
    """
    if LEAST <= change <= MOST:
        return None
    if not math.isfinite(change):
        return 0.1
    factor = min(10.0, max(0.1, math.sqrt(WANTED / max(change, 1e-9))))
    return factor if max(factor, 1 / factor) >= WORTH_SAYING else None


def _change(learner: Learner, groups: Sequence[TrainingGroup]) -> float:
    """The divergence of the policy after an update from the one before it, which sampled; nats a token."""
    rows = [row for group in groups for row in group.rows]
    before = learner.logprobs(rows)
    learner.update(learner.plan(groups))
    return float(divergences(learner.logprobs(rows), before).mean())
