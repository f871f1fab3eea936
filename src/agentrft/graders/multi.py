"""The multi grader: several graders at once, combined by a formula."""

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.base import Grade, Grader, GraderFailure, GraderSample
from agentrft.graders.formula import FUNCTIONS, Formula, FormulaError, linear_weights
from agentrft.graders.ranges import formula_range, score_range
from agentrft.graders.scores import finite_score
from agentrft.graders.uses import GraderUse, added_counts, added_uses
from agentrft.spec.graders import MAX_SCORE, MultiGraderSpec

# The kind of failure, and of fault, of a formula without a value.
FORMULA = "formula"


def reward_weights(grader: Grader) -> dict[str, float]:
    """Of the graders whose scores are compared apart, by name; empty where the score is one."""
    return dict(grader.weights) if isinstance(grader, MultiGrader) else {}


class MultiGrader:
    """Runs its graders concurrently and combines their scores by `calculate_output`.

    Each grader's score is in `sub_scores` under its name; sub-scores of its own under "name.sub_score". Where
    one has nothing to read in a rollout, it gives its own lowest, and the whole no more than the formula gives at the
    least for any score of that one beside the scores of the others: a formula may fall with a score, and lacking
    something never pays. Where that cannot be told, it is the lowest of 0 and the graders' scores. A spec's
    `invalid_grade` is the score instead, and that of a formula without a value.

    Attributes:
        weights: of each grader that is compared apart from the others (`normalise: each`); else empty.

    Args:
        spec: the multi grader's spec.
        graders: the spec's graders, created, under the same names; closed with this one.

    Raises:
        UserError: there are no graders, the formula cannot be read, or a grader's name cannot stand in a formula.
    """

    def __init__(self, spec: MultiGraderSpec, graders: Mapping[str, Grader]) -> None:
        self.name = spec.name
        self._graders = dict(graders)
        self._spec = spec
        if not spec.graders:
            raise UserError(f"grader '{spec.name}': graders: there are none.", "Give at least one grader.")
        for key in spec.graders:
            if not key.isidentifier() or key in FUNCTIONS:
                raise UserError(
                    f"grader '{spec.name}': graders: the name '{key}' cannot stand in a formula.",
                    "Use letters, digits and underscores, and no function's name.",
                )
        try:
            self._formula = Formula(spec.calculate_output, spec.graders)
        except FormulaError as error:
            raise UserError(f"grader '{spec.name}': calculate_output: {error.cause}", error.remedy) from error
        self.weights = self._weights() if spec.normalise == "each" else {}

    def _weights(self) -> dict[str, float]:
        weights = linear_weights(self._formula)
        if weights is None:
            raise UserError(
                f"grader '{self.name}': normalise: each grader is compared apart, so that `calculate_output` must add "
                f"them up, each with a weight; '{self._spec.calculate_output}' does not.",
                "Write it as `0.8 * accuracy + 0.2 * style`, or leave `normalise` out.",
            )
        return weights

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: one of the graders failed (its failure; the others are cancelled), or, of kind "formula",
                the formula has no finite value for these scores, the rollout lacks nothing, and there is no
                `invalid_grade`. `others` of it is what
                the rest had taken by then.
        """
        started = time.perf_counter()
        grades = await self._grade_all(sample, item, trace_id)
        parts = added_uses(grade.uses(key) for key, grade in grades.items())
        missing = list(dict.fromkeys(reference for grade in grades.values() for reference in grade.missing))
        scores = {key: grade.score for key, grade in grades.items()}
        errors = [f"{key}: {error}" for key, grade in grades.items() for error in grade.errors]
        faults = added_counts(grade.faults for grade in grades.values())
        try:
            value = self._formula.evaluate(scores)
        except ArithmeticError as error:
            if not missing:
                problem = f"{error}, for {scores}"
                if self._spec.invalid_grade is None:
                    raise GraderFailure(self.name, FORMULA, problem, others=parts) from error
                errors.append(f"{FORMULA}: {problem}")
                faults = added_counts((faults, {FORMULA: 1}))
                parts = added_uses((parts, {self.name: GraderUse({FORMULA: 1})}))
            value = math.inf if self._spec.invalid_grade is None else self._spec.invalid_grade
        if missing and self._spec.invalid_grade is not None:
            value = self._spec.invalid_grade
        elif missing:
            value = max(min(value, self._lowest(grades)), -MAX_SCORE)
        return Grade(
            score=finite_score(value, grader=self.name, what="calculate_output"),
            sub_scores=_sub_scores(grades),
            reason="\n".join(f"{key}: {grade.reason}" for key, grade in grades.items() if grade.reason) or None,
            errors=errors,
            faults=faults,
            usage=added_counts(grade.usage for grade in grades.values()),
            latency_s=time.perf_counter() - started,
            parts=parts,
            missing=missing,
        )

    def _lowest(self, grades: Mapping[str, Grade]) -> float:
        """The least that the formula gives for any scores of those that lack something, beside the others' scores."""
        known = {
            key: score_range(self._spec.graders[key]) if grade.missing else (grade.score, grade.score)
            for key, grade in grades.items()
        }
        found = formula_range(self._spec, known)
        return min(0.0, *(grade.score for grade in grades.values())) if found is None else found[0]

    async def probe(self) -> None:
        """Look for all graders' servers."""
        await asyncio.gather(*(grader.probe() for grader in self._graders.values()))

    async def close(self) -> None:
        """Close all graders."""
        await asyncio.gather(*(grader.close() for grader in self._graders.values()))

    async def _grade_all(self, sample: GraderSample, item: dict[str, Any], trace_id: str) -> dict[str, Grade]:
        tasks = {
            key: asyncio.create_task(grader.grade(sample, item=item, trace_id=trace_id))
            for key, grader in self._graders.items()
        }
        try:
            await asyncio.gather(*tasks.values())
        except GraderFailure as failure:
            failure.others |= added_uses(_uses_so_far(key, task, failure) for key, task in tasks.items())
            raise
        finally:
            # After the first failure, or when this call itself is cancelled, nobody waits for the others.
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {key: task.result() for key, task in tasks.items()}


def _uses_so_far(key: str, task: asyncio.Task[Grade], raised: GraderFailure) -> dict[str, GraderUse]:
    """Of one that was not done yet nothing is known."""
    if not task.done() or task.cancelled():
        return {}
    error = task.exception()
    if error is None:
        return task.result().uses(key)
    return error.uses if isinstance(error, GraderFailure) and error is not raised else {}


def _sub_scores(grades: Mapping[str, Grade]) -> dict[str, float]:
    values = {}
    for key, grade in grades.items():
        values[key] = grade.score
        values.update({f"{key}.{name}": value for name, value in grade.sub_scores.items()})
    return values
