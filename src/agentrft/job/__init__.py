"""The life of a job: check, warm start, baseline, train, validate, checkpoint, resume.

It joins rollouts and the learner, and keeps everything that was finished in the store.
"""

from agentrft.job.evaluate import Evaluation, evaluate
from agentrft.job.progress import NoProgress, Progress
from agentrft.job.references import ModelReference, resolve_reference
from agentrft.job.run import create_job, resume_job, run_job
from agentrft.job.runtime import Runtime
from agentrft.job.stop import Stop

__all__ = [
    "Evaluation",
    "ModelReference",
    "NoProgress",
    "Progress",
    "Runtime",
    "Stop",
    "create_job",
    "evaluate",
    "resolve_reference",
    "resume_job",
    "run_job",
]
