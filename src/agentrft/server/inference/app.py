"""The HTTP application: who may ask, with which weights, and an answer whole or as server-sent events."""

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from agentrft.engine import EngineFailure
from agentrft.errors import UserError
from agentrft.server.ignored_fields import ignored_header
from agentrft.server.inference.chat_answer import ChatAnswer
from agentrft.server.inference.chat_request import ChatRequest
from agentrft.server.inference.errors import ApiError, from_engine, invalid
from agentrft.server.inference.fields import parse
from agentrft.server.inference.host import ModelHost
from agentrft.server.inference.responses_answer import ResponsesAnswer
from agentrft.server.inference.responses_request import ResponsesRequest
from agentrft.server.inference.template_variables import chosen_variables
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.turn_sampler import TurnSampler
from agentrft.server.inference.weights import Weights

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-AgentRFT-Token"
WEIGHTS_HEADER = "X-AgentRFT-Weights"


def create_app(host: ModelHost, token: str) -> FastAPI:
    """The application on a host, for callers that know the token; it closes the host when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await host.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_TokenGuard, token=token)
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(EngineFailure, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(Exception, _answer_error)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        chat = _Asked(host, _weights(request), parse(ChatRequest, await request.body()))
        if chat.request.stream:
            return await _streamed(_chat_stream(chat), chat)
        return await _unless_gone(request, lambda: _chat(chat), chat)

    @app.post("/v1/responses")
    async def responses(request: Request) -> Response:
        asked = _Asked(host, _weights(request), parse(ResponsesRequest, await request.body()))
        if asked.request.stream:
            return await _streamed(_responses_stream(asked), asked)
        return await _unless_gone(request, lambda: _response(asked), asked)

    return app


Asked = TypeVar("Asked", ChatRequest, ResponsesRequest)


class _Asked(Generic[Asked]):
    """A request, and what of it has no effect: that is known when its model is there."""

    def __init__(self, host: ModelHost, weights: Weights, request: Asked) -> None:
        self.request: Asked = request
        self._host = host
        self._weights = weights
        self._ignored = request.ignored

    @property
    def headers(self) -> dict[str, str]:
        return ignored_header(self._ignored)

    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[tuple[TurnSampler, TokenTexts]]:
        """What samples the answer, and spells its tokens; the model stays in memory meanwhile."""
        settings = self.request.settings()
        wish = settings.template
        async with self._host.lease(self._weights) as model:
            if not model.seeded and getattr(self.request, "seed", None) is not None:
                self._ignored.append("seed")
            codecs = model.loaded.codecs
            chosen = chosen_variables(self._weights.chat_template_kwargs, wish, codecs.variables)
            if chosen.honours_effort:
                self._ignored.remove(wish.effort_field)
            try:
                codec = codecs.known(chosen.values) or await asyncio.to_thread(codecs.make, chosen.values)
            except UserError as error:
                raise invalid(f"{error.cause} {error.remedy}", "chat_template_kwargs") from error
            effort = wish.effort if chosen.honours_effort else ""
            timeout_s = self._host.limits.turn_timeout_s
            yield TurnSampler(model, codec, settings, timeout_s=timeout_s, effort=effort), model.token_texts


async def _chat(asked: _Asked[ChatRequest]) -> dict[str, Any]:
    async with asked.sampler() as (sampler, token_texts):
        return await ChatAnswer(asked.request, sampler, token_texts).whole()


async def _chat_stream(asked: _Asked[ChatRequest]) -> AsyncGenerator[dict[str, Any]]:
    async with asked.sampler() as (sampler, token_texts):
        try:
            async for chunk in ChatAnswer(asked.request, sampler, token_texts).chunks():
                yield {"data": json.dumps(chunk)}
        except (ApiError, EngineFailure) as error:
            yield {"data": json.dumps(_as_api_error(error).body)}
            return
        yield {"data": "[DONE]"}


async def _response(asked: _Asked[ResponsesRequest]) -> dict[str, Any]:
    async with asked.sampler() as (sampler, token_texts):
        return await ResponsesAnswer(asked.request, sampler, token_texts).whole()


async def _responses_stream(asked: _Asked[ResponsesRequest]) -> AsyncGenerator[dict[str, Any]]:
    async with asked.sampler() as (sampler, token_texts):
        answer = ResponsesAnswer(asked.request, sampler, token_texts)
        try:
            async for event in answer.events():
                yield {"event": event["type"], "data": json.dumps(event)}
        except (ApiError, EngineFailure) as error:
            event = answer.error(_as_api_error(error).body)
            yield {"event": event["type"], "data": json.dumps(event)}


async def _streamed(events: AsyncGenerator[dict[str, Any]], asked: _Asked[Any]) -> Response:
    """A stream whose first event is there already, so that a request that cannot be served gets its status."""
    first = await anext(events)

    async def everything() -> AsyncIterator[dict[str, Any]]:
        try:
            yield first
            async for event in events:
                yield event
        finally:
            await events.aclose()

    return EventSourceResponse(everything(), sep="\n", headers=asked.headers)


async def _unless_gone(
    request: Request, answer: Callable[[], Awaitable[dict[str, Any]]], asked: _Asked[Any]
) -> Response:
    """The answer; work on it ends when the client hangs up."""
    working = asyncio.ensure_future(answer())
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return Response(status_code=499)
        return JSONResponse(working.result(), headers=asked.headers)
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _weights(request: Request) -> Weights:
    given = request.headers.get(WEIGHTS_HEADER)
    if given is None:
        raise invalid(f"The header {WEIGHTS_HEADER} is missing.", None, "missing_weights")
    try:
        return Weights.model_validate_json(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        message = f"{WEIGHTS_HEADER}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise invalid(message, None, "invalid_weights") from error


def _as_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case EngineFailure():
            return from_engine(error)
        case HTTPException():
            return ApiError(error.status_code, str(error.detail), code="unknown_url")
        case _:
            return ApiError(500, f"A fault of the server's: {type(error).__name__}.", code="internal_error")


async def _answer_error(_: Request, error: Exception) -> Response:
    answered = _as_api_error(error)
    if answered.status >= 500:
        logger.warning("%s", answered.message)
    return JSONResponse(answered.body, status_code=answered.status, headers=answered.headers)


class _TokenGuard:
    """Refuses every request without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers") or [])
        given = headers.get(TOKEN_HEADER.lower().encode(), b"")
        if scope["type"] == "http" and not hmac.compare_digest(given, self._token):
            error = ApiError(401, f"The header {TOKEN_HEADER} is missing or wrong.", code="invalid_token")
            await JSONResponse(error.body, status_code=401, headers=error.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)
