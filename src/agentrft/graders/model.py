"""The short model grader: one prompt with names in braces, and a `score` in the judge's JSON answer."""

import json
import re
import time
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.base import Grade, GraderFailure, GraderSample
from agentrft.graders.judge import Judge, json_schema
from agentrft.graders.scores import number_of
from agentrft.spec.graders import ModelGraderSpec
from agentrft.spec.json_schema import SchemaFault, read_schema
from agentrft.traffic import Notify, notify_nobody

NAME = re.compile(r"\{([A-Za-z_]\w*)\}")
FINAL_ANSWER = "final_answer"
RESPONSE_FORMAT = json_schema("grade", {"score": {"type": "number"}})


class ModelGrader:
    """Fills in the prompt, asks the judge, and reads `score`; other numbers of the answer become sub-scores.

    Raises:
        UserError: the prompt names nothing, the response format has no `score`, or there is no key.
    """

    def __init__(
        self, spec: ModelGraderSpec, *, notify: Notify = notify_nobody, backoff_s: float | None = None
    ) -> None:
        self.name = spec.name
        self.pass_threshold = spec.pass_threshold
        self._spec = spec
        if not NAME.search(spec.prompt):
            raise UserError(
                f"grader '{spec.name}': prompt: names nothing of the rollout, so all would get the same score.",
                "Put `{final_answer}`, `{ground_truth}` or other keys of the rows into it.",
            )
        self._response_format = _response_format(spec)
        self.judge = Judge(spec, spec.name, notify=notify, backoff_s=backoff_s)

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: "missing_key", or as `Judge.ask`.
        """
        started = time.perf_counter()
        prompt = self._filled_in({**item, FINAL_ANSWER: sample.output_text})
        score, verdict = await self.judge.ask(
            [{"role": "user", "content": prompt}], self._response_format, _score, trace_id=trace_id
        )
        numbers = {
            name: float(value)
            for name, value in verdict.value.items()
            if name != "score" and isinstance(value, int | float) and not isinstance(value, bool)
        }
        reason = verdict.value.get("reason", verdict.value.get("explanation"))
        return Grade(
            score=score,
            sub_scores=numbers,
            reason=reason if isinstance(reason, str) else None,
            faults=verdict.faults,
            usage=verdict.usage,
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        await self.judge.probe()

    async def close(self) -> None:
        await self.judge.close()

    def _filled_in(self, values: dict[str, Any]) -> str:
        def value_of(match: re.Match[str]) -> str:
            if match[1] not in values:
                known = ", ".join(sorted(values))
                raise GraderFailure(self.name, "missing_key", f"prompt: {match[0]}: the row has {known}")
            value = values[match[1]]
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

        return NAME.sub(value_of, self._spec.prompt)


def prompt_names(prompt: str) -> list[str]:
    """The keys of the row that a prompt refers to."""
    return [name for name in dict.fromkeys(NAME.findall(prompt)) if name != FINAL_ANSWER]


def _score(value: Any) -> float:
    if not isinstance(value, dict) or "score" not in value:
        raise ValueError("expected an object with 'score'")
    return number_of(value["score"], "score")


def _response_format(spec: ModelGraderSpec) -> dict[str, Any]:
    given = spec.response_format
    if given is None:
        return RESPONSE_FORMAT
    named = given.get("json_schema")
    schema = (named.get("schema") if isinstance(named, dict) else None) if given.get("type") == "json_schema" else given
    if given.get("type") not in ("json_schema", "json_object", "object"):
        raise UserError(
            f"grader '{spec.name}': response_format: unknown type {given.get('type')!r}.",
            "Use Chat Completions' json_schema or json_object, or give the schema of an object.",
        )
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if given["type"] != "json_object" and not (isinstance(properties, dict) and "score" in properties):
        raise UserError(
            f"grader '{spec.name}': response_format: its schema has no property 'score'.", "Add a number `score`."
        )
    if given["type"] != "json_object" and isinstance(schema, dict):
        try:
            read_schema(schema)
        except SchemaFault as fault:
            raise UserError(f"grader '{spec.name}': response_format: {fault}", "Give a JSON Schema.") from fault
    if given["type"] == "object":
        return {"type": "json_schema", "json_schema": {"name": "grade", "schema": given}}
    return given
