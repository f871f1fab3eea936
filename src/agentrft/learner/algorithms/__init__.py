"""One file per algorithm: how rewards become advantages and advantages a loss, as pure functions.

`ALGORITHMS` maps the name in a job to both; the learner does not know which one runs.
"""

from agentrft.learner.algorithms import cispo, dr_grpo, grpo, gspo, maxrl, rloo
from agentrft.learner.algorithms.base import Algorithm, Clip, LossInputs, LossOutput, divergences

ALGORITHMS: dict[str, Algorithm] = {
    "grpo": Algorithm(grpo.advantages, grpo.loss),
    "dr_grpo": Algorithm(dr_grpo.advantages, dr_grpo.loss),
    # What else DAPO is (its clip, its dynamic sampling) a job's hyperparameters are chosen for.
    "dapo": Algorithm(grpo.advantages, grpo.loss),
    "rloo": Algorithm(rloo.advantages, rloo.loss),
    "gspo": Algorithm(gspo.advantages, gspo.loss),
    "cispo": Algorithm(cispo.advantages, cispo.loss),
    "maxrl": Algorithm(maxrl.advantages, maxrl.loss),
}

__all__ = ["ALGORITHMS", "Algorithm", "Clip", "LossInputs", "LossOutput", "divergences"]
