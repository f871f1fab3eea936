"""`/v1/models`, what they answer (`/v1/chat/completions`, `/v1/responses`), and who may use a checkpoint."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
from fastapi import APIRouter, Body, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from agentrft import wire
from agentrft.server.azure_paths import DEPLOYMENT_MODEL
from agentrft.server.context import Context, check_limit
from agentrft.server.errors import ApiError, not_found
from agentrft.server.ignored_fields import WARNING_HEADER
from agentrft.server.json_bodies import WireRoute
from agentrft.server.models.downloads import merged, zipped
from agentrft.server.models.lookup import ServedModel, delete_model, fetch_weights, find_model, list_models
from agentrft.server.objects.files import permission_object
from agentrft.server.objects.pages import page
from agentrft.server.response_store import find_response, keep, keep_streamed, with_earlier_items
from agentrft.server.routes.files import InContext
from agentrft.server.routes.parameters import Limit
from agentrft.server.schemas.answers import answers, answers_bytes
from agentrft.server.schemas.chat import ChatCompletion, DeletedResponse, ModelResponse
from agentrft.server.schemas.models import DeletedModel, DeletedPermission, Model, ModelList, PermissionPage
from agentrft.store.layout import ADAPTER, MODEL

router = APIRouter(route_class=WireRoute)

RESPONSES = "/v1/responses"
PASSED_ON = ("content-type", "x-should-retry", WARNING_HEADER.lower())


@router.get("/v1/models", **answers(ModelList))
def models(context: InContext) -> dict[str, Any]:
    return {"object": "list", "data": [_object(model) for model in list_models(context)]}


@router.get("/v1/models/{model:path}/adapter", **answers_bytes("application/zip"))
async def download_adapter(model: str, request: Request, context: InContext) -> Response:
    """The trained weights as a zip: PEFT's adapter, or the whole model where all weights were trained."""
    _, checkpoint = await asyncio.to_thread(_checkpoint, model, context)
    folder = next((checkpoint / part for part in (ADAPTER, MODEL) if (checkpoint / part).is_dir()), None)
    if folder is None:
        raise not_found(f"'{model}': its weights are gone.", param="model", code="model_not_found")
    return await zipped(request, model, folder, context)


@router.get("/v1/models/{model:path}/merged", **answers_bytes("application/zip"))
async def download_merged(model: str, request: Request, context: InContext) -> Response:
    """The whole model as a zip, for transformers, vLLM and others: the adapter is merged into its base."""
    found, checkpoint = await asyncio.to_thread(_checkpoint, model, context, whole=True)
    return await merged(request, found, checkpoint, context)


@router.get("/v1/models/{model:path}", **answers(Model))
def retrieve_model(model: str, context: InContext) -> dict[str, Any]:
    return _object(find_model(model, context))


@router.delete("/v1/models/{model:path}", **answers(DeletedModel))
def remove_model(model: str, context: InContext) -> dict[str, Any]:
    delete_model(model, context)
    return {"id": model, "object": "model", "deleted": True}


@router.post("/v1/chat/completions", **answers(ChatCompletion, streams=True))
async def chat_completions(request: Request, context: InContext, body: Annotated[dict[str, Any], Body()]) -> Response:
    if DEPLOYMENT_MODEL in request.scope:
        body = {**body, "model": request.scope[DEPLOYMENT_MODEL]}
    return await _ask(request, context, body, "/v1/chat/completions")


@router.post("/v1/responses", **answers(ModelResponse, streams=True))
async def responses(request: Request, context: InContext, body: Annotated[dict[str, Any], Body()]) -> Response:
    return await _ask(request, context, await with_earlier_items(body, context), RESPONSES)


@router.get("/v1/responses/{response_id}", **answers(ModelResponse))
async def retrieve_response(response_id: str, context: InContext) -> dict[str, Any]:
    """A response that was stored."""
    return (await find_response(response_id, context)).response


