"""Graders and tools tried alone."""

from typing import Any, Literal

from agentrft.server.schemas.base import Answer


class ValidatedGrader(Answer):
    """As it was given, with `***` for secrets."""

    grader: dict[str, Any]


class GraderErrors(Answer):
    """How a grader failed; all false where it did not."""

    formula_parse_error: bool
    sample_parse_error: bool
    truncated_observation_error: bool
    unresponsive_reward_error: bool
    invalid_variable_error: bool
    other_error: bool
    python_grader_server_error: bool
    python_grader_server_error_type: str | None
    python_grader_runtime_error: bool
    python_grader_runtime_error_details: str | None
    model_grader_server_error: bool
    model_grader_server_error_details: str | None
    model_grader_refusal_error: bool
    model_grader_parse_error: bool


class GraderMetadata(Answer):
    """`execution_time` in seconds; `reason` where the grader gives one; `token_usage` of all judges, in all."""

    name: str
    type: str
    execution_time: float
    reason: str | None
    scores: dict[str, float]
    sampled_model_name: str | None
    token_usage: int | None
    errors: GraderErrors


class GraderRun(Answer):
    """`model_grader_token_usage_per_model`: tokens by judge model, by the names of Chat Completions."""

    reward: float
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, dict[str, int]]
    metadata: GraderMetadata


class ToolRun(Answer):
    """`status` is `ok`, or what the tool did instead; `execution_time` in seconds."""

    type: Literal["function_call_output"]
    call_id: str
    output: str
    status: str
    trace_id: str
    execution_time: float


class JobTools(Answer):
    """In Chat Completions shape."""

    object: Literal["list"]
    data: list[dict[str, Any]]
