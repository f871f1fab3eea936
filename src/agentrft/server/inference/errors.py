"""Errors in OpenAI's shape, and what pydantic and the engine report, as such errors."""

import re
from typing import Any

from pydantic import ValidationError

from agentrft.engine import EngineFailure

_FIELD = re.compile(r"[a-z_]+")
# What pydantic puts into an error's path to say which type of a union it tried.
_TYPE_NAMES = {"str", "int", "float", "bool", "dict"}
# No second attempt helps: the same weights and the same request fail again.
_LASTING = {"context"}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        param: the request's field that is at fault.
        retry: whether the same request may succeed later; else clients are told not to try.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = {} if retry else {"x-should-retry": "false"}

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class FieldFault(ValueError):
    """Raised while a request is validated, with where in the validated part the fault lies, such as `[0].type`."""

    def __init__(self, message: str, at: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.at = at
        self.code = code


def invalid(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """400, for a field's value."""
    return ApiError(400, message, code=code, param=param)


def from_validation(error: ValidationError) -> ApiError:
    """400, for one fault: the one that lies deepest, which in a union is of the type that was meant."""
    found = max(error.errors(include_url=False), key=_weight)
    param, message = _path(found["loc"]), found["msg"]
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, FieldFault):
        param, message = (param + cause.at).removeprefix("."), str(cause)
        if cause.code == "unsupported_parameter":
            return invalid(f"Unsupported parameter '{param}': {message}.", param, cause.code)
    if found["type"] == "extra_forbidden":
        return invalid(f"Unknown or unsupported parameter: '{param}'.", param, "unknown_parameter")
    if found["type"] == "missing":
        return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    return invalid(f"Invalid value for '{param}': {message}" if param else message, param or None)


def from_engine(failure: EngineFailure) -> ApiError:
    """503 where the engine had no time or place, 500 where it failed."""
    if failure.kind in ("timeout", "stopped", "unreachable"):
        return ApiError(503, str(failure), code="engine_unavailable", retry=True)
    return ApiError(500, str(failure), code="engine_failed", retry=failure.kind not in _LASTING)


def _weight(fault: Any) -> tuple[bool, int]:
    """A wrong `type` comes first: it explains all other faults of the same object."""
    where = fault["loc"]
    return bool(where) and where[-1] == "type", len(where)


def _path(parts: tuple[int | str, ...]) -> str:
    text = ""
    for place, part in enumerate(parts):
        if isinstance(part, int):
            text += f"[{part}]"
        # The last part is kept whatever it is: an unknown field may have any name.
        elif (_FIELD.fullmatch(part) and part not in _TYPE_NAMES) or (place == len(parts) - 1 and place == 0):
            text += f".{part}"
    return text.removeprefix(".")
