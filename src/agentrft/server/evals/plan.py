"""What a run of an eval does, as it is kept encrypted with it: its worker needs nothing else but the rows."""

from typing import Any

from agentrft.graders.criteria import Criterion
from agentrft.server.evals.fields import Fields
from agentrft.spec import GraderSpec, JobSpec


class SampledBy(Fields):
    """The model that answers the rows, and how.

    Attributes:
        model: its public name.
        job: base model, weights (`start_from`), tools and limits of a rollout.
        messages: `input_messages` of the request.
        tools: that the request gives to all rows, in Chat Completions shape; none are the rows' own.
        temperature: None takes the default; 0 is greedy.
    """

    model: str
    job: JobSpec
    messages: dict[str, Any]
    tools: list[dict[str, Any]]
    temperature: float | None = None


class RunPlan(Fields):
    """Graders, the schema of the rows, and where the answers come from: a model, or None for the rows themselves."""

    graders: list[GraderSpec]
    item_schema: dict[str, Any]
    sampled_by: SampledBy | None = None

    @property
    def criteria(self) -> list[Criterion]:
        return criteria_of(self.graders)


def criteria_of(graders: list[GraderSpec]) -> list[Criterion]:
    """Each under its name; a name that was there before has a number behind it."""
    found: list[Criterion] = []
    for grader in graders:
        names = {one.criterion_id for one in found}
        name, number = grader.name, 2
        while name in names:
            name, number = f"{grader.name}_{number}", number + 1
        found.append(Criterion(name, grader))
    return found
