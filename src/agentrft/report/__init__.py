"""Reading rollouts: summaries, the verdict on a baseline, and the comparison of two models.

Everything here is a pure function of rollout records.
"""

from agentrft.report.averages import mean, quantile
from agentrft.report.summary import Summary, summarise
from agentrft.report.verdict import Verdict, verdict
from agentrft.report.ways import Ways, api_ways, cli_ways

__all__ = ["Summary", "Verdict", "Ways", "api_ways", "cli_ways", "mean", "quantile", "summarise", "verdict"]
