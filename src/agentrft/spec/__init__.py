"""What a user writes: the job, its tools, its grader and its hyperparameters, as validated models.

Nothing here runs anything; every other part of the package takes these objects as its input.
"""

from agentrft.spec.alarms import AlarmSpec, AlarmsSpec
from agentrft.spec.any_job import AnyJobSpec, stored_job, with_rollouts
from agentrft.spec.base_job import BaseJobSpec
from agentrft.spec.cluster import ClusterSpec
from agentrft.spec.graders import (
    EndpointGraderSpec,
    GraderSpec,
    MultiGraderSpec,
    PythonGraderSpec,
    StringCheckGraderSpec,
    TextSimilarityGraderSpec,
)
from agentrft.spec.hyperparameters import Hyperparameters, ResolvedHyperparameters
from agentrft.spec.integrations import IntegrationSpec
from agentrft.spec.job import JobSpec, WarmStartSpec
from agentrft.spec.loading import expand_variables, load_any_job, load_job, parse_any_job, parse_job
from agentrft.spec.response_format import ResponseFormat
from agentrft.spec.tools import HookSpec, HttpToolSpec, McpToolSpec, NamedToolChoice, PythonToolSpec, ToolSpec
from agentrft.spec.tuning import ResolvedTuning, TuningHyperparameters, TuningSpec

__all__ = [
    "AlarmSpec",
    "AlarmsSpec",
    "AnyJobSpec",
    "BaseJobSpec",
    "ClusterSpec",
    "EndpointGraderSpec",
    "GraderSpec",
    "Hyperparameters",
    "IntegrationSpec",
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
    "ResolvedTuning",
    "TuningHyperparameters",
    "TuningSpec",
    "ResponseFormat",
    "expand_variables",
    "load_any_job",
    "load_job",
    "parse_any_job",
    "parse_job",
    "stored_job",
    "with_rollouts",
]
