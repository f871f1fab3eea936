"""One file per algorithm: how rewards become advantages and advantages a loss, as pure functions.

`ALGORITHMS` maps the name in a job to both; the learner does not know which one runs.
"""

from agentrft.learner.algorithms import grpo, rloo
from agentrft.learner.algorithms.base import Algorithm, LossInputs, LossOutput

ALGORITHMS: dict[str, Algorithm] = {
    "grpo": Algorithm(grpo.advantages, grpo.loss),
    "rloo": Algorithm(rloo.advantages, rloo.loss),
}

__all__ = ["ALGORITHMS", "Algorithm", "LossInputs", "LossOutput"]
