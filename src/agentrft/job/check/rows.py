"""The data of a job: rows that are in both files, and prompts against the context."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from agentrft.data import Sample, load_demonstrations, load_samples
from agentrft.graders import check_templates
from agentrft.job.check.findings import CheckReport, RowsReport
from agentrft.job.runtime import Runtime
from agentrft.spec import JobSpec
from agentrft.tools import call_judge, declared_tools, oversized_rows

SHOWN = 5


@dataclass(frozen=True)
class Rows:
    """The job's samples."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]
    demonstrations: list[Sample]


def check_rows(spec: JobSpec, report: CheckReport) -> Rows | None:
    """Load all files, resolve the graders' templates on every row, look for rows in both files.

    Returns None where a file cannot be used.
    """
    warm = spec.warm_start.files if spec.warm_start else {}
    files = [spec.training_file, spec.validation_file, spec.test_file, warm.get("training_file")]
    loads = [load_samples, load_samples, load_samples, load_demonstrations]
    judge = call_judge(declared_tools(spec.tools))
    loaded: list[list[Sample]] = []
    for path, load in zip(files, loads, strict=True):
        with report.part("data"):
            loaded.append(load(path, judge) if path else [])
    if len(loaded) < len(files):
        return None
    rows = Rows(*loaded)
    names = {"grader": spec.grader} | {f"holdout {name}": one for name, one in spec.holdout_graders.items()}
    for name, grader in names.items():
        with report.part(name):
            check_templates(grader, [*rows.train, *rows.validation, *rows.test])
    repeated = _repeated(rows.train)
    report.data = RowsReport(
        len(rows.train), len(rows.validation), len(rows.demonstrations), _in_both(rows.train, rows.validation), repeated
    )
    report.ok("data", _counted(rows))
    if report.data.in_both:
        shown = ", ".join(f"{train} = {validation}" for train, validation in report.data.in_both[:SHOWN])
        report.warn(
            "data",
            f"{len(report.data.in_both)} validation row(s) are in the training file, too: {shown}.",
            "Take them out of one: the validation reward would show what was learned by heart.",
        )
    learned = [f"{other} = {test}" for other, test in _in_both([*rows.train, *rows.validation], rows.test)]
    if learned:
        shown = ", ".join(learned[:SHOWN])
        report.warn(
            "data",
            f"{len(learned)} test row(s) are in the training or the validation file, too: {shown}.",
            "Take them out of the test file: what it shows is to be of rows that nothing was learned or chosen by.",
        )
    if repeated:
        report.warn(
            "data",
            f"{len(repeated)} training row(s) repeat an earlier one's messages: {', '.join(repeated[:SHOWN])}.",
            "Take them out, unless they should count twice.",
        )
    too_large = oversized_rows(spec.tools, [*rows.train, *rows.validation, *rows.test])
    if too_large is not None:
        report.warn("data", f"{too_large}.", "Keep in the rows what the prompt, the tools and the grader read.")
    if not rows.validation:
        report.warn(
            "data",
            "there is no validation file: whether anything was learned is not seen.",
            "Set `validation_file` to held-out rows.",
        )
    return rows


def check_prompts(runtime: Runtime, report: CheckReport) -> None:
    """Prompts and the turns' budgets against the context. Prompts that leave no room have failed the runtime."""
    for why in runtime.token_limits.why:
        report.ok("limits", why)
    lengths = sorted(runtime.prompt_tokens)
    median, longest = lengths[len(lengths) // 2], lengths[-1]
    if report.data is not None:
        report.data = RowsReport(**{**vars(report.data), "prompt_tokens_median": median, "prompt_tokens_max": longest})
    limits = runtime.hyperparameters
    turn, context = limits.max_tokens_per_turn, limits.max_context_tokens
    cramped = sum(length + turn > context for length in lengths)
    said = f"prompts take {median} tokens, at most {longest}, of {context}"
    if cramped:
        report.warn(
            "data",
            f"{said}: {cramped} of them leave less than one turn of max_tokens_per_turn={turn}.",
            "Raise hyperparameters.max_context_tokens, or lower max_tokens_per_turn.",
        )
        return
    turns = min(limits.max_episode_steps, (context - longest) // turn)
    rest = "" if turns == limits.max_episode_steps else f" of {limits.max_episode_steps}"
    report.ok("data", f"{said}; the longest leaves room for {turns}{rest} full turns, tool results aside")


def _counted(rows: Rows) -> str:
    counts = [
        (rows.train, "training"),
        (rows.validation, "validation"),
        (rows.test, "test"),
        (rows.demonstrations, "demonstration"),
    ]
    return ", ".join(f"{len(some)} {name}" for some, name in counts if some) + " rows"


def _in_both(train: Sequence[Sample], validation: Sequence[Sample]) -> list[tuple[str, str]]:
    known = {_key(sample): sample.sample_id for sample in reversed(train)}
    return [(known[_key(one)], one.sample_id) for one in validation if _key(one) in known]


def _repeated(samples: Sequence[Sample]) -> list[str]:
    by_key: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        by_key[_key(sample)].append(sample.sample_id)
    return [sample_id for ids in by_key.values() for sample_id in ids[1:]]


def _key(sample: Sample) -> str:
    """The same for prompts that differ in case and white space alone."""
    return " ".join(json.dumps(sample.messages, sort_keys=True).casefold().split())
