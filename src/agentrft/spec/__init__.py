"""What a user writes: the job, its tools, its grader and its hyperparameters, as validated models.

Nothing here runs anything; every other part of the package takes these objects as its input.
"""

from agentrft.spec.alarms import AlarmSpec, AlarmsSpec
from agentrft.spec.graders import (
    EndpointGraderSpec,
    GraderSpec,
    MultiGraderSpec,
    PythonGraderSpec,
    StringCheckGraderSpec,
    TextSimilarityGraderSpec,
)
from agentrft.spec.hyperparameters import Hyperparameters, ResolvedHyperparameters
from agentrft.spec.job import JobSpec, WarmStartSpec
from agentrft.spec.loading import expand_variables, load_job, parse_job
from agentrft.spec.response_format import ResponseFormat
from agentrft.spec.tools import HookSpec, HttpToolSpec, McpToolSpec, NamedToolChoice, PythonToolSpec, ToolSpec

__all__ = [
    "AlarmSpec",
    "AlarmsSpec",
    "EndpointGraderSpec",
    "GraderSpec",
    "Hyperparameters",
    "JobSpec",
    "McpToolSpec",
    "MultiGraderSpec",
    "NamedToolChoice",
    "PythonGraderSpec",
    "PythonToolSpec",
    "ResolvedHyperparameters",
    "StringCheckGraderSpec",
    "TextSimilarityGraderSpec",
    "HookSpec",
    "HttpToolSpec",
    "ToolSpec",
    "WarmStartSpec",
    "ResponseFormat",
    "expand_variables",
    "load_job",
    "parse_job",
]
