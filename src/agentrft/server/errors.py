"""Errors in the shape that the SDK reads, `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agentrft.errors import ArtifactsError, EndpointError, UserError
from agentrft.server.json_bodies import BodyError, WireResponse

# What the SDK would try again without being told not to, and what will not get better by it.
RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
WORTH_A_RETRY = frozenset({408, 429, 503})
# Where a request's scope has its id.
REQUEST_ID = "agentrft.request_id"


class ApiError(Exception):
    """An answer that is an error.

    Args:
        param: the field of the request at fault.
        code: a short reason for programs.
        retry_after_s: when to come again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self.status = status
        self.message = message
        self.param = param
        self.code = code


def not_found(what: str, remedy: str = "", *, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(404, f"{what}{' ' + remedy if remedy else ''}", param=param, code=code)


def error_body(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "authentication_error" if status == 401 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> WireResponse:
    response = WireResponse(error_body(status, message, param, code), status_code=status, headers=dict(headers or {}))
    if (status in RETRIED and status not in WORTH_A_RETRY) or (status < 500 and status not in RETRIED):
        response.headers["x-should-retry"] = "false"
    return response


def broken_response(scope: Mapping[str, Any]) -> WireResponse:
    """To a request that something unforeseen happened to."""
    return error_response(500, f"Something broke here; the log names it by {scope[REQUEST_ID]}.", code="internal")


def install_handlers(app: FastAPI) -> None:
    """Every error that leaves the application has the same shape."""

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> WireResponse:
        return broken_response(request.scope)

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> WireResponse:
        return error_response(error.status, error.message, param=error.param, code=error.code, headers=error.headers)

    @app.exception_handler(UserError)
    async def _user_error(request: Request, error: UserError) -> WireResponse:
        code = "endpoint_unusable" if isinstance(error, EndpointError) else "invalid_value"
        return error_response(400, f"{error.cause} {error.remedy}", code=code)

    @app.exception_handler(ArtifactsError)
    async def _artifacts_error(request: Request, error: ArtifactsError) -> WireResponse:
        return error_response(503, f"{error.cause} {error.remedy}", code="artifacts_unavailable")

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> WireResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return error_response(400, f"{param or 'the body'}: {first['msg']}.", param=param, code="invalid_value")

    @app.exception_handler(BodyError)
    async def _body_error(request: Request, error: BodyError) -> WireResponse:
        return error_response(400, f"{error.detail}.", param=error.param, code="invalid_json")

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> WireResponse:
        if error.status_code == 404:
            message = f"Unknown request URL: {request.method} {request.url.path}."
            return error_response(404, message, code="unknown_url")
        if error.status_code == 413:
            return error_response(413, f"{error.detail}.", code="too_large")
        return error_response(error.status_code, f"{error.detail}.", headers=error.headers)
