"""A dashboard of the result file: base64 or text, a number in each cell, curves by hosted column names."""

import base64
import binascii
import csv
import io

from openai import OpenAI

from tests.clients.checks import World, check, differs, same
from tests.clients.programs.events import metrics

CURVES = (
    "train_mean_reward",
    "full_valid_mean_reward",
    "completion_tokens_mean",
    "reasoning_tokens_mean",
    "mean_unresponsive_rewards",
    "train_error_count_lookup",
)


def table(world: World) -> list[dict[str, str]]:
    """What dashboards do with hosted's file, which is base64 for some and text for others."""
    content = OpenAI().files.content(world.job.result_files[0]).read()
    try:
        content = base64.b64decode(content, validate=True)
    except binascii.Error:
        pass
    return list(csv.DictReader(io.StringIO(content.decode())))


@check(
    same(
        "results",
        "columns",
        "`step`, `train_mean_reward`, `full_valid_mean_reward`, `completion_tokens_mean`, …; ours stand beside them",
    ),
    same("results", "`train_error_count_TOOL`", "for each tool"),
    differs("results", "encoding", "base64", "plain text; leave the decoding out, or accept both, as below"),
)
def draws_a_curve_of_each_column(world: World) -> None:
    rows = table(world)
    assert rows and set(CURVES) <= set(rows[0]), list(rows[0])
    curves = {name: [(int(row["step"]), float(row[name])) for row in rows if row[name] != ""] for name in CURVES}
    for name, points in curves.items():
        assert [step for step, _ in points][-3:] == [1, 2, 3], (name, points)
    assert "valid_tools//errors" not in rows[0], "a tool without a name"
    assert not [name for name in rows[0] if name is None or "//" in name]


@check(
    differs(
        "results",
        "rows and cells",
        "a number in each cell of a step",
        "the same; no row for the baseline, and a validation's cells are empty in steps that had none",
    )
)
def takes_every_cell_for_a_number(world: World) -> None:
    for row in table(world):
        for name in CURVES:
            assert float(row[name]) == float(row[name]), (row["step"], name)


@check()
def finds_in_it_what_the_events_said(world: World) -> None:
    told = {data["step"]: data for data in metrics(world)}
    for row in table(world):
        data = told[int(row["step"])]
        if int(row["step"]) > 0:
            assert abs(float(row["full_valid_mean_reward"]) - data["full_valid_mean_reward"]) < 1e-6
            assert abs(float(row["train_mean_reward"]) - data["train_mean_reward"]) < 1e-6
    best = max(table(world), key=lambda row: float(row["full_valid_mean_reward"] or "-inf"))
    assert 0 <= int(best["step"]) <= 3
