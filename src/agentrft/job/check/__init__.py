"""`agentrft check`: what would fail a job or spoil its training, found in a minute and before any of it is paid for.

Each part of a job has a file here that looks at it; `run.py` goes through them in the order of a job.
"""

from agentrft.job.check.findings import (
    AttackReport,
    BurstReport,
    CheckReport,
    Estimate,
    Finding,
    GraderReport,
    RowsReport,
    ToolReport,
)
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
