"""Evals, their runs and their output items."""

from typing import Any, Literal

from pydantic import Field

from agentrft.server.schemas.base import Answer, PageWithEnds, Seconds


class DataSourceConfig(Answer):
    type: Literal["custom"]
    schema_: dict[str, Any]

    model_config = Answer.model_config | {"alias_generator": lambda name: name.rstrip("_")}


class Eval(Answer):
    """`agentrft`, of those that users make, is what they gave of it."""

    id: str
    object: Literal["eval"]
    name: str
    created_at: Seconds
    metadata: dict[str, str]
    testing_criteria: list[dict[str, Any]]
    data_source_config: DataSourceConfig
    agentrft: dict[str, Any] = Field(default_factory=dict[str, Any])


class EvalPage(PageWithEnds[Eval]):
    pass


class EvalError(Answer):
    """Empty where nothing failed."""

    code: str
    message: str


class FileSource(Answer):
    type: Literal["file_id"]
    id: str


class ContentRow(Answer):
    item: dict[str, Any]
    sample: dict[str, Any] = Field(default_factory=dict[str, Any])


class ContentSource(Answer):
    """Rows that came with the request; lists of runs leave them out."""

    type: Literal["file_content"]
    content: list[ContentRow]


class JsonlSource(Answer):
    """Rows that are graded as they are."""

    type: Literal["jsonl"]
    source: FileSource | ContentSource


class SampledSource(Answer):
    """Rows that a model answers; the rest is as it was given."""

    type: Literal["completions", "responses"]
    source: FileSource | ContentSource
    model: str
    input_messages: dict[str, Any] = Field(default_factory=dict[str, Any])
    sampling_params: dict[str, Any] = Field(default_factory=dict[str, Any])


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
    """`agentrft`, of those that users make, has what they gave of it, and once the run is completed `summary`, as
    `agentrft eval --json` has it, and `mean_scores` by grader.
    """

    id: str
    object: Literal["eval.run"]
    eval_id: str
    created_at: Seconds
    name: str
    model: str
    status: Literal["queued", "in_progress", "completed", "canceled", "failed"]
    report_url: str
    metadata: dict[str, str]
    data_source: JsonlSource | SampledSource
    error: EvalError
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionCounts]
    result_counts: Counts
    agentrft: dict[str, Any] = Field(default_factory=dict[str, Any])


class DeletedEval(Answer):
    object: Literal["eval.deleted"]
    deleted: Literal[True]
    eval_id: str


class DeletedRun(Answer):
    object: Literal["eval.run.deleted"]
    deleted: Literal[True]
    run_id: str


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
