"""Summaries and comparisons as tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from agentrft.report import Summary
    from agentrft.report.compare import Comparison, Measure


def summary_table(summaries: Mapping[str, "Summary"]) -> Table:
    """One column per set of weights."""
    table = Table("", *summaries, title_justify="left")
    columns = [_summary_rows(summary) for summary in summaries.values()]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def comparison_tables(comparison: "Comparison", label_a: str, label_b: str) -> list[Table]:
    """The measures with their intervals, and the samples that changed most."""
    measures = Table("", label_a, label_b, "difference", "95 % interval", "")
    for measure in comparison.measures:
        measures.add_row(
            measure.name,
            _number(measure, measure.a),
            _number(measure, measure.b),
            _number(measure, measure.difference, signed=True),
            f"{_number(measure, measure.low, signed=True)} to {_number(measure, measure.high, signed=True)}",
            "" if measure.is_certain else "no clear change",
        )
    measures.caption = f"{comparison.samples} samples, paired; {comparison.left_out} left out without a reward"
    tables = [measures]
    for title, changes in (("Rose most", comparison.rose), ("Fell most", comparison.fell)):
        if changes:
            table = Table("sample", label_a, label_b, title=title, title_justify="left")
            for change in changes:
                table.add_row(change.sample_id, f"{change.a:.3f}", f"{change.b:.3f}")
            tables.append(table)
    return tables


def _summary_rows(summary: "Summary") -> dict[str, str]:
    rows = {
        "rollouts": f"{summary.rollouts} on {summary.samples} samples",
        "mean reward": f"{summary.reward_mean:.3f}",
        "spread": f"{summary.reward_std:.3f}",
        "pass@1": f"{summary.pass_at_1:.1%}",
        f"pass@{summary.k}": f"{summary.pass_at_k:.1%}",
        "tool calls": f"{summary.tool_calls_mean:.2f}",
        "sampled tokens": f"{summary.sampled_tokens_mean:.1f}",
        "latency p50, p95": f"{summary.latency_p50_s:.2f} s, {summary.latency_p95_s:.2f} s",
        "outcomes": _counts(summary.outcomes),
    }
    if summary.k > 1:
        rows["all rewards alike"] = (
            f"{summary.zero_variance_share:.1%} of samples "
            f"({summary.all_right_share:.1%} all right, {summary.all_wrong_share:.1%} all wrong)"
        )
    if summary.failures:
        rows["failures"] = _counts(summary.failures)
    if summary.first_attempt_failures:
        rows["first attempts that broke"] = (
            f"{summary.first_attempt_failure_share:.1%} ({_counts(summary.first_attempt_failures)})"
        )
    if summary.missing_sample_key_share:
        rows["without what the grader reads"] = f"{summary.missing_sample_key_share:.1%} of the graded"
    if summary.tool_statuses:
        rows["tool answers"] = _counts(summary.tool_statuses)
    rows |= {f"holdout {name}": f"{score:.3f}" for name, score in summary.holdout_scores.items()}
    if summary.judge_tokens:
        rows["judge tokens"] = _counts(summary.judge_tokens)
    rows |= {f"sub-score {name}": f"{score:.3f}" for name, score in summary.sub_scores.items()}
    return rows


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _number(measure: "Measure", value: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value:{sign}.1%}" if measure.is_share else f"{value:{sign}.3f}"
