"""`agentrft check`: what would fail a job or spoil its training, found in a minute and before any of it is paid for.

Each part of a job has a file here that looks at it; `run.py` goes through them in the order of a job.
"""

from agentrft.job.check.attacks import AttackReport
from agentrft.job.check.endpoints import BurstReport, ToolReport
from agentrft.job.check.estimate import Estimate
from agentrft.job.check.findings import CheckReport, Finding
from agentrft.job.check.grading import GraderReport
from agentrft.job.check.rows import RowsReport
from agentrft.job.check.run import check_job

__all__ = [
    "AttackReport",
    "BurstReport",
    "CheckReport",
    "Estimate",
    "Finding",
    "GraderReport",
    "RowsReport",
    "ToolReport",
    "check_job",
]
