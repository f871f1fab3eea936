"""The naive grader's hole is named by `agentrft check` before training, and by the alarm and the Why page in training."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentrft.data.samples import load_samples
from agentrft.graders import make_grader
from agentrft.job.check.attacks import check_attacks
from agentrft.job.check.findings import CheckReport, GraderReport
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.spec import AlarmsSpec, JobSpec, load_job
from examples.common.tool_server import Tool
from examples.finance import grader, grader_naive
from examples.finance.demonstrations import demonstrate
from examples.finance.hack import Run, alarms, findings, train
from examples.finance.make_data import Dataset
from examples.finance.policies import roll_out
from examples.finance.transcripts import sample_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "finance"
