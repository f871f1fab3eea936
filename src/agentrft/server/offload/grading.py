"""Graders that are tried over the API, from the server's side: a few warm processes that make and run them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.own_server import OwnServer, told_of
from agentrft.server.errors import ApiError
from agentrft.server.offload.admission import Admission
from agentrft.server.offload.pool import WorkPool
from agentrft.server.offload.processes import Launcher, ProcessDied

MODULE = "agentrft.server.offload.grading_process"
CHECKS = {"max_running": 2, "max_waiting": 32, "retry_after_s": 5}
GRADES = {"max_running": 4, "max_waiting": 32, "retry_after_s": 5}
# Loading a python grader's libraries may take two minutes, and a judge that is asked several times more.
CHECK_S, GRADE_S = 150.0, 600.0


@dataclass
class TriedGrade:
    """What a grader gave for one answer.

    Attributes:
        failure: how it failed: `grader`, `kind` and `message`; None where it gave a grade.
        usage: tokens that judges took, by grader.
        missing: what templates read of the answer and it does not have.
        has_json: whether the answer is JSON.
        is_cut: whether only the beginning of a long text was compared.
        is_without_value: whether a formula had no value, so that the score is the grader's `invalid_grade`.
    """

    score: float = 0.0
    sub_scores: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    failure: dict[str, str] | None = None
    missing: list[str] = field(default_factory=list)
    has_json: bool = False
    is_cut: bool = False
    is_without_value: bool = False


class GradingProcesses:
    """Used from one event loop. Who only wants a grader looked at does not wait for those who have theirs run."""

    def __init__(self, launcher: Launcher, own_server: Callable[[], OwnServer | None]) -> None:
        self._own_server = own_server
        self._checks = WorkPool(launcher, MODULE, Admission("graders to look at", **CHECKS))
        self._grades = WorkPool(launcher, MODULE, Admission("graders", **GRADES))

    async def check(self, spec: Mapping[str, Any]) -> None:
        """See that a grader can be made of a spec, and that the code of python graders can be loaded.

        Raises:
            ApiError: 503, too many are tried already; or 400, with what is wrong.
        """
        await _given(self._checks, {"spec": spec, **told_of(self._own_server())}, CHECK_S)

    async def grade(
        self,
        spec: Mapping[str, Any],
        text: str,
        output_tools: Sequence[Mapping[str, Any]],
        item: Mapping[str, Any],
        trace_id: str,
    ) -> TriedGrade:
        """Grade an answer, and the calls that were made before it. Raises ApiError as `check`."""
        told = {"spec": spec, "text": text, "output_tools": output_tools, "item": item, "trace_id": trace_id}
        return TriedGrade(**await _given(self._grades, {**told, **told_of(self._own_server())}, GRADE_S))

    async def grade_rollout(
        self, spec: Mapping[str, Any], record: Mapping[str, Any], item: Mapping[str, Any]
    ) -> TriedGrade:
        """Grade a rollout by its record, as its job did. Raises ApiError as `check`."""
        told = {"spec": spec, "record": record, "item": item, "trace_id": record["trace_id"]}
        return TriedGrade(**await _given(self._grades, {**told, **told_of(self._own_server())}, GRADE_S))

    async def close(self) -> None:
        await self._checks.close()
        await self._grades.close()


async def _given(pool: WorkPool, told: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    try:
        answer = await pool.ask(told, timeout_s=timeout_s)
    except TimeoutError as error:
        raise _unusable(f"The grader did not end within {timeout_s:.0f} s.") from error
    except ProcessDied as error:
        raise _unusable(f"The grader ended the process that tried it: {error}") from error
    if "refused" in answer:
        raise UserError(*answer["refused"])
    if "broken" in answer:
        raise RuntimeError(answer["broken"])
    return answer["given"]


def _unusable(message: str) -> ApiError:
    return ApiError(400, message, param="grader", code="invalid_grader")
