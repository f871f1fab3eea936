"""Evals, their runs and their output items."""

from typing import Any, Literal

from agentrft.server.schemas.base import Answer, PageWithEnds, Seconds


class DataSourceConfig(Answer):
    type: Literal["custom"]
    schema_: dict[str, Any]

    model_config = Answer.model_config | {"alias_generator": lambda name: name.rstrip("_")}


class Eval(Answer):
    id: str
    object: Literal["eval"]
    name: str
    created_at: Seconds
    metadata: dict[str, str]
    testing_criteria: list[dict[str, Any]]
    data_source_config: DataSourceConfig


class EvalPage(PageWithEnds[Eval]):
    pass


class EvalError(Answer):
    """Empty where nothing failed."""

    code: str
    message: str


class FileSource(Answer):
    type: Literal["file_id"]
    id: str


class DataSource(Answer):
    type: Literal["jsonl"]
    source: FileSource


class ModelUsage(Answer):
    model_name: str
    invocation_count: int
    cached_tokens: int
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


class CriterionCounts(Answer):
    """`testing_criteria` is the grader's id."""

    testing_criteria: str
    passed: int
    failed: int


class Counts(Answer):
    """Output items; `errored` have no score."""

    errored: int
    failed: int
    passed: int
    total: int


class Run(Answer):
    id: str
    object: Literal["eval.run"]
    eval_id: str
    created_at: Seconds
    name: str
    model: str
    status: Literal["completed"]
    report_url: str
    metadata: dict[str, str]
    data_source: DataSource
    error: EvalError
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionCounts]
    result_counts: Counts


class RunPage(PageWithEnds[Run]):
    pass


class Result(Answer):
    """`name` is the grader's id; graders inside a `multi` one have results of their own."""

    name: str
    type: str
    score: float
    passed: bool
    sample: dict[str, Any] | None
    sub_scores: dict[str, float]
    reason: str | None


class AnswerMessage(Answer):
    """The last of the agent's, with all its calls."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[dict[str, Any]]


class Transcript(Answer):
    """The whole conversation, as it was kept."""

    messages: list[dict[str, Any]]


class Usage(Answer):
    cached_tokens: int
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


class Sample(Answer):
    """`input` are messages as in Chat Completions, with text as their content."""

    input: list[dict[str, Any]]
    output: list[AnswerMessage]
    finish_reason: str
    model: str
    error: EvalError
    max_completion_tokens: int
    seed: int
    temperature: float
    top_p: float
    usage: Usage
    agentrft: Transcript


class OutputItem(Answer):
    """`datasource_item` is the row, or its id and prompt where its file is gone; of a job's, `trace` is beside it."""

    id: str
    object: Literal["eval.run.output_item"]
    created_at: Seconds
    run_id: str
    eval_id: str
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[Result]
    sample: Sample


class OutputItemPage(PageWithEnds[OutputItem]):
    pass
