"""Jobs as evals, validations as runs, rollouts as output items."""

from typing import Any, Literal

from agentrft.server.schemas.base import Answer, Nothing, PageWithEnds, Seconds


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
    testing_criteria: Nothing
    data_source_config: DataSourceConfig


class EvalPage(PageWithEnds[Eval]):
    pass


class EvalError(Answer):
    """Empty where nothing failed."""

    code: str
    message: str


class Content(Answer):
    type: Literal["file_content"]
    content: Nothing


class DataSource(Answer):
    type: Literal["jsonl"]
    source: Content


class Counts(Answer):
    """Rollouts; `errored` have no reward."""

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
    per_model_usage: Nothing
    per_testing_criteria_results: Nothing
    result_counts: Counts


class RunPage(PageWithEnds[Run]):
    pass


class Result(Answer):
    name: Literal["reward"]
    score: float
    passed: bool
    sub_scores: dict[str, float]
    reason: str | None


class Message(Answer):
    role: str
    content: str


class SaidMessage(Message):
    tool_calls: list[dict[str, Any]]


class Usage(Answer):
    cached_tokens: int
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


class Sample(Answer):
    input: list[Message]
    output: list[SaidMessage]
    finish_reason: str
    model: str
    error: EvalError
    max_completion_tokens: int
    seed: int
    temperature: float
    top_p: float
    usage: Usage


class OutputItem(Answer):
    """`datasource_item` is the row, or its id and prompt where its file is gone."""

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
