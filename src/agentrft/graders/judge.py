"""Asking a model for a verdict in a JSON schema, over Chat Completions.

The judge's server is an endpoint like a tool's, with the same limits, retries and breaker. An answer that is not in the
schema is asked for again, with another seed; in the end it is a failure, never a default score.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agentrft import wire
from agentrft.errors import UserError
from agentrft.graders.base import GraderFailure, GraderSample
from agentrft.graders.own_server import TOKEN_HEADER, own_server
from agentrft.graders.scores import check_template, render_all
from agentrft.spec.graders import JudgeMessage, JudgeSpec
from agentrft.traffic import Answer, Endpoint, Fault, Notify, Traffic, notify_nobody, shorten

T = TypeVar("T")
ASKED_AT_MOST = 3
# A judge that claims more is not believed; the sums must fit a database.
MOST_TOKENS = 10**12
DEFAULT_HOST = "api.openai.com"

STEPS_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True)
class Verdict:
    """What a judge said, and what it took.

    Attributes:
        value: the parsed answer.
        usage: tokens, by the names of Chat Completions.
        faults: answers and requests that were asked for again, by kind.
    """

    value: Any
    usage: dict[str, int]
    faults: dict[str, int]


@dataclass(frozen=True)
class _Completion:
    text: str
    usage: dict[str, int]


class Judge:
    """One judging model.

    Args:
        grader: the grader's name, for messages.

    Raises:
        UserError: there is no key for a server that wants one, a header cannot be sent, or the judge is a model of a
            server's and none runs this.
    """

    def __init__(
        self, spec: JudgeSpec, grader: str, *, notify: Notify = notify_nobody, backoff_s: float | None = None
    ) -> None:
        self._grader = grader
        self._spec = spec
        base_url, headers = _here(spec, grader) if spec.served_here else _elsewhere(spec, grader)
        traffic = Traffic.of(spec, backoff_s=backoff_s)
        url = f"{base_url.rstrip('/')}/chat/completions"
        self.endpoint = Endpoint(f"grader '{grader}'", url, headers, traffic, notify)

    async def ask(
        self,
        messages: Sequence[dict[str, str]],
        response_format: dict[str, Any],
        read: Callable[[Any], T],
        *,
        trace_id: str,
    ) -> tuple[T, Verdict]:
        """Ask until an answer can be read, at most `ASKED_AT_MOST` times.

        Args:
            read: takes the parsed JSON; raises ValueError, in words, where it is not what was asked for.

        Raises:
            GraderFailure: "refusal", "bad_answer", or what the endpoint failed of.
        """
        usage: Counter[str] = Counter()
        faults: Counter[str] = Counter()
        problem = ""
        for asked in range(ASKED_AT_MOST):
            body = self._body(messages, response_format, asked)
            sent = await self.endpoint.send(body, {"X-Trace-Id": trace_id}, _read_completion, trace_id=trace_id)
            faults += sent.fault_counts()
            if isinstance(sent.verdict, Fault):
                fault = sent.verdict
                message = f"{self.endpoint.public_url}: {fault.message}"
                raise GraderFailure(self._grader, fault.kind, message, faults=faults or {fault.kind: 1}, usage=usage)
            usage.update(sent.verdict.usage)
            try:
                # What it says becomes the grade's reason, and is stored.
                value = wire.parse(self.endpoint.redactor.output(sent.verdict.text), lossy=True)
                return read(value), Verdict(value, dict(usage), dict(faults))
            except ValueError as error:
                faults["bad_answer"] += 1
                said = self.endpoint.redactor.message(sent.verdict.text)
                problem = f"{error}; it said: {said}"
        raise GraderFailure(
            self._grader, "bad_answer", f"asked {ASKED_AT_MOST} times: {shorten(problem)}", faults=faults, usage=usage
        )

    async def probe(self) -> None:
        """Connect to the server: a question would cost tokens. Raises EndpointError."""
        # The server that runs this is there; while it is restarted, whoever asks waits for it.
        if not self._spec.served_here:
            await self.endpoint.connect()

    async def close(self) -> None:
        await self.endpoint.close()

    def _body(self, messages: Sequence[dict[str, str]], response_format: dict[str, Any], asked: int) -> bytes:
        params = self._spec.sampling_params
        wanted = {
            "temperature": params.temperature,
            "top_p": params.top_p,
            # The same request might bring the same nonsense.
            "seed": params.seed if asked == 0 else (params.seed or 0) + asked,
            "reasoning_effort": params.reasoning_effort,
            "max_completion_tokens": params.max_completions_tokens,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        body = {"model": self._spec.model, "messages": messages, "response_format": response_format, **given}
        return wire.dump(body).encode()


def _here(spec: JudgeSpec, grader: str) -> tuple[str, dict[str, str]]:
    """Where a model of this process's own server is asked, and the headers that let it."""
    own = own_server()
    if own is None:
        raise UserError(
            f"grader '{grader}': served_here: no server runs this, so none has the model '{spec.model}'.",
            "Give the job to `agentrft serve`, or name the judge's server: `base_url`.",
        )
    return own.url, {TOKEN_HEADER: own.token}


