"""Graders: a finished rollout in, a grade out; one file per grader type.

A grader that cannot give an honest score raises `GraderFailure`; there are no default scores.
"""

from agentrft.graders.base import CallFact, Grade, Grader, GraderFailure, GraderSample, TraceFacts
from agentrft.graders.dry_run import dry_run
from agentrft.graders.given_answer import OutputToolsError, given_sample, read_output_tools
from agentrft.graders.multi import reward_weights
from agentrft.graders.ranges import score_range
from agentrft.graders.registry import check_templates, check_templates_of_all, create_grader
from agentrft.graders.trace import count_repeated
from agentrft.graders.uses import GraderUse, added_uses

__all__ = [
    "CallFact",
    "Grade",
    "Grader",
    "GraderFailure",
    "GraderSample",
    "GraderUse",
    "OutputToolsError",
    "TraceFacts",
    "added_uses",
    "check_templates",
    "check_templates_of_all",
    "count_repeated",
    "create_grader",
    "dry_run",
    "given_sample",
    "read_output_tools",
    "reward_weights",
    "score_range",
]
