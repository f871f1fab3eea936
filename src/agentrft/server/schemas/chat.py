"""Chat Completions."""

from typing import Any, Literal

from pydantic import Field

from agentrft.server.schemas.base import Answer, Nothing, Seconds


class CalledFunction(Answer):
    """`arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


class Call(Answer):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Answer):
    """`tool_calls` and `reasoning_content` are there only where the model called or thought."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: Nothing
    tool_calls: list[Call] = Field(default_factory=list[Call])
    reasoning_content: str = Field(default_factory=str)


class TokenLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: Nothing


class Logprobs(Answer):
    content: list[TokenLogprob]
    refusal: None


class Choice(Answer):
    index: int
    message: ChatMessage
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class OutputDetails(Answer):
    reasoning_tokens: int


class ChatUsage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: OutputDetails


class ChatCompletion(Answer):
    """With `stream: true` it comes as chunks instead, as server-sent events."""

    id: str
    created: Seconds
    model: str
    object: Literal["chat.completion"]
    choices: list[Choice]
    usage: ChatUsage


class TextPart(Answer):
    """`logprobs` are there where `include` asks for `message.output_text.logprobs`."""

    type: Literal["output_text"]
    text: str
    annotations: Nothing
    logprobs: list[TokenLogprob]


class MessageItem(Answer):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["completed", "incomplete"]
    content: list[TextPart]


class CallItem(Answer):
    id: str
    type: Literal["function_call"]
    status: Literal["completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class ThoughtText(Answer):
    type: Literal["reasoning_text"]
    text: str


class SummaryText(Answer):
    type: Literal["summary_text"]
    text: str


class ReasoningItem(Answer):
    """A model's thoughts; the summary is there where one was asked for, and is the same text."""

    id: str
    type: Literal["reasoning"]
    status: Literal["completed"]
    summary: list[SummaryText]
    content: list[ThoughtText]
    encrypted_content: str | None


class ReasoningShown(Answer):
    """`effort` is there where the model's template has something for the one that was asked for."""

    effort: str | None
    summary: Literal["auto", "concise", "detailed"] | None


class DeletedResponse(Answer):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class Incomplete(Answer):
    reason: Literal["max_output_tokens"]


class TextOptions(Answer):
    format: dict[str, Any]


class InputDetails(Answer):
    cached_tokens: int
    cache_write_tokens: int


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ModelResponse(Answer):
    """A `response` of the Responses API. With `stream: true` it comes as events instead."""

    id: str
    object: Literal["response"]
    created_at: Seconds
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str] | None
    model: str
    output: list[ReasoningItem | MessageItem | CallItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningShown
    store: bool
    temperature: float
    text: TextOptions
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage
