"""Graders: a finished rollout in, a grade out; one file per grader type.

A grader that cannot give an honest score raises `GraderFailure`; there are no default scores.
"""

from agentrft.graders.base import Grade, Grader, GraderFailure, GraderSample
from agentrft.graders.registry import check_templates, create_grader

__all__ = ["Grade", "Grader", "GraderFailure", "GraderSample", "check_templates", "create_grader"]
