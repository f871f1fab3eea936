"""From a grader's spec to the grader, and the check of its templates against the dataset."""

import os
from collections.abc import Iterable, Iterator

from agentrft.data.samples import Faults, Sample
from agentrft.data.templates import TemplateError, render_template, template_fields
from agentrft.errors import UserError
from agentrft.graders.base import Grader
from agentrft.graders.endpoint import EndpointGrader
from agentrft.graders.label_model import LabelModelGrader
from agentrft.graders.model import ModelGrader, prompt_names
from agentrft.graders.multi import MultiGrader
from agentrft.graders.python import PythonGrader
from agentrft.graders.score_model import ScoreModelGrader
from agentrft.graders.string_check import StringCheckGrader
from agentrft.graders.text_similarity import TextSimilarityGrader
from agentrft.graders.trace import TraceGrader
from agentrft.spec.graders import (
    EndpointGraderSpec,
    GraderSpec,
    LabelModelGraderSpec,
    ModelGraderSpec,
    MultiGraderSpec,
    PythonGraderSpec,
    ScoreModelGraderSpec,
    StringCheckGraderSpec,
    TextSimilarityGraderSpec,
    TraceGraderSpec,
)
from agentrft.traffic import Notify, notify_nobody


def create_grader(spec: GraderSpec, *, notify: Notify = notify_nobody, n_workers: int | None = None) -> Grader:
    """Create the grader that a job declares. Nothing is called or started before its first grade.

    Args:
        notify: told when a grader's server goes down and when it answers again.
        n_workers: processes of a python grader; by default as many as there are cores, shared by those of a multi.

    Raises:
        UserError: the spec cannot work: a malformed template or formula, a syntax error, missing data of a metric.
    """
    match spec:
        case StringCheckGraderSpec():
            return StringCheckGrader(spec)
        case TextSimilarityGraderSpec():
            return TextSimilarityGrader(spec)
        case PythonGraderSpec():
            return PythonGrader(spec, n_workers=n_workers or os.cpu_count() or 1)
        case EndpointGraderSpec():
            return EndpointGrader(spec, notify=notify)
        case ScoreModelGraderSpec():
            return ScoreModelGrader(spec, notify=notify)
        case LabelModelGraderSpec():
            return LabelModelGrader(spec, notify=notify)
        case ModelGraderSpec():
            return ModelGrader(spec, notify=notify)
        case TraceGraderSpec():
            return TraceGrader(spec)
        case MultiGraderSpec():
            # They run at the same time, and more processes than cores make none of them faster.
            n_python = sum(isinstance(one, PythonGraderSpec) for one in spec.graders.values())
            share = n_workers or -(-(os.cpu_count() or 1) // max(1, n_python))
            # Under its key, so that a failure names the grader as the formula does.
            graders = {
                key: create_grader(one.model_copy(update={"name": key}), notify=notify, n_workers=share)
                for key, one in spec.graders.items()
            }
            return MultiGrader(spec, graders)


def check_templates(spec: GraderSpec, samples: Iterable[Sample]) -> None:
    """Resolve every `item.*` reference of the grader's templates on every row.

    Raises:
        UserError: a template is malformed, or rows lack what it refers to: each with row, grader and field.
    """
    check_templates_of_all([spec], samples)


def check_templates_of_all(specs: Iterable[GraderSpec], samples: Iterable[Sample]) -> None:
    """As `check_templates` for several graders; goes through the samples once."""
    fields = [
        (where, "{{ " + field + " }}")
        for spec in specs
        for where, template in templates_of(spec)
        for field in template_fields(template)
        if not field.startswith("sample")
    ]
    faults = Faults()
    for sample in samples:
        for where, reference in fields:
            try:
                render_template(reference, item=sample.item, sample=None)
            except TemplateError as error:
                faults.add(f"row {sample.sample_id}: {where}: {error.cause}")
    if faults.count:
        raise UserError(
            f"the grader refers to data that rows do not have, {faults}",
            "Correct the grader's templates, or add the keys to the rows (their ids start with the line number).",
        )


def templates_of(spec: GraderSpec) -> Iterator[tuple[str, str]]:
    """Every template of a spec, with the name of its grader and field."""
    match spec:
        case StringCheckGraderSpec() | TextSimilarityGraderSpec():
            yield f"grader '{spec.name}', input", spec.input
            yield f"grader '{spec.name}', reference", spec.reference
        case MultiGraderSpec():
            for key, one in spec.graders.items():
                yield from templates_of(one.model_copy(update={"name": key}))
        case ScoreModelGraderSpec() | LabelModelGraderSpec():
            for number, message in enumerate(spec.input):
                yield f"grader '{spec.name}', input.{number}", message.text
        case ModelGraderSpec():
            # Its names in braces are keys of the row.
            names = prompt_names(spec.prompt)
            yield f"grader '{spec.name}', prompt", "".join(f"{{{{ item.{name} }}}}" for name in names)
        case PythonGraderSpec() | EndpointGraderSpec() | TraceGraderSpec():
            return