def _elsewhere(spec: JudgeSpec, grader: str) -> tuple[str, dict[str, str]]:
    """The server that the judge names, or OpenAI's, and the headers for it."""
    variable = spec.api_key_env
    key = os.environ.get(variable)
    if key is None and spec.base_url.host == DEFAULT_HOST:
        raise _without_key(variable, grader)
    headers = dict(spec.headers)
    if key is not None and not any(name.lower() == "authorization" for name in headers):
        headers["Authorization"] = f"Bearer {key}"
    return str(spec.base_url), headers


def _without_key(variable: str, grader: str) -> UserError:
    """What is missing for OpenAI's server, and how it is given: to a job of one's own, or to those of a server."""
    own = own_server()
    if own is None:
        return UserError(
            f"grader '{grader}': the environment has no variable {variable}.",
            f"Run `export {variable}=...`, or name another server: `base_url`.",
        )
    others = "name another server: `base_url`, or a model of this one: `model`"
    if variable in own.withheld:
        return UserError(
            f"grader '{grader}': the server has the variable {variable}, and its jobs may not read it.",
            f"Start it with `agentrft serve --allow-env {variable}`, or {others}.",
        )
    return UserError(
        f"grader '{grader}': the server's environment has no variable {variable}.",
        f"Run `export {variable}=...` and `agentrft serve --allow-env {variable}`, or {others}.",
    )


def check_input(messages: Sequence[JudgeMessage], *, grader: str) -> None:
    """Refuse malformed templates when the grader is created."""
    for number, message in enumerate(messages):
        check_template(message.text, grader=grader, field=f"input.{number}")


def rendered(
    messages: Sequence[JudgeMessage], *, grader: str, sample: GraderSample, item: dict[str, Any]
) -> list[dict[str, str]]:
    """The messages with their templates filled in. Raises as `render_all`."""
    texts = render_all([message.text for message in messages], grader=grader, sample=sample, item=item)
    return [{"role": message.role, "content": text} for message, text in zip(messages, texts, strict=True)]


def json_schema(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Chat Completions' `response_format` for an object with exactly these properties."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def reason_of(value: Any) -> str | None:
    """The judge's steps, in words."""
    steps = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(steps, list):
        return None
    lines = [f"{step.get('description', '')}: {step.get('conclusion', '')}" for step in steps if isinstance(step, dict)]
    return "\n".join(lines) or None


def _read_completion(answer: Answer) -> _Completion | Fault:
    if answer.body is None:
        return Fault("bad_answer", "the answer is too long")
    text = answer.body.decode(errors="replace")
    if answer.status >= 400:
        return Fault("client_error", f"HTTP {answer.status}: {text.strip() or '(empty body)'}")
    try:
        completion = wire.parse(text, lossy=True)
        message = completion["choices"][0]["message"]
        refusal, content = message.get("refusal"), message.get("content") or ""
        usage = dict(completion.get("usage") or {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Fault("bad_answer", f"not a chat completion: {text}", transient=True)
    if refusal:
        return Fault("refusal", f"the judge refused: {refusal}")
    if not isinstance(content, str):
        return Fault("bad_answer", f"not a chat completion: its content is no text: {text}", transient=True)
    details = usage.get("prompt_tokens_details")
    if wire.is_object(details):
        usage["cached_tokens"] = details.get("cached_tokens")
    counts = {name: value for name, value in usage.items() if isinstance(value, int) and abs(value) < MOST_TOKENS}
    return _Completion(content, counts)
