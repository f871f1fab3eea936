"""The life of a job: check, warm start, baseline, train, validate, checkpoint, resume.

It joins rollouts and the learner, and keeps everything that was finished in the store.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrft.job.evaluation import Evaluation, evaluate
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

_MODULES = {
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "NoProgress": "progress",
    "Progress": "progress",
    "ModelReference": "references",
    "resolve_reference": "references",
    "create_job": "run",
    "resume_job": "run",
    "run_job": "run",
    "Runtime": "runtime",
    "Stop": "stop",
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: torch comes with most of it, and who only stores or reads jobs needs none."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