@router.delete("/v1/responses/{response_id}", **answers(DeletedResponse))
async def delete_response(response_id: str, context: InContext) -> dict[str, Any]:
    """What went on from it goes on: each response has its whole conversation."""
    await find_response(response_id, context)
    await context.quickly(context.records.delete_response, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


class PermissionCreate(BaseModel):
    """Body of `permissions.create`."""

    project_ids: Annotated[list[str], Field(min_length=1, max_length=100)]


@router.post("/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions", **answers(PermissionPage))
def create_permissions(checkpoint: str, body: PermissionCreate, context: InContext) -> dict[str, Any]:
    find_model(checkpoint, context)
    made = [context.records.add_permission(checkpoint, project_id) for project_id in body.project_ids]
    return page([permission_object(row) for row in made], after=None, limit=len(made), with_ends=True)


@router.get("/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions", **answers(PermissionPage))
def list_permissions(
    checkpoint: str,
    context: InContext,
    after: str | None = None,
    limit: Limit = 10,
    order: Literal["ascending", "descending"] = "descending",
    project_id: str | None = None,
) -> dict[str, Any]:
    find_model(checkpoint, context)
    rows = [row for row in context.records.permissions(checkpoint) if project_id in (None, row.project_id)]
    items = [permission_object(row) for row in (rows[::-1] if order == "ascending" else rows)]
    return page(items, after=after, limit=check_limit(limit, 100), with_ends=True)


@router.delete(
    "/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions/{permission_id}", **answers(DeletedPermission)
)
def delete_permission(checkpoint: str, permission_id: str, context: InContext) -> dict[str, Any]:
    if not context.records.delete_permission(checkpoint, permission_id):
        raise not_found(f"There is no permission '{permission_id}'.", param="permission_id", code="not_found")
    return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}


def _checkpoint(name: str, context: Context, *, whole: bool = False) -> tuple[ServedModel, Path]:
    model = find_model(name, context)
    checkpoint = fetch_weights(model, context, whole=whole)
    if checkpoint is None:
        raise ApiError(400, f"'{name}' is a base model.", param="model", code="invalid_value")
    return model, checkpoint


def _object(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at,
        "owned_by": "agentrft" if model.job is None else "user",
    }


def _weights(name: str, context: Context) -> tuple[ServedModel, Path | None]:
    model = find_model(name, context)
    return model, fetch_weights(model, context)


async def _ask(request: Request, context: Context, body: dict[str, Any], path: str) -> Response:
    """Pass a request on to the process that has the models, and its answer back as it comes."""
    name = body.get("model")
    if not isinstance(name, str):
        raise ApiError(400, "model: a string is needed.", param="model", code="missing_required_parameter")
    model, folder = await asyncio.to_thread(_weights, name, context)
    inference = request.app.state.inference
    weights = {"name": name, "base": model.base, "folder": None if folder is None else str(folder)}
    if model.job is not None:
        job = await asyncio.to_thread(context.store.get_job, model.job.job_id)
        weights |= {
            "dtype": job.setting("dtype"),
            "max_context_tokens": (job.hyperparameters or {}).get("max_context_tokens"),
            "chat_template_kwargs": job.setting("chat_template_kwargs") or {},
        }
    try:
        answer = await inference.post(path, body, {"X-AgentRFT-Weights": json.dumps(weights)})
    except aiohttp.ClientError as error:
        raise ApiError(
            503, "The process that serves models is starting again; try again in a moment.", code="model_starting"
        ) from error
    headers = {key: value for key, value in answer.headers.items() if key.lower() in PASSED_ON}
    is_stored = path == RESPONSES and answer.status == 200
    if body.get("stream") is True and answer.status == 200:
        parts = _parts(answer)
        kept = keep_streamed(parts, body, context) if is_stored else parts
        return StreamingResponse(kept, status_code=200, headers=headers)
    try:
        content = await answer.read()
        if is_stored:
            await keep(wire.parse(content), body, context)
        return Response(content, status_code=answer.status, headers=headers)
    finally:
        answer.release()


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for part in answer.content.iter_any():
            yield part
    finally:
        answer.close()
